"""Debug mode: the plaintext twin of an operation runs beside the shares, on what its inputs open to.

A sort, which gives several arrays, has no twin, and neither has what is taken out of its results.

Every value is opened to all computing parties. So this is for the simulator and made-up data, and `Engine.create` refuses
it elsewhere. Of each operation two things are looked at: whether the exact integers fit the ring, and whether the value is
what the engine in the clear gives, up to the operation's error bound. The first that fails ends the run with its line.
"""

from __future__ import annotations

import math

import numpy as np

from secagg.errors import UsageError
from secagg.mpc.arrays.dtypes import BoolType
from secagg.mpc.arrays.graph import Call, Kernel, Node
from secagg.mpc.arrays.lanes import cleared, pack, unpack
from secagg.mpc.clear import ClearEngine
from secagg.mpc.groups import Array
from secagg.mpc.primitives import Primitives, Shares


class Twin:
    """Looks at each value beside its plaintext twin.

    Args:
      engine: whose values these are.
    """

    def __init__(self, engine: Primitives) -> None:
        self._engine = engine
        self._clear = ClearEngine(engine.party)

    async def look(self, node: Node) -> None:
        """Check a node that has its value, and its inputs still.

        Raises:
          UsageError: it overflowed, or differs from its twin by more than its bound.
        """
        if not isinstance(node.value, Shares):
            return  # several values; each is looked at when it is taken out
        node.plain = await self._plain(node)
        if not node.inputs or any(i.plain is None for i in node.inputs):
            return
        if not isinstance(node.dtype, BoolType) and node.kernel.exact is not None:
            self._check_range(node)
        call = Call(node, tuple(self._in_clear(i) for i in node.inputs))
        if isinstance(node.kernel, Kernel):
            (twin,) = await node.kernel.run(self._clear, [call])
        else:
            twin = node.kernel.run(self._clear, call)
        bound = node.kernel.error_ulps if isinstance(node.kernel, Kernel) else 0
        self._check_error(node, twin, bound)

    async def _plain(self, node: Node) -> Array:
        """Return what a node's value opens to: signed integers, or bits one a byte."""
        n = math.prod(node.shape)
        if isinstance(node.dtype, BoolType):
            opened = await self._engine.open(cleared(node.value, n))
            return unpack(_received(opened), n).reshape(node.shape)
        opened = await self._engine.open(node.value)
        return node.dtype.ring.to_signed(_received(opened))

    def _in_clear(self, node: Node) -> Shares:
        if isinstance(node.dtype, BoolType):
            return self._clear.public(node.dtype.group, pack(node.plain))
        return self._clear.public(node.dtype.group, node.dtype.ring.from_signed(node.plain))

    def _check_range(self, node: Node) -> None:
        exact = node.kernel.exact
        if exact is None or isinstance(node.dtype, BoolType):
            return
        bits = node.dtype.bits
        try:
            with np.errstate(all="ignore"):
                result = np.asarray(exact(node, *(i.plain.astype(object) for i in node.inputs)))
        except OverflowError as error:
            raise UsageError(f"{node.kernel.name} at {node.line} overflows: {error}") from None
        if result.size and not (-(1 << bits - 1) <= result.min() and result.max() < 1 << bits - 1):
            raise UsageError(
                f"{node.kernel.name} at {node.line} overflows: a result does not fit {node.dtype}; scale the values down, "
                "or take fewer fractional bits"
            )

    def _check_error(self, node: Node, twin: Shares, bound: int) -> None:
        if isinstance(node.dtype, BoolType):
            apart = int((unpack(twin.parts[0], node.plain.size) != node.plain.reshape(-1)).any())
        else:
            ring = node.dtype.ring
            difference = node.dtype.group.subtract(ring.from_signed(node.plain), twin.parts[0])
            apart = int(np.abs(ring.to_signed(difference)).max(initial=0))
        if apart > bound:
            raise UsageError(
                f"{node.kernel.name} at {node.line} differs from its value in the clear by more than its bound of {bound} "
                "units in the last place; its inputs lie outside the range that it takes"
            )


def _received(opened: Array | None) -> Array:
    if opened is None:
        raise TypeError("expected an opening to the computing parties")
    return opened
