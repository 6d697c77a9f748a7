"""What a program holds of a shared array: an engine and a node of its graph; and how operands come together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self, TypeAlias, TypeVar

import numpy as np

from secagg.errors import ShapeError, UsageError
from secagg.mpc.arrays.dtypes import (
    DEFAULT_FIXED,
    BoolType,
    DType,
    FixedType,
    IntegerType,
    Number,
    encode,
    unmasked,
)
from secagg.mpc.arrays.graph import Graph, Kernel, Local, Node, Shape
from secagg.mpc.arrays.kernels import FROM_BITS
from secagg.mpc.arrays.local import BROADCAST, SCALE
from secagg.mpc.arrays.refusals import Refuses
from secagg.mpc.groups import Array


class Maker(Protocol):
    """What a shared array knows of its engine; see `engine.Engine`."""

    graph: Graph

    def public(self, values: Any, *, dtype: Any = None) -> Any:
        """Return public values as a shared array."""
        ...

    async def open_one(self, x: Any, to: Any) -> Any:
        """Open an array."""
        ...


class Handle(Refuses):
    """A shared array without operators; see `SharedArray`."""

    __slots__ = ("engine", "node")

    def __init__(self, engine: Maker, node: Node) -> None:
        self.engine = engine
        self.node = node

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.shape} of {self.dtype}>"

    @property
    def shape(self) -> Shape:
        return self.node.shape

    @property
    def dtype(self) -> DType:
        return self.node.dtype

    @property
    def ndim(self) -> int:
        return len(self.node.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.node.shape, dtype=np.int64))

    def derive(
        self,
        kernel: Local | Kernel,
        *others: Handle,
        shape: Shape,
        dtype: DType,
        params: tuple[Any, ...] = (),
    ) -> Self:
        """Return what a kernel makes of this array and others."""
        for other in others:
            if other.engine is not self.engine:
                raise UsageError(f"{self!r} and {other!r} are of different engines")
        nodes = (self.node, *[other.node for other in others])
        return type(self)(self.engine, self.engine.graph.node(kernel, nodes, shape, dtype, params))


H = TypeVar("H", bound=Handle)

Public: TypeAlias = Any  # numbers, bools, lists and numpy arrays of them


def public_values(values: Public) -> Array:
    """Return public numbers or bools as a numpy array.

    Raises:
      UsageError: something else.
    """
    numbers = unmasked(values)
    if numbers.dtype.kind not in "iufb":
        raise UsageError(
            f"expected a shared array, or public numbers or bools of at most 64 bits, got {type(values).__name__} of "
            f"{numbers.dtype}"
        )
    return numbers


def is_shared(value: object) -> bool:
    return isinstance(value, Handle)


def is_real(values: Array) -> bool:
    return values.dtype.kind == "f"


def broadcast_shape(*shapes: Shape) -> Shape:
    """Return the shape that arrays broadcast to.

    Raises:
      ShapeError: they do not.
    """
    first = shapes[0]
    if all(shape == first for shape in shapes):
        return first
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ShapeError(f"shapes {' and '.join(map(str, shapes))} do not broadcast together") from None


def broadcast_to(x: H, shape: Shape) -> H:
    """Return the array broadcast to a shape, as numpy does."""
    if x.shape == shape:
        return x
    if broadcast_shape(x.shape, shape) != tuple(shape):
        raise ShapeError(f"shape {x.shape} does not broadcast to {shape}")
    return x.derive(BROADCAST, shape=tuple(shape), dtype=x.dtype)


def number(x: Handle) -> Number:
    """Return the dtype of an array of numbers.

    Raises:
      UsageError: it holds bools.
    """
    if isinstance(x.dtype, BoolType):
        raise UsageError(f"expected numbers, got {x!r}; convert with x.astype(mpc.int64)")
    return x.dtype


def as_numbers(x: H, bits: int = 64) -> H:
    """Return bools as integers of so many bits, and numbers as they are."""
    if not isinstance(x.dtype, BoolType):
        return x
    return x.derive(FROM_BITS, shape=x.shape, dtype=IntegerType(bits), params=(bits,))


def as_reals(x: H) -> H:
    """Return an array of numbers as fixed-point numbers: int64 and bools as fixed(16).

    Raises:
      UsageError: integers of another width.
    """
    x = as_numbers(x)
    dtype = number(x)
    if isinstance(dtype, FixedType):
        return x
    if dtype.bits != DEFAULT_FIXED.bits:
        raise UsageError(f"{x!r} meets real numbers: convert it with x.astype(mpc.fixed(frac_bits, bits))")
    return rescaled(x, DEFAULT_FIXED)


def rescaled(x: H, dtype: Number) -> H:
    """Return numbers in a dtype of the same ring with at least as many fractional bits: exact and free."""
    current = number(x)
    if current == dtype:
        return x
    factor = np.asarray(1 << dtype.frac_bits - current.frac_bits, dtype.group.dtype)
    return x.derive(SCALE, shape=x.shape, dtype=dtype, params=(factor,))


def common(x: H, y: H) -> tuple[H, H]:
    """Return two arrays of numbers in one dtype: the one with more fractional bits.

    Raises:
      UsageError: rings of different width, or two arrays of bools.
    """
    if isinstance(x.dtype, BoolType) and isinstance(y.dtype, BoolType):
        raise UsageError(
            f"{x!r} and {y!r} hold bools: join them with &, | or ^, or convert with astype(mpc.int64)"
        )
    x, y = (as_numbers(x, _bits(y)), as_numbers(y, _bits(x)))
    a, b = number(x), number(y)
    if a.bits != b.bits:
        raise UsageError(f"{x!r} and {y!r} differ in width: convert one with x.astype(...)")
    wider = a if a.frac_bits >= b.frac_bits else b
    return rescaled(x, wider), rescaled(y, wider)


def _bits(x: Handle) -> int:
    return 64 if isinstance(x.dtype, BoolType) else x.dtype.bits


def elements_of(values: Array, dtype: DType) -> Array:
    """Return public values as elements, for an operation with an array of this dtype; bools count as 0 and 1."""
    if values.dtype.kind == "b" and not isinstance(dtype, BoolType):
        values = values.astype(np.int64)
    return encode(values, dtype)


def check_axis(axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """Return axes as numbers from 0; None are all.

    Raises:
      ShapeError: no such axis, or one twice.
    """
    if axis is None:
        return tuple(range(ndim))
    axes = tuple(axis) if isinstance(axis, Sequence) else (axis,)
    if any(not -ndim <= a < ndim for a in axes):
        raise ShapeError(f"an array of {ndim} dimensions has no axis {axis}")
    normal = tuple(a % ndim for a in axes)
    if len(set(normal)) != len(normal):
        raise ShapeError(f"axis {axis} names one axis twice")
    return normal
