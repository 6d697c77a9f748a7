"""Which identifiers are in common: each recipient learns which of its own are, by Diffie-Hellman [Mea86, HFH99].

  exchange   each side sends its list under its own scalar, in random order
  return     each side sends a recipient's list back under both scalars, in the order in which it came

A recipient compares its own list with the other's, both under both scalars. Cost: see `cost`, which is exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from secagg.cost.operation import Cost
from secagg.party import Party
from secagg.protocols.intersection.curve import POINT_BYTES
from secagg.protocols.intersection.sides import Doubled, OwnList, Sides, exchange, matches, returned


async def find_common(party: Party, sides: Sides, identifiers: Sequence[bytes]) -> NDArray[np.bool_] | None:
    """Return at a recipient which of its identifiers the other side has too, None elsewhere.

    Args:
      identifiers: this party's, in UTF-8, all different.

    Raises:
      UsageError: identifiers that do not fit what was announced.
      RemoteProtocolError: the other side sent what the protocol forbids.
    """
    peer = sides.other(party.me)
    with party.phase("exchange"):
        own = OwnList(party, sides, identifiers)
        theirs = await exchange(party, sides, own)
    with party.phase("return"):
        if peer in sides.recipients:
            party.send(peer, Doubled(theirs))
        if party.me not in sides.recipients:
            return None
        common = matches(await returned(party, sides), theirs)
    found = np.zeros(len(common), np.bool_)
    found[own.order] = common
    return found[: len(identifiers)]


def cost(sides: Sides) -> Cost:
    """Return what `find_common`, and `count_common`, costs."""
    sent = {
        name: POINT_BYTES
        * (length + sides.lengths[sides.other(name)] * (sides.other(name) in sides.recipients))
        for name, length in sides.lengths.items()
    }
    return Cost(2, sent)
