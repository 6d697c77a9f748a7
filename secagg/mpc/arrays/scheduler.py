"""Works out nodes, level by level: equal ones in one call of the engine, different ones side by side.

A level holds the kernels with messages of which all inputs are there. Those with equal kernel and parameters run as one
call, in an order that depends on what they compute and not on when the program made them. So the parties agree on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

from secagg.mpc.arrays.agreement import GraphsDifferError, compare, digest_of, held_back, part
from secagg.mpc.arrays.dtypes import BoolType
from secagg.mpc.arrays.graph import Call, Node, unvalued
from secagg.mpc.arrays.lanes import cleared
from secagg.mpc.primitives import Primitives
from secagg.party import Computation, PartyId


class Watch(Protocol):
    """Looks at each node that was worked out, while its inputs are there; see `debug`."""

    async def look(self, node: Node, values: Sequence[Any]) -> None: ...


async def open_nodes(
    engine: Primitives,
    targets: Sequence[Node],
    receivers: Sequence[Sequence[PartyId]],
    watch: Watch | None = None,
) -> list[Any]:
    """Work out what the targets need and open each to its receivers; return what this party learns, None else.

    Raises:
      UsageError: the computing parties' programs differ.
    """
    nodes = unvalued(targets)
    digest = digest_of(targets, receivers)
    levels = _by_level(nodes)
    agree: Computation[Any] | None = compare(engine.party, engine.computing, digest)
    try:
        for level, (talking, local) in enumerate(levels):
            if talking:
                await _run_level(engine, talking, agree, watch)
                agree = None
            await _run_local(engine, local, watch)
            levels[level] = ([], [])  # their inputs and calls are dropped
        if (
            agree is not None
        ):  # there was no message that could leave beside the digest, and an opening must not
            await agree
    except GraphsDifferError:
        await part(engine.party, engine.computing, nodes or targets, receivers)
    finally:
        if agree is not None:
            agree.close()
    values = [
        cleared(n.value, math.prod(n.shape)) if isinstance(n.dtype, BoolType) else n.value for n in targets
    ]
    return await engine.open_each(list(zip(values, receivers, strict=True)))


def _by_level(nodes: Sequence[Node]) -> list[tuple[list[Node], list[Node]]]:
    """Return for each level its nodes with messages, and the local ones that follow, in order."""
    levels: list[tuple[list[Node], list[Node]]] = [([], [])]
    for node in nodes:
        while len(levels) <= node.level:
            levels.append(([], []))
        levels[node.level][not node.kernel.talks].append(node)
    return levels


async def _run_level(
    engine: Primitives, nodes: Sequence[Node], agree: Computation[Any] | None, watch: Watch | None
) -> None:
    groups: dict[Any, list[Node]] = {}
    alike: list[tuple[Node, Node]] = []
    last: Node | None = None
    for node in sorted(nodes, key=_digest):
        if node.value is not None:  # another opening beside this one has worked it out
            continue
        if last is not None and last.digest == node.digest and not node.kernel.fresh:  # type: ignore[union-attr]
            alike.append((node, last))
            continue
        last = node
        groups.setdefault((node.kernel, node.params), []).append(node)
    calls = [
        [Call(node, tuple([i.value for i in node.inputs])) for node in group] for group in groups.values()
    ]
    runs: list[Any] = [group[0].node.kernel.run(engine, group) for group in calls]  # type: ignore[arg-type]
    if not runs:
        return
    if agree is not None:
        _, *results = await engine.party.parallel(agree, *map(held_back, runs))
    elif len(runs) == 1:
        results = [await runs[0]]
    else:
        results = await engine.party.parallel(*runs)
    for group, values in zip(calls, results, strict=True):
        for call, value in zip(group, values, strict=True):
            await _settle(call.node, value, call.values, watch)
    for node, first in alike:
        node.value, node.plain, node.inputs, node.params = first.value, first.plain, (), ()


async def _run_local(engine: Primitives, nodes: list[Node], watch: Watch | None) -> None:
    nodes.reverse()
    while nodes:
        node = nodes.pop()
        if node.value is None:
            values = tuple([i.value for i in node.inputs])
            value: Any = node.kernel.run(engine, Call(node, values))  # type: ignore[arg-type]
            await _settle(node, value, values, watch)


async def _settle(node: Node, value: Any, values: Sequence[Any], watch: Watch | None) -> None:
    node.value = value
    if watch is not None:
        await watch.look(node, values)
    node.inputs = node.params = ()


def _digest(node: Node) -> bytes:
    return node.digest
