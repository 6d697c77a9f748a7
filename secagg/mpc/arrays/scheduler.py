"""Works out nodes, level by level: equal ones in one call of the engine, different ones side by side.

A level holds the kernels with messages of which all inputs are there. Those with equal kernel and parameters run as one
call, in an order that depends on what they compute and not on when the program made them. So the parties agree on it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from secagg.mpc.arrays.agreement import GraphsDifferError, compare, digest_of, held_back, part
from secagg.mpc.arrays.dtypes import BoolType
from secagg.mpc.arrays.graph import Call, Kernel, Node, unvalued
from secagg.mpc.arrays.kernels import join
from secagg.mpc.arrays.lanes import cleared
from secagg.mpc.primitives import Primitives, Shares
from secagg.mpc.terms import terms_of_array
from secagg.party import Computation, PartyId


class Watch(Protocol):
    """Looks at each node that was worked out, while its inputs are there; see `debug`."""

    async def look(self, node: Node) -> None: ...


class Rehearsing(Protocol):
    """An engine without values; see `rehearsal`."""

    def stand_in(self, node: Node) -> Any:
        """Return what a local kernel would."""
        ...

    async def expect(self, calls: Sequence[Call]) -> list[Any]:
        """Return what a kernel would of which the expected cost alone is known."""
        ...


class Keeping(Protocol):
    """Keeps what has been worked out, so that a run may go on from there; see `keeping`."""

    async def worked_out(self, elements: int) -> None:
        """Take note that a level has its values, so many elements of them by messages."""
        ...

    async def before_opening(self) -> None:
        """Take note that what is going to be opened has its values."""
        ...


@dataclass(frozen=True, slots=True)
class Mode:
    """How nodes are worked out.

    Args:
      watch: looks at each value, in debug mode.
      rehearsal: the engine, where it has no values.
      keeping: keeps checkpoints, where a run does.
    """

    watch: Watch | None = None
    rehearsal: Rehearsing | None = None
    keeping: Keeping | None = None


async def work_out(
    engine: Primitives, targets: Sequence[Node], receivers: Sequence[Sequence[PartyId]], mode: Mode
) -> None:
    """Work out the targets, and compare with the other computing parties what they are and for whom.

    Raises:
      UsageError: the computing parties' programs differ.
    """
    nodes = unvalued(targets)
    levels = _by_level(nodes)
    agree: Computation[Any] | None = compare(engine.party, engine.computing, digest_of(targets, receivers))
    try:
        levels.reverse()
        while levels:
            talking, local = levels.pop()
            elements = sum(math.prod(node.shape) for node in talking)
            if talking:
                await _run_level(engine, talking, agree, mode)
                talking.clear()
                agree, nodes = None, []  # from here on nothing but the graph keeps a node
            await _run_local(engine, local, mode)
            if mode.keeping is not None:
                await mode.keeping.worked_out(elements)
        if agree is not None:  # no message could leave beside the digest, and an opening must not
            await engine.party.parallel(agree)  # in the lane in which others compare beside messages
    except GraphsDifferError as differ:
        await part(engine.party, differ.peers, nodes or targets, receivers)
    finally:
        if agree is not None:
            agree.close()


async def open_nodes(
    engine: Primitives, targets: Sequence[Node], receivers: Sequence[Sequence[PartyId]], mode: Mode
) -> list[Any]:
    """Work out what the targets need and open each to its receivers; return what this party learns, None else.

    Raises:
      UsageError: the computing parties' programs differ.
    """
    await work_out(engine, targets, receivers, mode)
    if mode.keeping is not None:
        await mode.keeping.before_opening()
    values = [
        cleared(n.value, math.prod(n.shape)) if isinstance(n.dtype, BoolType) else n.value for n in targets
    ]
    names = [terms_of_array(node.shape, node.dtype, engine.computing) for node in targets]
    return await _open(engine, values, receivers, names)


async def _open(
    engine: Primitives,
    values: list[Shares],
    receivers: Sequence[Sequence[PartyId]],
    names: Sequence[bytes],
) -> list[Any]:
    """Open values; those of one group for the same computing parties are joined, others go out one by one."""
    joined: dict[Any, list[int]] = {}
    for i, (value, to) in enumerate(zip(values, receivers, strict=True)):
        inside = set(to) <= set(engine.computing)
        joined.setdefault((value.group, tuple(to)) if inside else i, []).append(i)
    runs = [
        (
            values[run[0]]
            if len(run) == 1
            else join([values[i] for i in run], [values[i].shape for i in run]),
            receivers[run[0]],
        )
        for run in joined.values()
    ]
    called = [names[run[0]] for run in joined.values()]  # nobody outside receives what is joined
    results: list[Any] = [None] * len(values)
    for run, opened in zip(joined.values(), await engine.open_each(runs, called), strict=True):
        ends = np.cumsum([0, *(values[i].size for i in run)]).tolist()
        for i, (a, b) in zip(run, itertools.pairwise(ends), strict=True):
            results[i] = None if opened is None else opened.reshape(-1)[a:b].reshape(values[i].shape)
    return results


def _by_level(nodes: Sequence[Node]) -> list[tuple[list[Node], list[Node]]]:
    """Return for each level its nodes with messages, and the local ones that follow, in order."""
    levels: list[tuple[list[Node], list[Node]]] = [([], [])]
    for node in nodes:
        while len(levels) <= node.level:
            levels.append(([], []))
        levels[node.level][not node.kernel.talks].append(node)
    return levels


async def _run_level(
    engine: Primitives, nodes: Sequence[Node], agree: Computation[Any] | None, mode: Mode
) -> None:
    groups: dict[Any, list[Node]] = {}
    alike: list[tuple[Node, Node]] = []
    last: Node | None = None
    for node in sorted(nodes, key=_digest) if len(nodes) > 1 else nodes:
        if node.value is not None:  # another opening beside this one has worked it out
            continue
        if last is not None and last.digest == node.digest:
            alike.append((node, last))
            continue
        last = node
        groups.setdefault((node.kernel, node.params), []).append(node)
    calls = [
        [Call(node, tuple([i.value for i in node.inputs])) for node in group] for group in groups.values()
    ]
    runs: list[Any] = [_run(engine, group, mode) for group in calls]
    if not runs:
        if agree is not None:
            await engine.party.parallel(agree)  # in the lane in which others compare beside messages
        return
    if agree is not None:
        _, *results = await engine.party.parallel(agree, *map(held_back, runs))
    elif len(runs) == 1:
        results = [await runs[0]]
    else:
        results = await engine.party.parallel(*runs)
    for group, values in zip(calls, results, strict=True):
        for call, value in zip(group, values, strict=True):
            await _settle(call.node, value, mode.watch)
    for node, first in alike:
        node.value, node.plain, node.inputs, node.params = first.value, first.plain, (), ()


def _run(engine: Primitives, calls: Sequence[Call], mode: Mode) -> Any:
    kernel = calls[0].node.kernel
    if mode.rehearsal is not None and isinstance(kernel, Kernel) and kernel.expected is not None:
        return mode.rehearsal.expect(calls)
    return kernel.run(engine, calls)  # type: ignore[arg-type]  # kernels with messages take all calls


async def _run_local(engine: Primitives, nodes: list[Node], mode: Mode) -> None:
    nodes.reverse()
    while nodes:
        node = nodes.pop()
        if node.value is not None:
            continue
        if mode.rehearsal is not None:
            value: Any = mode.rehearsal.stand_in(node)
        else:
            value = node.kernel.run(engine, Call(node, tuple([i.value for i in node.inputs])))  # type: ignore[arg-type]
        await _settle(node, value, mode.watch)


async def _settle(node: Node, value: Any, watch: Watch | None) -> None:
    node.value = value
    if watch is not None:
        await watch.look(node)
    node.inputs = node.params = ()


def _digest(node: Node) -> bytes:
    return node.digest
