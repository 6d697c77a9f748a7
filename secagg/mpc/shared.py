"""What shared arrays of numbers and of bits have in common: two shares, which nothing opens implicitly."""

from __future__ import annotations

from typing import Any, NoReturn, Self

from secagg.errors import ShapeError, UsageError
from secagg.mpc.groups import Array
from secagg.mpc.three.engine import ThreeEngine


class Shared:
    """A secret array, of which this party holds two of three shares.

    Nothing opens it implicitly: `bool`, `float`, `int`, `iter` and conversion to numpy raise, `repr` shows the
    shape only.
    """

    __slots__ = ("engine", "share_0", "share_1")
    __array_ufunc__ = None  # numpy operators defer to ours instead of treating a secret as an object

    def __init__(self, engine: ThreeEngine, share_0: Array, share_1: Array) -> None:
        if share_0.shape != share_1.shape or share_0.dtype != share_1.dtype:
            raise ShapeError(
                f"the two shares differ: {share_0.shape} {share_0.dtype}, {share_1.shape} {share_1.dtype}"
            )
        self.engine = engine
        self.share_0 = share_0
        self.share_1 = share_1

    @property
    def shape(self) -> tuple[int, ...]:
        return self.share_0.shape

    @property
    def size(self) -> int:
        return self.share_0.size

    def __len__(self) -> int:
        return len(self.share_0)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.shape}>"

    def __getitem__(self, key: Any) -> Self:
        return self._like(self.share_0[key], self.share_1[key])

    def reshape(self, *shape: int) -> Self:
        return self._like(self.share_0.reshape(shape), self.share_1.reshape(shape))

    def copy(self) -> Self:
        return self._like(self.share_0.copy(), self.share_1.copy())

    def _like(self, share_0: Array, share_1: Array) -> Self:
        return type(self)(self.engine, share_0, share_1)

    def _refuse(self, *_args: Any, **_options: Any) -> NoReturn:
        raise UsageError(
            f"{self!r} is secret and does not turn into a plain value; open it with `await x.open()`"
        )

    __bool__ = __int__ = __float__ = __index__ = __iter__ = __array__ = _refuse
