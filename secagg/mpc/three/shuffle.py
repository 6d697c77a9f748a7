"""Oblivious shuffle by three hops [LWZ11], on the shares of [MR18].

In hop j, P_j and P_{j+1} draw a permutation pi from their common stream k_{j+1}, permute the rows between
them and hand fresh shares to all:

  P_j      sends z  = pi(x_j + x_{j+1}) - y_j        y_j     from k_j      (held with P_{j-1})
  P_{j+1}  sends z' = pi(x_{j+2}) - y_{j+2}          y_{j+2} from k_{j+2}  (held with P_{j+2})
  both     y_{j+1} = z + z'

Each party misses one of the three permutations, so their composition is uniform to it. It sees only values
masked by the stream it does not hold.

Learns: nobody anything. Cost: 3 rounds, 2 s bytes a party for s bytes of shared array.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RemoteProtocolError, ShapeError
from secagg.mpc.groups import Array, Group, checked
from secagg.mpc.three.channel import Channel, Held
from secagg.mpc.three.streams import Purpose
from secagg.party import PartyId
from secagg.wire import Message

SHUFFLE_ROUNDS: Final = 3
_ROWS: Final = 1 << 18  # permuted at a time: what is between input and output takes little memory


class Permuted(Message, frozen=True):
    """Rows of each array, permuted and masked, between the two parties that know the permutation."""

    rows: tuple[np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]], ...]


async def shuffle(channel: Channel, arrays: Sequence[tuple[Group, Held]]) -> list[Held]:
    """Return the rows of arrays in an order that nobody knows, the same for all, separately in each bucket.

    Args:
      arrays: each one's group and shares, shape (buckets, rows, ...); bucket b of a result holds the rows of bucket b.

    Raises:
      ShapeError: no arrays, fewer than two dimensions, or arrays of different buckets or rows.
      RemoteProtocolError: a peer sent rows of another shape.
    """
    shapes = [held[0].shape for _, held in arrays]
    if len({shape[:2] for shape in shapes}) != 1 or min(map(len, shapes)) < 2:
        raise ShapeError(f"expected arrays of shape (buckets, rows, ...), got {shapes}")
    buckets, rows = shapes[0][:2]
    groups = [group for group, _ in arrays]
    now = [held for _, held in arrays]
    for j in range(3):
        role = (channel.index - j) % 3
        if role == 2:
            # y_{j+2} comes from k_i and y_j from k_{i+1}, where i = j + 2
            own, following = channel.k_own[Purpose.SHUFFLE], channel.k_next[Purpose.SHUFFLE]
            now.clear()
            now += [
                (group.draw(own, shape), group.draw(following, shape))
                for group, shape in zip(groups, shapes, strict=True)
            ]
            await channel.idle()
            continue
        pair, single = (channel.k_next, channel.k_own) if role == 0 else (channel.k_own, channel.k_next)
        partner = channel.next if role == 0 else channel.previous
        order = pair[Purpose.SHUFFLE_ORDER].permutations(buckets, rows)
        masks, mine = [], []
        for group in groups:
            # An array is let go before the next one is moved: tables may fill half of the memory.
            known = now.pop(0) if role == 0 else now.pop(0)[1:]
            masks.append(group.draw(single[Purpose.SHUFFLE], known[0].shape))
            mine.append(_moved(group, known, order, masks[-1]))
            del known
        del order
        theirs = await _exchanged(channel, mine, partner)
        for group, x, y in zip(groups, mine, theirs, strict=True):  # what was sent has left
            _add_into(group, x, y)
        held = list(zip(masks, mine, strict=True))
        now += held if role == 0 else [(b, a) for a, b in held]
        del theirs, held, masks, mine
    return now


def _moved(group: Group, known: Sequence[Array], order: NDArray[np.int64], mask: Array) -> Array:
    """Return the sum of one or two shares, its rows in another order in each bucket, less a mask."""
    (buckets, n), row = mask.shape[:2], mask.shape[2:]
    out = np.empty((buckets * n, *row), group.dtype)
    masks = mask.reshape(out.shape)
    step = max(1, _ROWS // max(1, n))  # small buckets are moved together
    for b in range(0, buckets, step):
        cut = slice(b, b + step)
        rows = np.ascontiguousarray(
            known[0][cut] if len(known) == 1 else group.add(known[0][cut], known[1][cut])
        )
        count = len(rows)
        rows = rows.reshape(count * n, *row)
        places = order[b] if count == 1 else (order[cut] + np.arange(count)[:, None] * n).reshape(-1)
        for start in range(0, len(rows), _ROWS):
            here = slice(b * n + start, b * n + min(start + _ROWS, len(rows)))
            taken = rows.take(places[start : start + _ROWS], axis=0)
            out[here] = group.subtract(taken, masks[here])
    return out.reshape(mask.shape)


def _add_into(group: Group, x: Array, y: Array) -> None:
    """Add y to x in place."""
    into, more = x.reshape(-1), y.reshape(-1)  # views: both came from one piece of memory
    for start in range(0, into.size, _ROWS):
        here = slice(start, start + _ROWS)
        into[here] = group.add(into[here], more[here])


async def _exchanged(channel: Channel, mine: Sequence[Array], partner: PartyId) -> list[Array]:
    """Send permuted rows to the other one who knows the permutation, and return what it sent."""
    channel.party.send(partner, Permuted(tuple(mine)))
    message = await channel.party.receive(Permuted, partner, max_bytes=sum(rows.nbytes for rows in mine))
    if len(message.rows) != len(mine):
        raise RemoteProtocolError(
            f"expected permuted rows of {len(mine)} arrays from {partner}, got {len(message.rows)}",
            peer=partner,
        )
    return [
        checked(theirs, own.shape, own.dtype, what="permuted rows", peer=partner)
        for theirs, own in zip(message.rows, mine, strict=True)
    ]
