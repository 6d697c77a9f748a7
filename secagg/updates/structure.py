"""Updates as they come: an array, or containers of arrays, however deep, to a list of arrays and back.

What an array may be says `forms`, what a container may be `containers`. What has a name is matched by it: keys, fields,
columns, labels of rows. What comes back is as it came, of the first client's order and classes.

Clips, reports and errors name arrays by paths, keys and positions joined by "/". Two parts of one path are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from secagg.errors import ShapeError
from secagg.updates.containers import Container, container_of
from secagg.updates.forms import Form, Place, at, take
from secagg.updates.rounding import LARGEST_BFLOAT16

_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Leaf:
    """One array of an update.

    Attributes:
      path: keys and positions that lead to it, joined by "/"; "" where the update is an array itself.
      shape, dtype: of the array.
      form: what it comes back as.
      above: paths of the containers that it is in, the outermost first, without the whole update.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    form: Form
    above: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def is_integer(self) -> bool:
        """Whether its numbers are integers by type."""
        return self.dtype.kind in "iu"

    @property
    def dtype_name(self) -> str:
        """The dtype as it came."""
        return "bfloat16" if self.form.bfloat16 else self.dtype.name

    @property
    def largest(self) -> float:
        """The largest number that its dtype holds; an int for integers."""
        if self.is_integer:
            return int(np.iinfo(self.dtype).max)
        return LARGEST_BFLOAT16 if self.form.bfloat16 else float(np.finfo(self.dtype).max)

    def __str__(self) -> str:
        return f"{self.dtype_name} of shape {self.shape}"


@dataclass(frozen=True, slots=True)
class _Branch:
    kind: str
    match: Any
    keys: tuple[Any, ...]
    called: str | None  # what keys are called by which parts are matched
    wrap: Callable[[Sequence[Any]], Any] = field(repr=False)
    path: str
    children: tuple[_Branch | Leaf, ...]


