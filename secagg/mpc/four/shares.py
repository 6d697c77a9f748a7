"""A secret array among four parties: x = x_0 + x_1 + x_2 + x_3, of which P_i holds all but x_i [DEK21, section 2]."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Self

import numpy as np

from secagg.errors import ShapeError, UsageError
from secagg.mpc.four.broadcast import PARTIES
from secagg.mpc.groups import Array, Group
from secagg.mpc.numbers import RingGroup


class FourShares:
    """What one party holds of a secret array: three of its four shares.

    Nothing opens it implicitly: `bool`, `float`, `int`, `iter` and conversion to numpy raise, `repr` shows the shape
    only.

    Args:
      group: that the secret lives in.
      parts: x_j by j, of one shape and the group's dtype.
    """

    __slots__ = ("group", "parts")
    __array_ufunc__ = None  # numpy operators defer to ours instead of treating a secret as an object

    def __init__(self, group: Group, parts: Mapping[int, Array]) -> None:
        if len(parts) != PARTIES - 1 or not set(parts) <= set(range(PARTIES)):
            raise UsageError(f"expected three of the shares 0 to 3, got shares {sorted(parts)}")
        if len({part.shape for part in parts.values()}) > 1 or {part.dtype for part in parts.values()} != {
            group.dtype
        }:
            kinds = ", ".join(f"{part.shape} of {part.dtype}" for part in parts.values())
            raise ShapeError(f"expected three shares of one shape and {group.dtype}, got {kinds}")
        self.group = group
        self.parts = dict(parts)

    @property
    def shape(self) -> tuple[int, ...]:
        return next(iter(self.parts.values())).shape

    @property
    def size(self) -> int:
        return next(iter(self.parts.values())).size

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.shape}>"

    def __add__(self, other: FourShares) -> Self:
        return self._with(other, self.group.add)

    def __sub__(self, other: FourShares) -> Self:
        return self._with(other, self.group.subtract)

    def __getitem__(self, key: Any) -> Self:
        return self.each(lambda part: part[key])

    def reshape(self, *shape: int) -> Self:
        return self.each(lambda part: part.reshape(shape))

    def each(self, linear: Callable[[Array], Array]) -> Self:
        """Return a linear function of the secret, as the shares of it: what it does to one share it does to all."""
        return type(self)(self.group, {j: np.asarray(linear(part)) for j, part in self.parts.items()})

    def check_same(self, other: FourShares) -> None:
        """Refuse another secret that lives in another group or is held by another party."""
        if not same_group(self.group, other.group) or self.parts.keys() != other.parts.keys():
            raise UsageError(
                f"{self!r} and {other!r} live in different groups or engines; convert one of them"
            )

    def _with(self, other: FourShares, operation: Callable[[Array, Array], Array]) -> Self:
        self.check_same(other)
        if self.shape != other.shape:
            raise ShapeError(f"expected two arrays of one shape, got {self.shape} and {other.shape}")
        return type(self)(self.group, {j: operation(part, other.parts[j]) for j, part in self.parts.items()})

    def _refuse(self, *_args: Any, **_options: Any) -> NoReturn:
        raise UsageError(
            f"{self!r} is secret and does not turn into a plain value; open it with the engine's `open`"
        )

    __bool__ = __int__ = __float__ = __index__ = __iter__ = __array__ = _refuse


def canonical(group: Group, share: Array) -> Array:
    """Return a share as a fresh array of elements of the group, whatever bits above the ring's were sent."""
    return group.add(share, np.zeros_like(share))


def same_group(a: Group, b: Group) -> bool:
    """Return whether two groups are one: bits, or rings of as many bits."""
    if isinstance(a, RingGroup) and isinstance(b, RingGroup):
        return a.ring == b.ring
    return a is b
