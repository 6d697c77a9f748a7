"""What each of four parties tells all others, made the same at all honest ones by an echo.

1. Everybody tells everybody a statement.
2. Everybody repeats to everybody what the three others told it.

A party takes as said by P_j what two of the three others of P_j heard. One of four parties may lie.

*An honest P_j*: two of the three are honest, so its statement is taken. *A liar P_j*: the three others are honest, so all
see the same three tellings. They take the same, or see at once that no two agree [LSP82, one liar of four].

Threat model: that of `engine`. Learns: everybody what is said, as its sender means it to.
Cost: 2 rounds; no payload, for statements travel in message headers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from secagg.errors import RemoteProtocolError
from secagg.party import Party, PartyId
from secagg.wire import Message

PARTIES = 4


class Statement(Message, frozen=True):
    """Round 1: what a party says to all others."""

    value: bytes


class Echo(Message, frozen=True):
    """Round 2: what the three others of the sender told it, in their order."""

    heard: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was said, as all honest parties take it.

    Attributes:
      values: by party; None where a party told each of the others something else.
      dissent: empty where all tellings agree. Otherwise (j, x): P_x says that P_j told it something else than the others
        heard, so one of the two lied; or (j,) where no two tellings of P_j agree.
    """

    values: tuple[bytes | None, ...]
    dissent: tuple[int, ...]


async def tell(party: Party, computing: Sequence[PartyId], value: bytes) -> list[bytes]:
    """Tell all others a value and return what each party said to this one, this one's own value included.

    All values of a broadcast are equally long. What is not stands as b"" from here on, so that an echo cannot be made long.
    """
    others = [peer for peer in computing if peer != party.me]
    for peer in others:
        party.send(peer, Statement(value))
    messages = await party.gather(Statement, others)
    said = [value if name == party.me else messages[name].value for name in computing]
    return [statement if len(statement) == len(value) else b"" for statement in said]


def without(values: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return what an echo of P_index holds of the values that it heard."""
    return tuple(value for i, value in enumerate(values) if i != index)


async def echo(party: Party, computing: Sequence[PartyId], heard: Sequence[bytes]) -> Agreement:
    """Repeat to all others what this party heard, and return what was said."""
    me = list(computing).index(party.me)
    others = [peer for peer in computing if peer != party.me]
    for peer in others:
        party.send(peer, Echo(without(heard, me)))
    messages = await party.gather(Echo, others)
    return weigh(me, computing, heard, {peer: messages[peer].heard for peer in others})


def weigh(
    me: int,
    computing: Sequence[PartyId],
    heard: Sequence[bytes],
    echoes: dict[PartyId, tuple[bytes, ...]],
) -> Agreement:
    """Return what was said.

    Args:
      heard: by party, what it told this one; at `me` this party's own statement.
      echoes: of each other party, what it repeats.

    Raises:
      RemoteProtocolError: an echo that does not hold three statements.
    """
    for peer, repeated in echoes.items():
        if len(repeated) != PARTIES - 1:
            raise RemoteProtocolError(
                f"expected an echo of {PARTIES - 1} statements from {peer}, got {len(repeated)}", peer=peer
            )
    values: list[bytes | None] = []
    dissent: tuple[int, ...] = ()
    for j in range(PARTIES):
        tellings = {
            x: heard[j] if x == me else echoes[computing[x]][j - (j > x)] for x in range(PARTIES) if x != j
        }
        if j == me:
            taken: bytes | None = heard[me]
        else:
            told = list(tellings.values())
            taken = next((value for value in told if told.count(value) > 1), None)
        values.append(taken)
        if taken is None:
            dissent = dissent or (j,)
        else:
            dissent = dissent or next(((j, x) for x, value in tellings.items() if value != taken), ())
    return Agreement(tuple(values), dissent)
