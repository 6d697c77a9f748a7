"""Arrays handed on from one session of the computing parties to another: shares that one works out and another goes on with.

`hand_on` works arrays out, checks, and gives this party's shares as plain arrays. `take_up` gives them fresh shares in
another session (`mpc.checkpoints.refreshed`). Between the two nothing is opened, and each party keeps its own shares alone.

What is taken up is described by arrays without values (`blank`): the program that made them is built once more and not run.
So both sessions have the same shapes and dtypes, and no party says what another one handed on.

Threat model: that of `mpc.checkpoints`. Learns: nobody anything. Cost: `hand_on` a check, `take_up` that of `refreshed`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from secagg.errors import UsageError
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.dtypes import BoolType, DType
from secagg.mpc.arrays.engine import Engine
from secagg.mpc.arrays.graph import Call, Local, Shape
from secagg.mpc.arrays.lanes import words_of
from secagg.mpc.arrays.rehearsal import Rehearsal
from secagg.mpc.checkpoints import refreshed
from secagg.mpc.groups import Array, Group
from secagg.mpc.primitives import Primitives


def _missing(engine: Primitives, call: Call) -> Any:  # noqa: ARG001
    raise UsageError("an array that describes what another session hands on has no value")


_HANDED_ON: Final = Local("handed on", _missing)


def blank(engine: Engine, shape: Shape, dtype: DType) -> SharedArray:
    """Return an array without a value; what is made of it says shapes and dtypes, and cannot be opened."""
    return SharedArray(engine, engine.graph.node(_HANDED_ON, (), shape, dtype, ("blank",)))


async def hand_on(engine: Engine, arrays: Sequence[SharedArray]) -> list[list[Array]]:
    """Work arrays out; return this party's shares of each, once nobody is known to have lied.

    Raises:
      CheatingError: one of four parties lied.
    """
    await engine.work_out([x.node for x in arrays])
    await engine.primitives.check()
    return [list(x.node.value.parts) for x in arrays]


async def take_up(
    engine: Engine, like: Sequence[SharedArray], sessions: Sequence[Sequence[Sequence[Array]] | None]
) -> list[list[SharedArray]]:
    """Return what each of several sessions handed on, freshly shared, all in one go.

    Args:
      like: arrays without values, as `hand_on` had them with values in each of those sessions.
      sessions: of each, this party's shares of each array; None in a rehearsal.

    Raises:
      UsageError: shares of other shapes.
      CheatingError: see `four.refresh`.
    """
    described = [(x.dtype.group, _stored(x)) for x in like]
    if isinstance(engine.primitives, Rehearsal):
        fresh = iter(await engine.primitives.refresh(described * len(sessions)))
    else:
        given = [one for arrays in sessions for one in _given(described, arrays)]
        fresh = iter(await refreshed(engine.primitives, given))
    found = []
    for i in range(len(sessions)):
        arrays = []
        for j, x in enumerate(like):
            node = engine.graph.node(_HANDED_ON, (), x.shape, x.dtype, ("session", i, j))
            node.take_digest()  # nodes of one digest would be taken for one
            node.value, node.params = next(fresh), ()
            arrays.append(SharedArray(engine, node))
        found.append(arrays)
    return found


def _stored(x: SharedArray) -> Shape:
    """Return the shape of an array's shares: its own, or that of the packed words."""
    return (words_of(math.prod(x.shape)),) if isinstance(x.dtype, BoolType) else x.shape


def _given(
    described: Sequence[tuple[Group, Shape]], arrays: Sequence[Sequence[Array]] | None
) -> list[tuple[Group, Sequence[Array]]]:
    """Return this party's shares of one session's arrays with their groups, once their shapes are those described."""
    if arrays is None or len(arrays) != len(described):
        got = "none" if arrays is None else str(len(arrays))
        raise UsageError(f"expected shares of {len(described)} arrays of another session, got {got}")
    for (group, shape), parts in zip(described, arrays, strict=True):
        if any(part.shape != shape or part.dtype != group.dtype for part in parts):
            raise UsageError(
                f"expected shares of shape {shape} and {group.dtype}, got "
                f"{', '.join(f'{part.shape} of {part.dtype}' for part in parts)}; do all workers run the same release?"
            )
    return [(group, parts) for (group, _), parts in zip(described, arrays, strict=True)]
