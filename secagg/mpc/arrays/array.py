"""`SharedArray`: a shared array with numpy's operators and methods.

Nothing but `open` opens anything, and nothing else is awaited. Operators and methods return new arrays at once: they note
what is to be computed. Numpy's functions take shared arrays as well (`dispatch`).
"""

from __future__ import annotations

import difflib
from collections.abc import Generator, Sequence
from typing import Any, NoReturn, Self

from secagg.errors import UsageError
from secagg.mpc.arrays import arithmetic, comparison, dispatch, functions, logic, moves, namespace, reductions
from secagg.mpc.arrays.handle import Handle, Public
from secagg.mpc.arrays.reductions import Axis
from secagg.party import Computation, PartyId


class Opening:
    """What `x.open()` returns: await it for the numbers."""

    __slots__ = ("_computation",)

    def __init__(self, computation: Computation[Any]) -> None:
        self._computation = computation

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._computation.__await__()

    # So that openings run side by side (`Party.parallel`).

    def send(self, value: Any) -> Any:
        return self._computation.send(value)

    def close(self) -> None:
        self._computation.close()

    def _refuse(self, *_: object) -> NoReturn:
        self._computation.close()
        raise UsageError("an opening has no value before it is awaited: write `await x.open()`")

    __bool__ = __int__ = __float__ = __complex__ = __index__ = __round__ = __array__ = _refuse
    __len__ = __iter__ = __getitem__ = __contains__ = __format__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refuse
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __matmul__ = __rmatmul__ = (
        _refuse
    )
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __neg__ = __abs__ = __invert__ = _refuse
    __array_ufunc__ = __array_function__ = _refuse
    __hash__ = object.__hash__


