"""How many identifiers are in common: as in `matches`, but lists come back shuffled, so that nobody learns which.

Cost: that of `matches`.
"""

from __future__ import annotations

from collections.abc import Sequence

from secagg.party import Party
from secagg.protocols.intersection.sides import (
    Doubled,
    OwnList,
    Sides,
    exchange,
    matches,
    returned,
    shuffled,
)


async def count_common(party: Party, sides: Sides, identifiers: Sequence[bytes]) -> int | None:
    """Return at a recipient how many identifiers both sides have, None elsewhere.

    Args and errors: as `find_common`.
    """
    peer = sides.other(party.me)
    with party.phase("exchange"):
        theirs = await exchange(party, sides, OwnList(party, sides, identifiers))
    with party.phase("return"):
        if peer in sides.recipients:
            party.send(peer, Doubled(shuffled(party, theirs)))
        if party.me not in sides.recipients:
            return None
        return int(matches(await returned(party, sides), theirs).sum())
