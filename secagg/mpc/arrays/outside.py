"""What parties do that do not compute: share inputs with those that do, and receive what these open to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from secagg.mpc.arrays.dtypes import BoolType, as_dtype, decode_opened, encode, int64, unmasked
from secagg.mpc.arrays.engine import as_shape
from secagg.mpc.arrays.handle import Public
from secagg.mpc.arrays.lanes import words_of
from secagg.mpc.engines import receive_opening, share_input
from secagg.mpc.terms import terms_of_array
from secagg.party import Party, PartyId


async def share_with(
    party: Party, computing: Sequence[PartyId], values: Public, *, dtype: Any = int64
) -> None:
    """Share an input with the computing parties, each of which calls `engine.share(None, owner=party.me, ...)`.

    Several inputs arrive in the order in which both sides share them.

    Args:
      values: numbers or bools.
      dtype: the same as at the computing parties, which compare it and the shape with theirs.

    Raises:
      UsageError: no such computing parties, or real numbers for integers.
      RangeError: numbers that do not fit.
    """
    kind, array = as_dtype(dtype), unmasked(values)
    name = terms_of_array(array.shape, kind, computing)
    lane = party.next_lane(party.me)
    share = share_input(party, computing, kind.group, encode(array, kind), name=name)
    await party.parallel(share, lanes=[lane])


async def receive(
    party: Party, computing: Sequence[PartyId], shape: int | Sequence[int], *, dtype: Any = int64
) -> Any:
    """Return what the computing parties open to this party, which does not compute.

    Args:
      shape, dtype: of the array that they open.

    Raises:
      RemoteProtocolError: they open an array of another shape or dtype, or name other computing parties.
      CheatingError: one of four computing parties lied.
    """
    kind, wanted = as_dtype(dtype), as_shape(shape)
    size = 1
    for n in wanted:
        size *= n
    stored = (words_of(size),) if isinstance(kind, BoolType) else wanted
    name = terms_of_array(wanted, kind, computing)
    return decode_opened(await receive_opening(party, computing, kind.group, stored, name=name), kind, wanted)