class Structure:
    """The structure that all updates have to have: that of the first.

    Args:
      update: the first update.
      client: whose it is.

    Attributes:
      leaves: its arrays.
      paths: of all its arrays and containers, without the whole update.

    Raises:
      ShapeError: something in it is no array of numbers, two parts have one path, or there are no numbers in it.
    """

    __slots__ = ("_first", "_tree", "leaves", "paths")

    def __init__(self, update: Any, client: str) -> None:
        self._first = client
        self.paths: frozenset[str] = frozenset()
        found: set[str] = {""}
        self._tree = _look(update, Place("", client), (), found)
        self.paths = frozenset(found - {""})
        self.leaves = tuple(_leaves(self._tree))
        if not self.size:
            raise ShapeError(f"there are no numbers in the update of {client}")

    @property
    def size(self) -> int:
        """How many numbers an update holds."""
        return sum(leaf.size for leaf in self.leaves)

    def flatten(self, update: Any, client: str) -> list[NDArray[Any]]:
        """Return the arrays of an update, in the order of `leaves`.

        Raises:
          ShapeError: it has another structure, or other names; tells the client and the path.
        """
        arrays: list[NDArray[Any]] = []
        self._flatten(self._tree, update, client, arrays)
        return arrays

    def build(self, arrays: Sequence[NDArray[Any]]) -> Any:
        """Return arrays, in the order of `leaves`, in the structure of the updates."""
        return _build(self._tree, iter(arrays))

    def _flatten(self, node: _Branch | Leaf, update: Any, client: str, arrays: list[NDArray[Any]]) -> None:
        place = Place(node.path, client)
        container = container_of(update, place)
        if isinstance(node, Leaf):
            if container is not None:
                self._differs(place, str(node), container.kind)
            arrays.append(self._array(node, update, place))
            return
        if container is None or container.match != node.match:
            got = f"a {type(update).__name__}" if container is None else container.kind
            self._differs(place, node.kind, got)
        parts = container.parts
        if node.called is not None and container.keys != node.keys:
            parts = self._by_name(node, container, place)
        for child, part in zip(node.children, parts, strict=True):
            self._flatten(child, part, client, arrays)

    def _by_name(self, node: _Branch, container: Container, place: Place) -> tuple[Any, ...]:
        """Return the parts of a container in the order of a branch's keys."""
        named = dict(zip(container.keys, container.parts, strict=True))
        known = set(node.keys)
        missing = [str(key) for key in node.keys if key not in named]
        strange = [str(key) for key in named if key not in known]
        if missing or strange:
            what = f"without {_some(missing)}" if missing else f"with {_some(strange)} as well"
            keys = _some([str(key) for key in node.keys])
            self._differs(place, f"{node.called} {keys}", f"{node.called} {what}")
        return tuple(named[key] for key in node.keys)

    def _array(self, leaf: Leaf, update: Any, place: Place) -> NDArray[Any]:
        array, form = take(update, place)
        dtype = array.dtype.newbyteorder("=")
        if dtype != leaf.dtype or form.bfloat16 != leaf.form.bfloat16:
            got = str(Leaf(leaf.path, array.shape, dtype, form))
            if leaf.form.kind == form.kind == "number":
                got += "; write 3.0 for 3, or pass numpy arrays"
            self._differs(place, str(leaf), got)
        names = leaf.form.name, form.name
        # What is called as the client itself is a row of a table of clients: its name says whose it is, not what.
        if None not in names and names[0] != names[1] and names != (self._first, place.client):
            self._differs(
                place,
                f"the name {names[0]!r:.80}",
                f"{names[1]!r:.80}; rename them alike, or take the names off",
            )
        labels, others = leaf.form.labels, form.labels
        if labels is not None and others is not None and labels.kind == others.kind:
            array = labels.align(array, others, lambda text: self._refuse(place, text))
        elif labels is not others:
            kinds = [what.kind if what else "an array without labels" for what in (labels, others)]
            self._differs(place, kinds[0], f"{kinds[1]}; give labels to all or to none")
        if array.shape != leaf.shape:
            self._differs(place, str(leaf), str(Leaf(leaf.path, array.shape, dtype, form)))
        return array

    def _differs(self, place: Place, expected: str, got: str) -> NoReturn:
        self._refuse(place, f"expected {expected}, got {got}")

    def _refuse(self, place: Place, text: str) -> NoReturn:
        place.refuse(f"{place.client}'s update differs from {self._first}'s: {text}")


def _look(update: Any, place: Place, above: tuple[str, ...], found: set[str]) -> _Branch | Leaf:
    container = container_of(update, place)
    if container is None:
        array, form = take(update, place)
        return Leaf(place.path, array.shape, array.dtype.newbyteorder("="), form, above)
    children = []
    inner = (*above, place.path) if place.path else above
    for key, part in zip(container.keys, container.parts, strict=True):
        path = _join(place.path, str(key))
        if path in found:
            raise ShapeError(
                f"{at(place.path)}{place.client}'s update has two parts of the path {path!r:.200}, by which clips and "
                f"reports call them: rename {key!r:.80}"
            )
        found.add(path)
        children.append(_look(part, Place(path, place.client), inner, found))
    return _Branch(
        container.kind,
        container.match,
        container.keys,
        container.called,
        container.wrap,
        place.path,
        tuple(children),
    )


def _leaves(node: _Branch | Leaf) -> Iterator[Leaf]:
    if isinstance(node, Leaf):
        yield node
    else:
        for child in node.children:
            yield from _leaves(child)


def _build(node: _Branch | Leaf, arrays: Iterator[NDArray[Any]]) -> Any:
    if isinstance(node, Leaf):
        return node.form.wrap(next(arrays))
    return node.wrap([_build(child, arrays) for child in node.children])


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _join(path: str, name: str) -> str:
    # An empty name is shown, or its path would be that of what it is in.
    return f"{path}/{name or repr(name)}" if path else name or repr(name)