class SharedArray(Handle):
    """A secret array of numbers or bools, of which each computing party holds shares. Made by `Engine.share`."""

    __slots__ = ()
    __hash__ = Handle.__hash__

    def open(self, to: PartyId | Sequence[PartyId] | None = None) -> Opening:
        """Return an awaitable that opens the array to parties, and gives its values there and None elsewhere.

        Args:
          to: who learns the values; by default all computing parties. Others among them call `mpc.receive`.
        """
        return Opening(self.engine.open_one(self, to))

    @property
    def T(self) -> Self:  # noqa: N802  # numpy's name
        return moves.permute_dims(self)

    @property
    def mT(self) -> Self:  # noqa: N802  # the array API's name
        return moves.permute_dims(self, [*range(self.ndim - 2), self.ndim - 1, self.ndim - 2])

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:  # the standard's
        return namespace

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return dispatch.call_ufunc(ufunc, method, inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:  # numpy's
        return dispatch.call_function(function, args, options)

    def __getattr__(self, name: str) -> NoReturn:
        near = difflib.get_close_matches(name, [n for n in dir(type(self)) if not n.startswith("_")], 3)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise AttributeError(f"{type(self).__name__} has no {name!r}{hint}", name=name, obj=None)

    # Arithmetic.

    def __add__(self, other: Public) -> Self:
        return arithmetic.add(self, other)

    __radd__ = __add__

    def __sub__(self, other: Public) -> Self:
        return arithmetic.subtract(self, other)

    def __rsub__(self, other: Public) -> Self:
        return arithmetic.add(arithmetic.negative(self), other)

    def __mul__(self, other: Public) -> Self:
        return arithmetic.multiply(self, other)

    __rmul__ = __mul__

    def __matmul__(self, other: Public) -> Self:
        return functions.matmul(self, other)

    def __rmatmul__(self, other: Public) -> Self:
        return functions.matmul(other, self)

    def __truediv__(self, other: Public) -> Self:
        if isinstance(other, Handle):
            return dispatch.named("divide")(self, other)
        return arithmetic.divide_by_public(self, other)

    def __rtruediv__(self, other: Public) -> Self:
        return dispatch.named("divide")(other, self)

    def __floordiv__(self, other: Public) -> Self:
        return arithmetic.floor_divide(self, other)

    def __rfloordiv__(self, other: Public) -> NoReturn:
        arithmetic.refuse_shared(self, "//")

    def __mod__(self, other: Public) -> Self:
        return arithmetic.remainder(self, other)

    def __rmod__(self, other: Public) -> NoReturn:
        arithmetic.refuse_shared(self, "%")

    def __divmod__(self, other: Public) -> tuple[Self, Self]:
        return arithmetic.floor_divide(self, other), arithmetic.remainder(self, other)

    def __rdivmod__(self, other: Public) -> NoReturn:
        arithmetic.refuse_shared(self, "divmod")

    def __pow__(self, other: Public) -> Self:
        return arithmetic.power(self, other)

    def __rpow__(self, other: Public) -> NoReturn:
        arithmetic.refuse_shared(self, "**")

    def __neg__(self) -> Self:
        return arithmetic.negative(self)

    def __pos__(self) -> Self:
        return self

    def __abs__(self) -> Self:
        return arithmetic.absolute(self)

    # Comparisons and bits.

    def __lt__(self, other: Public) -> Self:
        return comparison.less(self, other)

    def __le__(self, other: Public) -> Self:
        return comparison.less_equal(self, other)

    def __gt__(self, other: Public) -> Self:
        return comparison.greater(self, other)

    def __ge__(self, other: Public) -> Self:
        return comparison.greater_equal(self, other)

    def __eq__(self, other: Public) -> Self:  # type: ignore[override]
        return comparison.equal(self, other)

    def __ne__(self, other: Public) -> Self:  # type: ignore[override]
        return comparison.not_equal(self, other)

    def __and__(self, other: Public) -> Self:
        return logic.conjunction(self, other)

    __rand__ = __and__

    def __or__(self, other: Public) -> Self:
        return logic.disjunction(self, other)

    __ror__ = __or__

    def __xor__(self, other: Public) -> Self:
        return logic.exclusive_or(self, other)

    __rxor__ = __xor__

    def __invert__(self) -> Self:
        return logic.invert(self)

    # Shape.

    def __getitem__(self, key: Any) -> Self:
        return moves.index(self, key)

    def reshape(self, *shape: int | Sequence[int]) -> Self:
        """Return the array in another shape, of which one length may be -1."""
        return moves.reshape(self, shape[0] if len(shape) == 1 else shape)  # type: ignore[arg-type]

    def ravel(self) -> Self:
        """Return the elements in C order."""
        return moves.reshape(self, -1)

    flatten = ravel

    def transpose(self, *axes: int) -> Self:
        """Return the array with its dimensions in another order; by default reversed."""
        return moves.permute_dims(self, axes or None)

    def astype(self, dtype: Any) -> Self:
        """Return the array in another dtype; see `mpc.astype`."""
        return arithmetic.astype(self, dtype)

    # Reductions.

    def sum(self, axis: Axis = None, *, keepdims: bool = False) -> Self:
        """Return the sum along axes; bools are counted."""
        return reductions.sum(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Axis = None, *, keepdims: bool = False) -> Self:
        """Return the mean along axes."""
        return reductions.mean(self, axis=axis, keepdims=keepdims)

    def var(self, axis: Axis = None, *, correction: float = 0.0, keepdims: bool = False) -> Self:
        """Return the variance along axes."""
        return reductions.var(self, axis=axis, correction=correction, keepdims=keepdims)

    def std(self, axis: Axis = None, *, correction: float = 0.0, keepdims: bool = False) -> Self:
        """Return the standard deviation along axes."""
        return dispatch.named("std")(self, axis=axis, correction=correction, keepdims=keepdims)

    def prod(self, axis: Axis = None, *, keepdims: bool = False) -> Self:
        """Return the product along axes."""
        return reductions.prod(self, axis=axis, keepdims=keepdims)

    def min(self, axis: Axis = None, *, keepdims: bool = False) -> Self:
        """Return the smallest element along axes."""
        return reductions.min(self, axis=axis, keepdims=keepdims)

    def max(self, axis: Axis = None, *, keepdims: bool = False) -> Self:
        """Return the largest element along axes."""
        return reductions.max(self, axis=axis, keepdims=keepdims)

    def argmin(self, axis: int | None = None, *, keepdims: bool = False) -> Self:
        """Return the index of the first smallest element along an axis."""
        return reductions.argmin(self, axis=axis, keepdims=keepdims)

    def argmax(self, axis: int | None = None, *, keepdims: bool = False) -> Self:
        """Return the index of the first largest element along an axis."""
        return reductions.argmax(self, axis=axis, keepdims=keepdims)

    def any(self, axis: Axis = None, *, keepdims: bool = False) -> Self:
        """Return whether any bool along axes is set."""
        return reductions.any(self, axis=axis, keepdims=keepdims)

    def all(self, axis: Axis = None, *, keepdims: bool = False) -> Self:
        """Return whether all bools along axes are set."""
        return reductions.all(self, axis=axis, keepdims=keepdims)

    def clip(self, min: Public | None = None, max: Public | None = None) -> Self:  # noqa: A002  # numpy's names
        """Return the elements moved into [min, max]."""
        return dispatch.named("clip")(self, min, max)

    def sort(self, *, axis: int = -1, descending: bool = False) -> Self:
        """Return the elements in order along an axis. The array itself stays as it is."""
        return dispatch.named("sort")(self, axis=axis, descending=descending)

    def argsort(self, *, axis: int = -1, descending: bool = False) -> Self:
        """Return the indices that put the elements in order along an axis."""
        return dispatch.named("argsort")(self, axis=axis, descending=descending)
