"""What holds arrays: dictionaries, lists, tuples, and whatever gives its arrays names.

    by name    dictionaries, named tuples, dataclasses, structured arrays of numpy; DataFrames of pandas and polars, tables
               and record batches of Arrow, Datasets of xarray
    by place   lists and tuples

As in `forms`, no package is imported for this.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from secagg.updates.forms import Place, belongs
from secagg.updates.labels import check_distinct

_INDEX_COLUMN: Final = "__index_level_"  # what Arrow calls a column that was an index of pandas


@dataclass(frozen=True, slots=True)
class Container:
    """A container and what is in it.

    Attributes:
      kind: for people.
      match: two containers hold the same if these are equal.
      keys: names of its parts; positions in a list.
      parts: in that order.
      wrap: makes such a container of other parts, in the order of keys.
      called: what its keys are called, if parts are matched by them.
    """

    kind: str
    match: Any
    keys: tuple[Any, ...]
    parts: tuple[Any, ...] = field(repr=False)
    wrap: Callable[[Sequence[Any]], Any] = field(repr=False)
    called: str | None


def container_of(value: Any, place: Place) -> Container | None:
    """Return a container with its parts; None where it is none.

    Raises:
      ShapeError: parts that cannot be told from each other by their names.
    """
    if isinstance(value, np.ndarray | np.generic):
        return None if value.dtype.names is None else _structured(value, place)
    if isinstance(value, dict):
        return _mapping(value)
    if isinstance(value, list | tuple):
        return _sequence(value)
    if belongs(value, "xarray", "Dataset"):
        names = tuple(value.data_vars)
        wrap = _of_package(
            "xarray", lambda xarray, parts: xarray.Dataset(dict(zip(names, parts, strict=True)))
        )
        return _named(value, "a Dataset of xarray", names, [value[name] for name in names], wrap)
    if belongs(value, "pandas", "DataFrame"):
        return _pandas(value, place)
    if belongs(value, "polars", "DataFrame"):
        wrap = _of_package("polars", lambda polars, parts: polars.DataFrame(list(parts)))
        return _named(value, "a DataFrame of polars", value.columns, value.get_columns(), wrap)
    if belongs(value, "pyarrow", "Table", "RecordBatch"):
        return _arrow(value, place)
    if isinstance(value, Mapping):
        return _mapping(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and not hasattr(value, "__array__"):
        return _dataclass(value, place)
    return None


def _named(
    value: Any, kind: str, keys: Sequence[Any], parts: Sequence[Any], wrap: Callable[[Sequence[Any]], Any]
) -> Container:
    return Container(kind, type(value), tuple(keys), tuple(parts), wrap, "columns")


def _of_package(package: str, build: Callable[[Any, Sequence[Any]], Any]) -> Callable[[Sequence[Any]], Any]:
    return lambda parts: build(sys.modules[package], parts)


def _mapping(value: Mapping[Any, Any]) -> Container:
    keys = tuple(value)
    parts = tuple(value[key] for key in keys)
    return Container("a dictionary", dict, keys, parts, lambda new: dict(zip(keys, new, strict=True)), "keys")


def _sequence(value: list[Any] | tuple[Any, ...]) -> Container:
    kind: Any = type(value)
    if hasattr(kind, "_fields"):
        names = tuple(kind._fields)
        return Container(f"a {kind.__name__}", kind, names, tuple(value), lambda new: kind(*new), "fields")
    count = len(value)
    keys = tuple(range(count))
    return Container(f"a {kind.__name__} of {count}", (kind, count), keys, tuple(value), kind, None)


def _dataclass(value: Any, place: Place) -> Container:
    fields = dataclasses.fields(value)
    kind = type(value).__name__
    if not all(one.init for one in fields):
        place.refuse(
            f"expected a dataclass that can be made of its fields from {place.client}, and {kind} has some with init=False; "
            "convert it to a dictionary"
        )
    names = tuple(one.name for one in fields)
    parts = tuple(getattr(value, name) for name in names)

    def wrap(new: Sequence[Any]) -> Any:
        return dataclasses.replace(value, **dict(zip(names, new, strict=True)))

    return Container(f"a {kind}", type(value), names, parts, wrap, "fields")


def _structured(value: Any, place: Place) -> Container:
    if isinstance(value, np.ma.MaskedArray):
        place.refuse(
            f"expected numbers in every place from {place.client}, got a masked array; fill it before"
        )
    names = value.dtype.names
    shape, is_row, is_record = value.shape, isinstance(value, np.void), isinstance(value, np.recarray)

    def wrap(new: Sequence[Any]) -> Any:
        parts = [np.asarray(part) for part in new]
        fields = [(n, part.dtype, part.shape[len(shape) :]) for n, part in zip(names, parts, strict=True)]
        array: Any = np.empty(shape, np.dtype(fields))
        for name, part in zip(names, parts, strict=True):
            array[name] = part
        if is_row:
            return array[()]
        return array.view(np.recarray) if is_record else array

    # Of a record array a field is one too, which is more than its numbers.
    parts = tuple(value[name] if is_row else np.asarray(value)[name] for name in names)
    return Container("a structured array", "structured", names, parts, wrap, "fields")


def _pandas(value: Any, place: Place) -> Container:
    columns = value.columns
    check_distinct(columns, place.refuse_labels)
    parts = tuple(value.iloc[:, i] for i in range(len(columns)))

    def wrap(new: Sequence[Any]) -> Any:
        frame = sys.modules["pandas"].DataFrame(dict(enumerate(new)), index=value.index)
        frame.columns = columns
        return frame

    return Container("a DataFrame of pandas", "DataFrame of pandas", tuple(columns), parts, wrap, "columns")


def _arrow(value: Any, place: Place) -> Container:
    names, kind = value.schema.names, type(value)
    if len(set(names)) != len(names):
        place.refuse_labels("expected distinct names of columns; rename those that come twice")
    for name in names:
        if name.startswith(_INDEX_COLUMN):
            place.refuse_labels(
                f"the column {name!r:.40} is an index of pandas, whose labels are no numbers to add; give the DataFrame "
                "itself, or drop the column"
            )
    return _named(
        value,
        f"a {kind.__name__} of Arrow",
        names,
        value.columns,
        lambda new: kind.from_arrays(list(new), names=names),
    )
