"""A secret array among four parties: x = x_0 + x_1 + x_2 + x_3, of which P_i holds all but x_i [DEK21].

`primitives.Shares` of the four-party engine have three parts, in the order of the shares. Inside this package they go by
the share's index, as `Held`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np

from secagg.mpc.four.broadcast import PARTIES
from secagg.mpc.groups import Array, Group
from secagg.mpc.numbers import RingGroup
from secagg.mpc.primitives import Primitives, Shares
from secagg.prg import Stream

Held: TypeAlias = dict[int, Array]  # x_j by j: the three shares that a party holds

SHARES: Final = range(PARTIES)


def held_by(index: int) -> tuple[int, ...]:
    """Return the indices of the shares that P_index holds, in order."""
    return tuple(j for j in SHARES if j != index)


def held(index: int, x: Shares) -> Held:
    """Return what P_index holds of a secret, by index of the share."""
    return dict(zip(held_by(index), x.parts, strict=True))


def shares(engine: Primitives, group: Group, parts: Held) -> Shares:
    """Return three shares as a secret of the engine."""
    return Shares(engine, group, [parts[j] for j in sorted(parts)])


def canonical(group: Group, share: Array) -> Array:
    """Return a share as a fresh array of elements of the group, whatever bits above the ring's were sent."""
    return group.add(share, np.zeros_like(share))


def total(group: Group, parts: Sequence[Array]) -> Array:
    """Return the sum of shares."""
    value = parts[0]
    for part in parts[1:]:
        value = group.add(value, part)
    return value


def fill(group: Group, stream: Stream, out: Array) -> None:
    """Overwrite a contiguous array with uniform elements of a group."""
    stream.fill(out)
    reduce(group, out)


def reduce(group: Group, out: Array) -> None:
    """Clear, in place, the bits above those of the group's elements."""
    if isinstance(group, RingGroup):
        group.ring.reduce(out, out)
