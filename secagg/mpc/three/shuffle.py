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

from typing import Any, TypeVar

import numpy as np

from secagg.errors import ShapeError
from secagg.mpc.groups import Group, checked
from secagg.mpc.shared import Shared
from secagg.mpc.three.streams import Purpose
from secagg.wire import Message

S = TypeVar("S", bound=Shared)


class Permuted(Message, frozen=True):
    """Rows permuted and masked, between the two parties that know the permutation."""

    rows: np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]


async def shuffle(x: S, group: Group) -> S:
    """Return the rows of `x` in an order that nobody knows, separately in each bucket.

    Args:
      x: shape (buckets, rows, ...); bucket b of the result holds the rows of bucket b of `x`.
      group: the group that x lives in.

    Raises:
      ShapeError: fewer than two dimensions.
      RemoteProtocolError: a peer sent rows of another shape.
    """
    if len(x.shape) < 2:
        raise ShapeError(f"expected shares of shape (buckets, rows, ...), got {x.shape}")
    engine = x.engine
    share_0, share_1 = x.share_0, x.share_1
    for j in range(3):
        role = (engine.index - j) % 3
        if role == 2:
            # y_{j+2} comes from k_i and y_j from k_{i+1}, where i = j + 2
            share_0 = group.draw(engine.k_own[Purpose.SHUFFLE], x.shape)
            share_1 = group.draw(engine.k_next[Purpose.SHUFFLE], x.shape)
            await engine.idle()
            continue
        pair, single = (engine.k_next, engine.k_own) if role == 0 else (engine.k_own, engine.k_next)
        partner = engine.next if role == 0 else engine.previous
        order = pair[Purpose.SHUFFLE_ORDER].permutations(x.shape[0], x.shape[1])
        mask = group.draw(single[Purpose.SHUFFLE], x.shape)
        mine = np.empty(x.shape, group.dtype)
        for b in range(x.shape[0]):
            rows = group.add(share_0[b], share_1[b]) if role == 0 else share_1[b]
            mine[b] = group.subtract(rows.take(order[b], axis=0), mask[b])
        engine.party.send(partner, Permuted(mine))
        theirs = checked(
            (await engine.party.receive(Permuted, partner, max_bytes=mine.nbytes)).rows,
            x.shape,
            mine.dtype,
            what="permuted rows",
            peer=partner,
        )
        common = group.add(mine, theirs)
        share_0, share_1 = (mask, common) if role == 0 else (common, mask)
    return x._like(share_0, share_1)


def shuffle_payload_bytes(nbytes: int) -> int:
    """Return what each party sends for a shared array of `nbytes`."""
    return 2 * nbytes


SHUFFLE_ROUNDS = 3
