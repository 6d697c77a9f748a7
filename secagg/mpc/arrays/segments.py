"""Rows moved by bits in secret, and sums that wrap: what operators on runs of equal keys are made of.

`partition` puts rows in the order of one or two bits, stably. `shuffled` puts rows in an order that nobody knows. `placed`
moves rows to ranks in secret. Each moves all its columns at once, and bits of a row travel in one word.

`running` and `differences` undo each other. They and `minus` are linear, free, and exact modulo 2**bits: `running` sums
what comes up to each element, and of bits it takes the XOR. So the difference of two running sums is right even where these
wrapped.

Who learns what: nobody anything. `partition` and `placed` open a permutation in the order of a shuffle, as a sort does
(docs/soundness.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import numpy as np

from secagg.cost.operation import Cost
from secagg.errors import ShapeError, UsageError
from secagg.mpc.arrays.dtypes import BoolType, IntegerType
from secagg.mpc.arrays.graph import Call, Kernel, Local, Node
from secagg.mpc.arrays.handle import H
from secagg.mpc.arrays.kernels import each
from secagg.mpc.arrays.lanes import LANES, pack, unpack, words_of
from secagg.mpc.arrays.local import ITEM
from secagg.mpc.arrays.rows import as_columns, as_rows, row_bytes
from secagg.mpc.groups import XOR, Array, Group
from secagg.mpc.primitives import Costs, Primitives, Shares, concatenate
from secagg.mpc.sorting import permutations, radix


def _nothing(costs: Costs) -> Cost:
    return Cost(0, dict.fromkeys(costs.conjunction(1).payload_bytes, 0))


# Partition. Parameters: how many bits there are, before the columns.


async def _partition(engine: Primitives, node: Node, *values: Shares) -> list[Shares]:
    (digits,) = node.params
    n, nodes = node.shape[0], node.inputs[digits:]
    if n < 2:
        return [value.copy() for value in values[digits:]]
    words = words_of(n)
    bits = concatenate([value.reshape(1, words) for value in values[:digits]])
    ranks = await radix.digit_ranks(engine, bits, n)
    return as_columns(await permutations.place(ranks, *as_rows(values[digits:], nodes)), nodes, node.shape)


def _partition_cost(costs: Costs, node: Node) -> Cost:
    (digits,) = node.params
    n = node.shape[0]
    if n < 2:
        return _nothing(costs)
    moved = permutations.place_cost(costs, radix.rank_bytes(n), *row_bytes(node.inputs[digits:]))
    return radix.digit_cost(costs, words_of(n), n, digits).then(moved)


async def _rehearsed_partition(engine: Primitives, node: Node) -> None:
    (digits,) = node.params
    if (n := min(node.shape[0], LANES)) >= 2:
        bits = engine.public(XOR, np.zeros((digits, 1), np.uint64))
        ranks = await radix.digit_ranks(engine, bits, n)
        await permutations.place(ranks, *_few_rows(engine, node.inputs[digits:], n))


def _few_rows(engine: Primitives, nodes: Sequence[Node], n: int) -> list[Shares]:
    """Return zeros in the groups that the rows of nodes are of."""
    groups: list[Group] = [node.dtype.group for node in nodes if not isinstance(node.dtype, BoolType)]
    groups += [XOR] * -(-(len(nodes) - len(groups)) // LANES)
    return [engine.public(group, np.zeros(n, group.dtype)) for group in groups]


PARTITION: Final = Kernel(
    "partition", each(_partition), expected=_partition_cost, rehearsed=_rehearsed_partition
)


def partition(bits: Sequence[H], columns: Sequence[H]) -> list[H]:
    """Return columns with their rows in the order of a digit of one or two bits; rows of one digit keep their order.

    Args:
      bits: the lower one first.
      columns: of one dimension and one length.
    """
    if not 1 <= len(bits) <= radix.DIGIT or any(not isinstance(bit.dtype, BoolType) for bit in bits):
        raise UsageError(f"expected one or two arrays of bools to partition by, got {list(bits)!r}")
    return _moved(PARTITION, [*bits, *columns], len(bits), (len(bits),))


# Places. The first input is the ranks.


async def _place(engine: Primitives, node: Node, ranks: Shares, *values: Shares) -> list[Shares]:  # noqa: ARG001
    nodes = node.inputs[1:]
    return as_columns(await permutations.place(ranks, *as_rows(values, nodes)), nodes, node.shape)


def _place_cost(costs: Costs, node: Node) -> Cost:
    if node.shape[0] < 2:
        return _nothing(costs)
    return permutations.place_cost(costs, *row_bytes(node.inputs[:1]), *row_bytes(node.inputs[1:]))


async def _rehearsed_place(engine: Primitives, node: Node) -> None:
    ranks, *columns = node.inputs
    n = min(ranks.shape[0], LANES)
    order = engine.public(ranks.dtype.group, np.arange(n, dtype=ranks.dtype.group.dtype))
    await permutations.place(order, *_few_rows(engine, columns, n))


PLACE_ROWS: Final = Kernel("place rows", each(_place), expected=_place_cost, rehearsed=_rehearsed_place)


def placed(ranks: H, columns: Sequence[H]) -> list[H]:
    """Return columns whose row i has gone to ranks[i]; see `ordering.reorder` for what is no permutation."""
    if not isinstance(ranks.dtype, IntegerType):
        raise UsageError(f"expected ranks of integers, got {ranks!r}")
    return _moved(PLACE_ROWS, [ranks, *columns], 1)


# Shuffles.


async def _shuffle(engine: Primitives, node: Node, *values: Shares) -> list[Shares]:
    if node.shape[0] < 2:
        return [value.copy() for value in values]
    return as_columns(
        await permutations.shuffle_rows(engine, as_rows(values, node.inputs)), node.inputs, node.shape
    )


SHUFFLE: Final = Kernel("shuffle", each(_shuffle))


def shuffled(columns: Sequence[H]) -> list[H]:
    """Return columns with their rows in an order that nobody knows, the same for all."""
    return _moved(SHUFFLE, columns, 0)


def _moved(kernel: Kernel, inputs: Sequence[H], before: int, params: tuple[int, ...] = ()) -> list[H]:
    """Return what a kernel makes of the columns behind its first inputs."""
    first, columns = inputs[0], inputs[before:]
    if any(x.ndim != 1 or x.shape != first.shape for x in inputs):
        raise ShapeError(f"expected columns (rows,) of one length, got {[x.shape for x in inputs]}")
    if not columns:
        return []
    node = first.derive(kernel, *inputs[1:], shape=first.shape, dtype=columns[0].dtype, params=params)
    return [node.derive(ITEM, shape=c.shape, dtype=c.dtype, params=(i,)) for i, c in enumerate(columns)]


# Running sums.


def _wrapping(name: str, of_numbers: Callable[[Array], Array], of_bits: Callable[[Array], Array]) -> Local:
    """Return a kernel along one dimension that wraps by design, so debug mode does not look for overflows in it."""

    def run(engine: Primitives, call: Call) -> Shares:
        node, (value,) = call
        if isinstance(node.dtype, BoolType):
            parts = [pack(of_bits(unpack(part, node.shape[0]))) for part in value.parts]
        else:
            parts = [node.dtype.ring.reduce(of_numbers(part)) for part in value.parts]
        return Shares(engine, node.dtype.group, parts)

    return Local(name, run)


def _running(join: np.ufunc, values: Array) -> Array:
    return np.asarray(join.accumulate(values, dtype=values.dtype))


def _differences(join: np.ufunc, values: Array) -> Array:
    out = values.copy()
    join(values[1:], values[:-1], out=out[1:])
    return out


RUNNING: Final = _wrapping("running sum", partial(_running, np.add), partial(_running, np.bitwise_xor))
DIFFERENCES: Final = _wrapping(
    "differences", partial(_differences, np.subtract), partial(_differences, np.bitwise_xor)
)


def running(x: H) -> H:
    """Return the sums of all elements up to each, modulo 2**bits; of bools, the XOR. Free."""
    return x.derive(RUNNING, shape=x.shape, dtype=x.dtype)


def differences(x: H) -> H:
    """Return each element minus the one before it, modulo 2**bits, and the first as it is; of bools, the XOR. Free."""
    return x.derive(DIFFERENCES, shape=x.shape, dtype=x.dtype)


def _minus(engine: Primitives, call: Call) -> Shares:
    x, y = call.values
    return Shares(engine, x.group, [x.group.subtract(a, b) for a, b in zip(x.parts, y.parts, strict=True)])


MINUS: Final = Local("minus", _minus)


def minus(x: H, y: H) -> H:
    """Return x - y of one shape and dtype, modulo 2**bits. Free."""
    return x.derive(MINUS, y, shape=x.shape, dtype=x.dtype)
