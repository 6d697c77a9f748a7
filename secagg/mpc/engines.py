"""Which engine a program gets: the three-party one or the four-party one, by how many parties compute.

Parties outside that share inputs and receive openings find their part here as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from secagg.errors import UsageError
from secagg.mpc.four import inputs as four_inputs
from secagg.mpc.four import opening as four_opening
from secagg.mpc.four.engine import FourEngine
from secagg.mpc.four.keys import Contribution
from secagg.mpc.groups import Array, Group
from secagg.mpc.primitives import Costs, Primitives
from secagg.mpc.three import inputs as three_inputs
from secagg.mpc.three import opening as three_opening
from secagg.mpc.three.channel import PairSecret
from secagg.mpc.three.costs import COSTS
from secagg.mpc.three.engine import ThreeEngine
from secagg.party import Party, PartyId
from secagg.wire import Message

COMPUTING: Final = (3, 4)  # how many parties may compute

# Kinds of messages that a party first waits for in set-up, in an input from outside, and in an opening; see `Party.gather`.
SET_UP_KINDS: Final[tuple[type[Message], ...]] = (PairSecret, Contribution)
INPUT_KINDS: Final[tuple[type[Message], ...]] = (three_inputs.InputFromOutside, four_inputs.OutsideShares)
OPENING_KINDS: Final[tuple[type[Message], ...]] = (three_opening.Opening, four_opening.OutsideOpening)


async def set_up(party: Party, computing: Sequence[PartyId], *, label: str = "") -> Primitives:
    """Agree on keys and return an engine, at a computing party.

    Args:
      computing: three parties, which follow the protocol, or four, of which one may lie; in the same order at all parties.
      label: tells apart the engines of one session; the same at all parties.

    Raises:
      UsageError: another number of parties, parties that are not distinct, or this party is not among them.
      RemoteProtocolError: a peer sent what the protocol forbids.
    """
    check_number(computing)
    kind: type[ThreeEngine | FourEngine] = ThreeEngine if len(computing) == 3 else FourEngine
    return await kind.set_up(party, computing, label=label)


def costs_of(computing: Sequence[PartyId]) -> Costs:
    """Return what the operations of these parties' engine cost; raises UsageError as `set_up`."""
    check_number(computing)
    return COSTS if len(computing) == 3 else FourEngine.costs


async def share_input(
    party: Party, computing: Sequence[PartyId], group: Group, value: Array, *, name: bytes = b""
) -> None:
    """Share an input with the computing parties, as a party that is not one of them.

    Sends `share_input_bytes` of arrays.

    Args:
      name: what the computing parties call it too; see `terms`.

    Raises:
      UsageError: not three or four distinct parties of the roster.
    """
    check_number(computing)
    share = three_inputs.share_input if len(computing) == 3 else four_inputs.share_input
    await share(party, computing, group, value, name=name)


def share_input_bytes(computing: Sequence[PartyId], nbytes: int) -> int:
    """Return how many bytes of arrays a party outside sends for an input: all but one get the share that is not drawn."""
    return (costs_of(computing).computing - 1) * nbytes


async def receive_opening(
    party: Party, computing: Sequence[PartyId], group: Group, shape: tuple[int, ...], *, name: bytes = b""
) -> Array:
    """Return a value that the computing parties open to this party, which is not one of them.

    Args:
      name: what they call it too; see `terms`.

    Raises:
      UsageError: not three or four distinct parties of the roster.
      RemoteProtocolError: shares of another shape or name.
      CheatingError: one of four computing parties lied.
    """
    check_number(computing)
    receive = three_opening.receive_opening if len(computing) == 3 else four_opening.receive_opening
    return await receive(party, computing, group, shape, name=name)


def check_computing(party: Party, computing: Sequence[PartyId]) -> None:
    """Refuse anything but three or four distinct parties of the roster."""
    check_number(computing)
    if not set(computing) <= set(party.roster):
        raise UsageError(f"expected computing parties of {party.roster}, got {tuple(computing)}")


def check_number(computing: Sequence[PartyId]) -> None:
    """Refuse anything but three or four distinct parties."""
    if len(set(computing)) != len(computing) or len(computing) not in COMPUTING:
        raise UsageError(f"expected three or four distinct computing parties, got {tuple(computing)}")
