"""Updates as they come: an array, or dictionaries, lists and tuples of arrays, however deep.

Arrays are numpy's, numbers, and whatever turns into an array by `numpy()` or `__array__` (tensors of PyTorch, on
whatever device, variables of Keras). What comes back is numpy's: arrays of the same names and shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from secagg.errors import ShapeError

Form: TypeAlias = Literal["array", "scalar", "number"]  # numpy's array, numpy's scalar, Python's number

_TAKEN: Final = "float16, float32, float64 and integers of up to 64 bits"


@dataclass(frozen=True, slots=True)
class Leaf:
    """One array of an update.

    Attributes:
      path: keys and positions that lead to it, joined by "/"; "" where the update is an array itself.
      shape, dtype: of the array.
      form: what it comes back as.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    form: Form

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def is_integer(self) -> bool:
        """Whether its numbers are integers by type."""
        return self.dtype.kind in "iu"

    def __str__(self) -> str:
        return f"{self.dtype} of shape {self.shape}"


@dataclass(frozen=True, slots=True)
class _Branch:
    kind: type[Any]  # dict, list, or the very type of a tuple
    keys: tuple[Any, ...]  # of a dictionary
    children: tuple[_Branch | Leaf, ...]


class Structure:
    """The structure that all updates have to have: that of the first.

    Args:
      update: the first update.
      client: whose it is.

    Raises:
      ShapeError: something in it is no array of numbers, or there are no numbers in it.
    """

    __slots__ = ("_first", "_tree", "leaves")

    def __init__(self, update: Any, client: str) -> None:
        self._first = client
        self._tree = _look(update, "", client)
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
          ShapeError: it has another structure; names the client and the path.
        """
        arrays: list[NDArray[Any]] = []
        self._flatten(self._tree, update, "", client, arrays)
        return arrays

    def build(self, arrays: Sequence[NDArray[Any]]) -> Any:
        """Return arrays, in the order of `leaves`, in the structure of the updates."""
        return _build(self._tree, iter(arrays))

    def _flatten(
        self, node: _Branch | Leaf, update: Any, path: str, client: str, arrays: list[NDArray[Any]]
    ) -> None:
        if isinstance(node, Leaf):
            if isinstance(update, Mapping | list | tuple):
                self._differs(path, client, str(node), _kind(update))
            array, form = _array(update, path, client)
            dtype = array.dtype.newbyteorder("=")
            if array.shape != node.shape or dtype != node.dtype:
                self._differs(path, client, str(node), str(Leaf(path, array.shape, dtype, form)))
            arrays.append(array)
            return
        if node.kind is dict:
            if not isinstance(update, Mapping):
                self._differs(path, client, "a dictionary", _kind(update))
            if update.keys() != set(node.keys):
                missing = [str(key) for key in node.keys if key not in update]
                strange = [str(key) for key in update if key not in node.keys]
                what = f"without {_some(missing)}" if missing else f"with {_some(strange)} as well"
                self._differs(path, client, f"keys {_some([str(k) for k in node.keys])}", f"keys {what}")
            parts = [update[key] for key in node.keys]
            names = [str(key) for key in node.keys]
        else:
            if type(update) is not node.kind or len(update) != len(node.children):
                expected = f"a {node.kind.__name__} of {len(node.children)}"
                self._differs(path, client, expected, _kind(update))
            parts = list(update)
            names = [str(i) for i in range(len(parts))]
        for child, part, name in zip(node.children, parts, names, strict=True):
            self._flatten(child, part, _join(path, name), client, arrays)

    def _differs(self, path: str, client: str, expected: str, got: str) -> None:
        raise ShapeError(
            f"{_at(path)}{client}'s update differs from {self._first}'s: expected {expected}, got {got}"
        )


def _look(update: Any, path: str, client: str) -> _Branch | Leaf:
    if isinstance(update, Mapping):
        keys = tuple(update)
        return _Branch(dict, keys, tuple(_look(update[k], _join(path, str(k)), client) for k in keys))
    if isinstance(update, list | tuple):
        children = tuple(_look(part, _join(path, str(i)), client) for i, part in enumerate(update))
        return _Branch(type(update), (), children)
    array, form = _array(update, path, client)
    return Leaf(path, array.shape, array.dtype.newbyteorder("="), form)


def _leaves(node: _Branch | Leaf) -> Iterator[Leaf]:
    if isinstance(node, Leaf):
        yield node
    else:
        for child in node.children:
            yield from _leaves(child)


def _build(node: _Branch | Leaf, arrays: Iterator[NDArray[Any]]) -> Any:
    if isinstance(node, Leaf):
        array = next(arrays)
        if node.form == "array":
            return array
        return array.item() if node.form == "number" else array[()]
    parts = [_build(child, arrays) for child in node.children]
    if node.kind is dict:
        return dict(zip(node.keys, parts, strict=True))
    if node.kind in (list, tuple):
        return node.kind(parts)
    return node.kind(*parts)  # a named tuple


def _array(value: Any, path: str, client: str) -> tuple[NDArray[Any], Form]:
    form: Form = "array"
    if isinstance(value, int | float) and not isinstance(value, bool | np.generic):
        form = "number"
    elif isinstance(value, np.generic):
        form = "scalar"
    elif not isinstance(value, np.ndarray):
        value = _from_tensor(value, path, client)
    array: NDArray[Any] = np.asarray(value)
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8 or isinstance(value, np.ma.MaskedArray):
        what = "a masked array" if isinstance(value, np.ma.MaskedArray) else f"{array.dtype}"
        raise ShapeError(f"{_at(path)}expected {_TAKEN} from {client}, got {what}; convert before")
    return array, form


def _from_tensor(value: Any, path: str, client: str) -> Any:
    # A tensor of PyTorch's gives its numbers when it is out of the graph and in the main memory.
    for step in ("detach", "cpu", "numpy"):
        method = getattr(value, step, None)
        if callable(method):
            try:
                value = method()
            except (TypeError, ValueError, RuntimeError) as error:  # such as for bfloat16
                raise ShapeError(
                    f"{_at(path)}the {type(value).__name__} of {client} gives no array: {error}"
                ) from None
    if not hasattr(value, "__array__"):
        raise ShapeError(
            f"{_at(path)}expected arrays, or dictionaries, lists and tuples of arrays, from {client}, got "
            f"{type(value).__name__}"
        )
    return value


def _kind(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return "a dictionary" if isinstance(value, Mapping) else f"a {type(value).__name__}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _at(path: str) -> str:
    return f"at {path}: " if path else ""
