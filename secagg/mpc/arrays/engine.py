"""`Engine`: what a program computes with. It takes values in, and opens results."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, SupportsIndex

import numpy as np

from secagg.errors import RemoteProtocolError, ShapeError, UsageError
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.debug import Twin
from secagg.mpc.arrays.dtypes import BoolType, FixedType, as_dtype, decode_opened, encode, int64, unmasked
from secagg.mpc.arrays.graph import Graph, Node, Shape
from secagg.mpc.arrays.handle import Public, public_values
from secagg.mpc.arrays.kernels import INPUT, INPUT_FROM_OUTSIDE, Given
from secagg.mpc.arrays.local import PUBLIC
from secagg.mpc.arrays.rehearsal import Rehearsal, RehearsingParty
from secagg.mpc.arrays.scheduler import Keeping, Mode, open_nodes, work_out
from secagg.mpc.engines import set_up
from secagg.mpc.primitives import Primitives
from secagg.party import Party, PartyId
from secagg.wire import Message

_PLAIN: Final = Mode()
MOST_ELEMENTS: Final = 1 << 32  # of an input whose shape its owner announces; nobody holds more


class InputShape(Message, frozen=True):
    """The shape of an input, from its owner."""

    shape: tuple[int, ...]


class Engine:
    """One computing party's end of a joint computation.

    Args:
      primitives: an engine for three or four computing parties; `create` sets it up.
      mode: how arrays are worked out.
    """

    def __init__(self, primitives: Primitives, mode: Mode = _PLAIN) -> None:
        self.primitives = primitives
        self.graph = Graph()
        self._mode = mode
        self._inputs: dict[PartyId, int] = {}

    def __repr__(self) -> str:
        return f"Engine({self.party.me!r} of {', '.join(self.computing)})"

    @property
    def _rehearsing(self) -> RehearsingParty | None:
        return self.primitives.rehearsing if isinstance(self.primitives, Rehearsal) else None

    @property
    def party(self) -> Party:
        return self.primitives.party

    @property
    def computing(self) -> tuple[PartyId, ...]:
        return self.primitives.computing

    # Values in.

    def share(
        self, values: Public | None, *, owner: PartyId, shape: int | Sequence[int], dtype: Any = int64
    ) -> SharedArray:
        """Return an input of `owner` as a shared array.

        Args:
          values: at the owner, its numbers or bools; None elsewhere.
          owner: a party of the roster. One that does not compute calls `mpc.share_with` instead.
          shape: as all computing parties know it; see `announce` where only the owner knows it.
          dtype: mpc.int64 (int32, int16, int8), bool, or mpc.fixed(16) for real numbers.

        Raises:
          UsageError: values elsewhere than at the owner, or none there.
          ShapeError: values of another shape or kind.
          RangeError: values that the dtype does not hold.
        """
        kind, wanted = as_dtype(dtype), as_shape(shape)
        if owner not in self.party.roster:
            raise UsageError(f"expected an owner among {', '.join(self.party.roster)}, got {owner!r}")
        rehearsing = self._rehearsing
        if (values is not None) != (owner == self.party.me) and rehearsing is None:
            raise UsageError(
                f"expected the values of an input at its owner {owner} and None elsewhere, got them otherwise at "
                f"{self.party.me}; pass `values if party.me == {owner!r} else None`"
            )
        if rehearsing is not None:
            rehearsing.check_declared(owner, wanted)
        elements = None
        if values is not None:
            array = unmasked(values)
            if array.shape != wanted:
                raise ShapeError(
                    f"{owner} shares an array of shape {array.shape}, and {wanted} was agreed on"
                )
            elements = encode(array, kind)
        count = self._inputs[owner] = self._inputs.get(owner, 0) + 1
        outside = owner not in self.computing
        lane = self.party.next_lane(owner) if outside else ()
        if outside and rehearsing is not None:
            rehearsing.from_outside[owner] = count
        width = 1 if isinstance(kind, BoolType) else kind.bits
        params = (owner, width, Given(elements, f"input {count}", lane))
        kernel = INPUT_FROM_OUTSIDE if outside else INPUT
        return SharedArray(self, self.graph.node(kernel, (), wanted, kind, params))

    async def announce(self, values: Public | None, *, owner: PartyId) -> Shape:
        """Return the shape of an input that only its owner knows: it tells the other computing parties.

        Args:
          values: at the owner, what it is going to share; None elsewhere.

        Raises:
          UsageError: values elsewhere than at the owner, or none there; an owner that does not compute.
        """
        rehearsing = self._rehearsing
        if owner not in self.computing or (
            (values is not None) != (owner == self.party.me) and rehearsing is None
        ):
            raise UsageError(f"expected values at {owner} alone, which is one of {', '.join(self.computing)}")
        known = None if rehearsing is None else rehearsing.announced(owner)
        if owner == self.party.me:
            shape = np.asarray(values).shape if known is None else known
            for peer in self.computing:
                if peer != owner:
                    self.party.send(peer, InputShape(shape))
            return shape
        shape = (await self.party.receive(InputShape, owner)).shape
        if len(shape) > 32 or any(n < 0 for n in shape) or math.prod(shape) > MOST_ELEMENTS:
            raise RemoteProtocolError(
                f"expected the shape of an array of at most {MOST_ELEMENTS} elements from {owner}, got {shape}",
                peer=owner,
            )
        return shape

    def public(self, values: Public, *, dtype: Any = None) -> SharedArray:
        """Return public values, the same at all computing parties, as a shared array.

        Args:
          dtype: by default bool, int64, or mpc.fixed(16) for real numbers.
        """
        array = public_values(values)
        if dtype is None:
            dtype = {"b": bool, "f": FixedType()}.get(array.dtype.kind, int64)
        kind = as_dtype(dtype)
        return SharedArray(self, self.graph.node(PUBLIC, (), array.shape, kind, (encode(array, kind),)))

    # Values out.

    async def open(self, *arrays: SharedArray, to: PartyId | Sequence[PartyId] | None = None) -> list[Any]:
        """Open several arrays at once, and return their values to the parties named, None to others."""
        return await self.open_each([(x, to) for x in arrays])

    async def open_each(
        self, openings: Sequence[tuple[SharedArray, PartyId | Sequence[PartyId] | None]]
    ) -> list[Any]:
        """Open arrays at once, each to parties of its own; return the values of those that this party learns, None else.

        A party that does not compute calls `mpc.receive` for each array that is opened to it, in their order.
        """
        if not openings:
            raise UsageError("expected at least one array to open")
        arrays = [x for x, _ in openings]
        for x in arrays:
            if not isinstance(x, SharedArray) or x.engine is not self:
                raise UsageError(f"expected shared arrays of this engine to open, got {x!r}")
        receivers = [self._receivers(to) for _, to in openings]
        opened = await open_nodes(self.primitives, [x.node for x in arrays], receivers, self._mode)
        if (rehearsing := self._rehearsing) is not None:
            return [
                rehearsing.next_opened(x, here=values is not None)
                for x, values in zip(arrays, opened, strict=True)
            ]
        return [
            None if values is None else decode_opened(values, x.dtype, x.shape)
            for x, values in zip(arrays, opened, strict=True)
        ]

    async def open_one(self, x: SharedArray, to: PartyId | Sequence[PartyId] | None) -> Any:
        """Open one array; see `SharedArray.open`."""
        return (await self.open(x, to=to))[0]

    async def work_out(self, nodes: Sequence[Node]) -> None:
        """Give nodes of the graph their values; nothing is opened."""
        await work_out(self.primitives, nodes, [()] * len(nodes), self._mode)

    def keep_with(self, keeping: Keeping) -> None:
        """Let checkpoints be kept of what is worked out from here on; see `keeping`."""
        self._mode = replace(self._mode, keeping=keeping)

    def _receivers(self, to: PartyId | Sequence[PartyId] | None) -> tuple[PartyId, ...]:
        receivers = self.computing if to is None else (to,) if isinstance(to, str) else tuple(to)
        unknown = [name for name in receivers if name not in self.party.roster]
        if unknown or not receivers:
            raise UsageError(f"expected parties of {', '.join(self.party.roster)} to open to, got {to!r}")
        if self.party.in_parallel and not set(receivers) <= set(self.computing):
            raise UsageError(
                f"an opening to {', '.join(receivers)} runs beside others, and who does not compute could not find it: "
                "open to parties outside one after the other"
            )
        return receivers

    @classmethod
    async def create(
        cls,
        party: Party,
        computing: Sequence[PartyId] | None = None,
        *,
        label: str = "",
        debug: bool = False,
    ) -> Engine:
        """Set up the engine, at a computing party.

        Args:
          computing: three parties that follow the protocol, or four of which one may lie; by default the whole roster.
          label: tells apart the engines of one session.
          debug: look at every value, and name the line of the first that overflows or differs from what it is in the
            clear by more than its error bound. Every party then learns all values, so it is refused outside `simulate`.

        Raises:
          UsageError: another number of parties; debug mode outside the simulator.
        """
        chosen = tuple(party.roster if computing is None else computing)
        if isinstance(party, RehearsingParty):
            rehearsal = await party.set_up(chosen, label)
            return cls(rehearsal, Mode(rehearsal=rehearsal))
        if debug and not party.simulated:
            raise UsageError(
                "debug mode shows every party all values, so it runs in secagg.simulate alone, on made-up data"
            )
        primitives = await set_up(party, chosen, label=label)
        return cls(primitives, Mode(watch=Twin(primitives)) if debug else _PLAIN)


def as_shape(shape: SupportsIndex | Iterable[SupportsIndex]) -> Shape:
    """Return a shape as a tuple.

    Raises:
      ShapeError: lengths that are no integers of at least 0.
    """
    try:
        each = shape if isinstance(shape, Iterable) else (shape,)
        lengths = tuple(operator.index(n) for n in each)
    except TypeError:
        lengths = (-1,)
    if any(n < 0 for n in lengths):
        raise ShapeError(f"expected a shape of integers of at least 0, got {shape!r}")
    return lengths
