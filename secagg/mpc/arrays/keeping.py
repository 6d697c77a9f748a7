"""Checkpoints of a program on shared arrays: what its later openings are computed from, as far as it is worked out.

A program says of what it will open, part by part (`Stages.enter`). In each part the frontier is kept: the arrays that have
their values and that what is still to be worked out needs. That is at the beginning of a part, before each opening, and
after levels of the graph whenever much has been worked out since. Parties decide that by sizes, which are public, so all
keep the same.

A run that goes on builds the same graph, gives the nodes of the frontier their values, freshly shared, and works out the
rest. Nodes are known by their number, and have to have the digest that they had.

Threat model, who learns what, cost: those of `mpc.checkpoints`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from secagg.errors import UsageError
from secagg.mpc import checkpoints
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.engine import Engine
from secagg.mpc.arrays.graph import Node, unvalued
from secagg.mpc.arrays.kernels import INPUT, INPUT_FROM_OUTSIDE
from secagg.mpc.primitives import Shares

MANY_ELEMENTS: Final = 1 << 22  # worked out since the last checkpoint, so that another one pays


class Stages:
    """The parts of a program at a computing party, from checkpoint to checkpoint.

    Args:
      engine: of the program.
      own: what else this party needs to go on, kept with each checkpoint.
      many: how many elements are worked out, by messages, between two checkpoints.
    """

    def __init__(
        self, engine: Engine, *, own: Mapping[str, Any] | None = None, many: int = MANY_ELEMENTS
    ) -> None:
        self._engine = engine
        self._checkpoints = engine.party.checkpoints
        self._own = own
        self._many = many
        self._taken_up = self._checkpoints.resumes is None
        self._since = 0
        self._mark = ""
        self._needed: list[Node] = []

    async def share(self, mark: str, needed: Sequence[SharedArray]) -> bool:
        """Take all inputs in that openings need, and enter the first part; see `enter`."""
        inputs = [
            node for node in unvalued([x.node for x in needed]) if node.kernel in (INPUT, INPUT_FROM_OUTSIDE)
        ]
        if self._checkpoints.resumes is None and inputs:
            await self._engine.work_out(inputs)
        return await self.enter(mark, needed)

    async def enter(self, mark: str, needed: Sequence[SharedArray]) -> bool:
        """Begin a part; return whether it is to be run. It is not where the run goes on from a later part.

        Args:
          mark: of the part.
          needed: everything that this part and later ones open.

        Raises:
          UsageError: what was kept is not of this program.
        """
        self._mark, self._needed = mark, [x.node for x in needed]
        resumes = self._checkpoints.resumes
        if self._taken_up or resumes is None:
            await self._keep()
        elif resumes.mark == mark:
            await self._take_up()
        else:
            return False
        if self._checkpoints.active:
            self._engine.keep_with(self)
        return True

    async def worked_out(self, elements: int) -> None:
        """Keep a checkpoint if much has been worked out."""
        self._since += max(1, elements)
        if self._since >= self._many:
            await self._keep()

    async def before_opening(self) -> None:
        """Keep what is going to be opened, at all computing parties, and note that it is opened."""
        if self._since:
            await self._keep()
        await checkpoints.ready_to_open(self._engine.primitives)

    async def _keep(self) -> None:
        self._since = 0
        if not self._checkpoints.active or self._engine.party.in_parallel:
            return
        frontier = _frontier(self._needed)
        secrets: dict[str, Shares] = {}
        for node in frontier:
            several = isinstance(node.value, list | tuple)
            for i, x in enumerate(node.value if several else [node.value]):
                if not isinstance(x, Shares):
                    raise UsageError(
                        f"a checkpoint keeps shares, and {node.kernel.name} at {node.line} gives others"
                    )
                secrets[f"{node.number} {node.digest.hex()} {i if several else ''}"] = x
        await checkpoints.keep(self._engine.primitives, self._mark, secrets, self._own)

    async def _take_up(self) -> None:
        self._taken_up = True
        nodes = {node.number: node for node in unvalued(self._needed)}
        taken: dict[int, list[Shares]] = {}
        whole: set[int] = set()
        for name, x in (await checkpoints.taken_up(self._engine.primitives)).items():
            number, digest, place = name.split(" ")
            node = nodes.get(int(number))
            if node is None or node.digest.hex() != digest:
                raise UsageError(
                    "a checkpoint of this run is of another program; start the run anew with the release that began it"
                )
            taken.setdefault(node.number, []).append(x)
            if not place:
                whole.add(node.number)
        for known, values in taken.items():
            node = nodes[known]
            value: Any = values[0] if known in whole else values
            node.value, node.inputs, node.params = value, (), ()
        if any(node.kernel in (INPUT, INPUT_FROM_OUTSIDE) for node in unvalued(self._needed)):
            raise UsageError("a checkpoint of this run lacks an input; start the run anew")


def _frontier(needed: Sequence[Node]) -> list[Node]:
    """Return the nodes with values that the others need, and those of `needed` that have theirs, in order."""
    found = {id(node): node for node in needed if node.value is not None}
    for node in unvalued(needed):
        found |= {id(i): i for i in node.inputs if i.value is not None}
    return sorted(found.values(), key=lambda node: node.number)
