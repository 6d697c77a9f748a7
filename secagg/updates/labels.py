"""Labels of arrays' axes, by which arrays of different clients are matched.

An axis has a name, labels, both or neither. Axes with names are put in the order of the first client's, positions with
labels too. Nothing is matched by its place that has a name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

_SHOWN: Final = 3

Refuse = Callable[[str], NoReturn]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis.

    Attributes:
      name: of the axis; None without.
      index: a pandas Index of labels that are distinct; None without.
    """

    name: Any
    index: Any

    def label(self, position: int) -> str:
        """Return the label of a position, or the position."""
        return str(position) if self.index is None else f"{self.index[position]!r:.60}"


@dataclass(frozen=True, slots=True)
class Labels:
    """The axes of an array that carries labels.

    Attributes:
      kind: the class of it, for people: two of different classes are not matched.
      axes: in order.
    """

    kind: str
    axes: tuple[Axis, ...]

    def place(self, position: Sequence[int]) -> str:
        """Return the labels of one number."""
        return ", ".join(axis.label(i) for axis, i in zip(self.axes, position, strict=True))

    def align(self, array: NDArray[Any], other: Labels, refuse: Refuse) -> NDArray[Any]:
        """Return an array with other labels in the order of these.

        Args:
          array: with the axes `other`.
          other: labels of the same kind.
          refuse: raises an error with the text given.
        """
        names, others = [axis.name for axis in self.axes], [axis.name for axis in other.axes]
        if names != others:
            if len(names) != len(others) or set(names) != set(others):
                refuse(f"expected axes {_some(names)}, got {_some(others)}")
            order = [others.index(name) for name in names]
            array, other = array.transpose(order), Labels(other.kind, tuple(other.axes[i] for i in order))
        for i, (mine, theirs) in enumerate(zip(self.axes, other.axes, strict=True)):
            positions = _positions(mine, theirs, refuse)
            if positions is not None:
                array = array.take(positions, axis=i)
        return array


def check_distinct(index: Any, refuse: Refuse) -> None:
    """Refuse labels by which nothing can be matched."""
    if not index.is_unique:
        repeated = index[index.duplicated()]
        refuse(
            f"expected distinct labels, got more than once: {_some(list(repeated[:_SHOWN]))}; label rows differently, or "
            "give the numbers alone, as by to_numpy(), to match them by place"
        )


def _positions(mine: Axis, theirs: Axis, refuse: Refuse) -> NDArray[np.intp] | None:
    """Return where the labels of one axis lie in the other; None where they lie in the same order."""
    a, b = mine.index, theirs.index
    where = "" if mine.name is None else f" along {mine.name!r:.40}"
    if a is None or b is None:
        if a is not b:
            refuse(
                f"expected {'no labels' if a is None else 'labels'}{where}, got {'labels' if a is None else 'none'}"
            )
        return None
    if a is b:
        return None
    called, others = list(a.names), list(b.names)
    if len(called) != len(others) or any(
        x != y and x is not None and y is not None for x, y in zip(called, others, strict=True)
    ):
        refuse(
            f"expected labels called {_some(called)}{where}, got labels called {_some(others)}; rename them alike"
        )
    if a.equals(b):
        return None
    positions: NDArray[np.intp] = b.get_indexer(a)
    missing, strange = a[positions < 0], b[a.get_indexer(b) < 0]
    if len(missing):
        refuse(f"expected labels {_some(list(a))}{where}, got labels without {_some(list(missing))}")
    if len(strange):
        refuse(f"expected labels {_some(list(a))}{where}, got labels with {_some(list(strange))} as well")
    return positions


def _some(labels: Sequence[Any]) -> str:
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    return ", ".join(f"{label!r:.40}" for label in labels[:_SHOWN]) + more
