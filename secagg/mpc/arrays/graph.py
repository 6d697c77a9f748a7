"""The graph that operators on shared arrays build: nodes, each a kernel with its inputs, evaluated when something opens.

A kernel says what happens to shares. A `Local` kernel is linear, needs no message and acts on every share by itself. A
`Kernel` calls the engine. It takes all the calls of a level that have the same parameters at once, so that they cost one
call of the engine.

A node keeps its inputs until it has its value, and its value as long as anybody keeps the node. So what nothing needs any
more is freed. Each node knows the line of the program that made it, and has a digest of all that it is computed from.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from secagg.cost.operation import Cost
from secagg.mpc.arrays.dtypes import DType
from secagg.mpc.groups import Array
from secagg.mpc.primitives import Costs, Primitives

Shape: TypeAlias = tuple[int, ...]

_HERE: Final = str(Path(__file__).parent.parent) + "/"  # lines of secagg.mpc are not the program's


class Call(NamedTuple):
    """One use of a kernel: the node that is worked out, and the values of its inputs."""

    node: Node
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Local:
    """A kernel without messages.

    Args:
      name: as errors and digests have it.
      run: `run(engine, call)` returns the value.
      exact: for debug mode, `exact(node, *inputs)` on arrays of Python integers, unbounded; None where nothing can overflow.
    """

    name: str
    run: Callable[[Primitives, Call], Any]
    exact: Callable[..., Array] | None = None
    talks = False


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """A kernel with messages.

    Args:
      name: as errors and digests have it.
      run: `run(engine, calls)` returns the values of calls with equal parameters.
      exact: as that of `Local`; it may raise `OverflowError` for what does not fit in between.
      error_ulps: by how many units in the last place a value may differ from that in the clear.
      expected: what one call is expected to cost, `expected(costs, node)`, for a kernel that goes on with what it opens; a
        rehearsal, which has no values, cannot run it.
      rehearsed: where messages do not depend on values, sends those of one call for a few zeros, `rehearsed(engine, node)`,
        so that a rehearsal has the rounds of a run.
    """

    name: str
    run: Callable[[Primitives, Sequence[Call]], Awaitable[list[Any]]]
    exact: Callable[..., Array] | None = None
    error_ulps: int = 0
    expected: Callable[[Costs, Node], Cost] | None = None
    rehearsed: Callable[[Primitives, Node], Awaitable[Any]] | None = None
    talks = True


class Line(NamedTuple):
    """A line of a program."""

    file: str
    number: int

    @property
    def brief(self) -> str:
        """The line without the folders of its file."""
        return f"{Path(self.file).name}:{self.number}"

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"


class Node:
    """One array of the graph.

    Attributes:
      inputs: what it is computed from; none once it has its value.
      params: hashable values, the same for calls that run together, whose `repr` is the same at all parties; arrays for
        local kernels alone.
      level: how many kernels with messages stand before it, in the evaluation under way.
      value: `Shares` once worked out: of the node's shape for numbers, packed words for bool.
      plain: in debug mode, what the value opens to.
    """

    __slots__ = (
        "__weakref__",
        "digest",
        "dtype",
        "inputs",
        "kernel",
        "level",
        "line",
        "number",
        "params",
        "plain",
        "shape",
        "value",
    )

    def __init__(
        self,
        kernel: Local | Kernel,
        inputs: tuple[Node, ...],
        params: tuple[Any, ...],
        shape: Shape,
        dtype: DType,
        number: int,
    ) -> None:
        self.kernel = kernel
        self.inputs = inputs
        self.params = params
        self.shape = shape
        self.dtype = dtype
        self.number = number
        self.line = _line()
        self.level = 0
        self.digest = b""
        self.value: Any = None
        self.plain: Any = None

    def take_digest(self) -> None:
        """Set the digest; inputs have theirs."""
        content = hashlib.blake2b(digest_size=16, usedforsecurity=False)
        _absorb(content, (self.kernel.name, self.shape, str(self.dtype), self.params))
        for node in self.inputs:
            content.update(node.digest)
        self.digest = content.digest()


def _absorb(content: Any, param: Any) -> None:
    """Add a value to a hash; each says how long it is, so that no two lists of values add the same bytes."""
    if isinstance(param, tuple):
        content.update(b"(%d:" % len(param))
        for each in param:
            _absorb(content, each)
    elif isinstance(param, np.ndarray):
        content.update(f"[{param.shape} {param.dtype}:".encode())
        content.update(np.ascontiguousarray(param).data)
    else:
        text = repr(param).encode()
        content.update(b"%d:" % len(text) + text)


class Graph:
    """Makes the nodes of one engine, and numbers them as the program makes them."""

    __slots__ = ("made",)

    def __init__(self) -> None:
        self.made = 0

    def node(
        self,
        kernel: Local | Kernel,
        inputs: tuple[Node, ...],
        shape: Shape,
        dtype: DType,
        params: tuple[Any, ...] = (),
    ) -> Node:
        """Return a new node."""
        self.made += 1
        return Node(kernel, inputs, params, shape, dtype, self.made)


def _line() -> Line:
    """Return the line outside secagg.mpc that is being run."""
    frame = sys._getframe(3)
    while frame.f_code.co_filename.startswith(_HERE) and frame.f_back is not None:
        frame = frame.f_back
    return Line(frame.f_code.co_filename, frame.f_lineno)


def unvalued(targets: Sequence[Node]) -> list[Node]:
    """Return what the targets need and has no value yet, in the order in which it was made, with digests and levels."""
    todo, seen = [node for node in targets if node.value is None], dict[int, Node]()
    while todo:
        node = todo.pop()
        if id(node) not in seen:
            seen[id(node)] = node
            todo += [i for i in node.inputs if i.value is None]
    nodes = sorted(seen.values(), key=_number)
    for node in nodes:
        node.take_digest()
        before = 0
        for i in node.inputs:
            if i.value is None and i.level > before:
                before = i.level
        node.level = before + node.kernel.talks
    return nodes


def _number(node: Node) -> int:
    return node.number
