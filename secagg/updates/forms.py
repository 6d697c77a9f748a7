"""What an array comes as, and what the result comes back as.

    form              numbers of                         comes back as
    number            Python's int and float             the same
    scalar, array     numpy                              the same; subclasses that carry nothing as plain arrays
    tensor            torch                              a tensor of the dtype and on the device of the first client's
    jax array         jax                                the same, with its sharding
    Series            pandas, polars                     the same, with labels and name
    DataArray         xarray                             the same, with axes, labels and name, without other coordinates
    Array, ChunkedArray  Arrow                           the same
    other             what numpy makes an array of       an array of numpy's

bfloat16 is taken from whatever library; numbers are float32 on the way, and are rounded to it at the end. Whatever else
carries more than numbers (a unit, a mask, missing values, names that nobody here understands) is refused.

None of these packages is imported: what belongs to one that has not been imported cannot be here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from secagg.errors import ShapeError
from secagg.updates.labels import Axis, Labels, check_distinct

_TAKEN: Final = "float16, bfloat16, float32, float64 and integers of up to 64 bits"
_WIDE: Final = np.dtype(np.float64)
_PLAIN: Final = (np.ndarray, np.memmap, np.matrix)
# Attributes of objects that are more than their numbers.
_CARRIERS: Final = ("iloc", "columns", "column_names", "coords", "dims", "unit", "units")
_EXITS: Final = ("to_dense", "toarray", "todense", "collect", "to_numpy")
_NUMBERS: Final = frozenset(
    [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
    + ["float16", "float32", "float64"]
)


@dataclass(frozen=True, slots=True)
class Form:
    """What an array came as.

    Attributes:
      kind: for people.
      wrap: makes a result of it, from an array of the leaf's dtype or the one for means.
      labels: of axes; None without.
      name: of the whole; None without.
      bfloat16: its numbers are shorter than the float32 that they are taken as.
      mean_dtype: of means of integers.
    """

    kind: str
    wrap: Callable[[NDArray[Any]], Any] = field(compare=False, repr=False)
    labels: Labels | None = field(default=None, compare=False, repr=False)
    name: Any = field(default=None, compare=False)
    bfloat16: bool = False
    mean_dtype: np.dtype[Any] = _WIDE


_ARRAY: Final = Form("array", lambda array: array)


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is: whose update, and where in it."""

    path: str
    client: str

    def refuse(self, text: str) -> NoReturn:
        """Raise an error that names the place.

        Raises:
          ShapeError: always.
        """
        raise ShapeError(f"{at(self.path)}{text}")

    def refuse_labels(self, text: str) -> NoReturn:
        """Raise an error about labels, that names the place.

        Raises:
          ShapeError: always.
        """
        self.refuse(f"{self.client}'s update: {text}")


def at(path: str) -> str:
    """Return a path as the beginning of a message."""
    return f"at {path}: " if path else ""


def belongs(value: Any, package: str, *names: str) -> bool:
    """Return whether a value is of one of a package's classes."""
    module = sys.modules.get(package)
    classes = tuple(c for c in (getattr(module, name, None) for name in names) if isinstance(c, type))
    return isinstance(value, classes)


def take(value: Any, place: Place) -> tuple[NDArray[Any], Form]:
    """Return a value's numbers and its form.

    Raises:
      ShapeError: no numbers, numbers of another dtype, or what carries more than numbers.
    """
    array, form = (value, _ARRAY) if type(value) is np.ndarray else _take(value, place)
    if array.dtype.kind == "V" and array.dtype.name == "bfloat16":
        array, form = _from_short(array, form)
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8 or isinstance(array, np.ma.MaskedArray):
        what = "a masked array" if isinstance(array, np.ma.MaskedArray) else f"{array.dtype}"
        place.refuse(f"expected {_TAKEN} from {place.client}, got {what}; convert before")
    return array, form


def _take(value: Any, place: Place) -> tuple[NDArray[Any], Form]:
    if isinstance(value, int | float) and not isinstance(value, bool | np.generic):
        return np.asarray(value), Form("number", lambda array: array.item())
    if isinstance(value, np.generic):
        return np.asarray(value), Form("scalar", lambda array: array[()])
    if isinstance(value, np.ma.MaskedArray):
        return value, Form("masked array", lambda array: array)
    if isinstance(value, np.ndarray):
        if type(value) not in _PLAIN:
            kind = type(value).__name__
            place.refuse(
                f"expected numbers alone from {place.client}, and a {kind} may carry more; convert it before, as by "
                "numpy.asarray"
            )
        return np.asarray(value), _ARRAY
    if belongs(value, "pandas", "Series"):
        return _from_pandas(value, place)
    if belongs(value, "xarray", "DataArray"):
        return _from_xarray(value, place)
    if belongs(value, "polars", "Series"):
        return _from_polars(value, place)
    if belongs(value, "pyarrow", "Array", "ChunkedArray"):
        return _from_arrow(value, place)
    if belongs(value, "torch", "Tensor"):
        return _from_torch(value, place)
    if belongs(value, "jax", "Array"):
        return _from_jax(value, place)
    return _from_other(value, place)


def _from_short(array: NDArray[Any], form: Form) -> tuple[NDArray[Any], Form]:
    """Return bfloat16 as float32, in which sums of its numbers are rounded once more."""
    short, wrap = array.dtype, form.wrap
    # numpy's own arrays of it have to become so again; other libraries' know what they were.
    back = (
        (lambda numbers: wrap(numbers.astype(short))) if form.kind in ("array", "scalar", "other") else wrap
    )
    return array.astype(np.float32), Form(form.kind, back, form.labels, form.name, True, form.mean_dtype)


def _from_pandas(value: Any, place: Place) -> tuple[NDArray[Any], Form]:
    dtype, index, name = value.dtype, value.index, value.name
    check_distinct(index, place.refuse_labels)
    own = getattr(dtype, "numpy_dtype", dtype)  # of pandas' own dtypes that hold missing values
    if not isinstance(own, np.dtype):
        place.refuse(f"expected {_TAKEN} from {place.client}, got a Series of {dtype}; convert before")
    if own is not dtype and value.isna().any():
        place.refuse(
            f"expected numbers from {place.client}, got a Series with missing values; fill or drop them"
        )
    array = value.to_numpy(dtype=own)

    def wrap(numbers: NDArray[Any]) -> Any:
        kept = dtype if numbers.dtype == array.dtype else numbers.dtype
        return sys.modules["pandas"].Series(numbers, index=index, name=name, dtype=kept)

    return array, Form("Series", wrap, Labels("a Series of pandas", (Axis(None, index),)), name)


def _from_xarray(value: Any, place: Place) -> tuple[NDArray[Any], Form]:
    axes = tuple(Axis(dim, value.indexes.get(dim)) for dim in value.dims)
    for axis in axes:
        if axis.index is not None:
            check_distinct(axis.index, place.refuse_labels)
    bare = {axis.name for axis in axes if axis.index is None}
    for called, coordinate in value.coords.items():
        if bare.intersection(coordinate.dims):
            place.refuse_labels(
                f"the coordinate {called!r:.40} labels an axis without being its index, so nothing is matched by it; make "
                "it the index, as by swap_dims, or drop it"
            )

    def wrap(numbers: NDArray[Any]) -> Any:
        xarray = sys.modules["xarray"]
        array = xarray.DataArray(numbers, dims=value.dims, name=value.name)
        for axis in axes:
            if axis.index is not None and axis.index.nlevels > 1:
                array = array.assign_coords(xarray.Coordinates.from_pandas_multiindex(axis.index, axis.name))
            elif axis.index is not None:
                array = array.assign_coords({axis.name: axis.index})
        return array

    return value.to_numpy(), Form("DataArray", wrap, Labels("a DataArray of xarray", axes), value.name)


def _from_polars(value: Any, place: Place) -> tuple[NDArray[Any], Form]:
    if str(value.dtype).lower() not in _NUMBERS:
        place.refuse(f"expected {_TAKEN} from {place.client}, got a Series of {value.dtype}; convert before")
    if value.null_count():
        place.refuse(
            f"expected numbers from {place.client}, got a Series with missing values; fill or drop them"
        )
    name = value.name

    def wrap(numbers: NDArray[Any]) -> Any:
        return sys.modules["polars"].Series(name, numbers)

    return value.to_numpy(), Form("Series", wrap, name=name or None)


def _from_arrow(value: Any, place: Place) -> tuple[NDArray[Any], Form]:
    arrow: Any = sys.modules["pyarrow"]
    if not (arrow.types.is_integer(value.type) or arrow.types.is_floating(value.type)):
        place.refuse(
            f"expected {_TAKEN} from {place.client}, got an Arrow array of {value.type}; convert before"
        )
    if value.null_count:
        place.refuse(
            f"expected numbers from {place.client}, got an Arrow array with missing values; fill or drop them"
        )
    if isinstance(value, arrow.ChunkedArray):
        return value.to_numpy(), Form(
            "ChunkedArray", lambda numbers: arrow.chunked_array([arrow.array(numbers)])
        )
    return value.to_numpy(zero_copy_only=False), Form("Array", arrow.array)


def _from_torch(value: Any, place: Place) -> tuple[NDArray[Any], Form]:
    torch: Any = sys.modules["torch"]
    if any(name is not None for name in getattr(value, "names", ())):  # which only older releases have
        place.refuse(
            f"{place.client}'s tensor has named axes, by which nothing is matched; put them in one order, and take the "
            "names off by rename(None)"
        )
    if value.layout is not torch.strided:
        place.refuse(
            f"expected numbers in every place from {place.client}, got a sparse tensor; convert it by to_dense()"
        )
    dtype, device, short = value.dtype, value.device, value.dtype is torch.bfloat16
    try:
        tensor = value.detach().cpu()
        array = (tensor.float() if short else tensor).numpy()
    except (TypeError, ValueError, RuntimeError) as error:  # such as for float8, or on a device without data
        place.refuse(f"the Tensor of {place.client} gives no array: {error}")

    def wrap(numbers: NDArray[Any]) -> Any:
        kept = dtype if numbers.dtype == array.dtype else None
        return torch.from_numpy(np.array(numbers)).to(device=device, dtype=kept)

    # Apple's devices have no float64.
    wide = np.dtype(np.float32) if device.type == "mps" else _WIDE
    return array, Form("tensor", wrap, bfloat16=short, mean_dtype=wide)


def _from_jax(value: Any, place: Place) -> tuple[NDArray[Any], Form]:
    jax: Any = sys.modules["jax"]
    try:
        array = np.asarray(value)
    except (
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:  # such as while it is traced, or spread over machines
        place.refuse(f"the jax array of {place.client} gives no array: {str(error).splitlines()[0]}")
    dtype, sharding, wide = value.dtype, value.sharding, np.dtype(jax.dtypes.canonicalize_dtype(np.float64))
    taken = np.dtype(np.float32) if array.dtype.name == "bfloat16" else array.dtype

    def wrap(numbers: NDArray[Any]) -> Any:
        return jax.device_put(numbers.astype(dtype if numbers.dtype == taken else numbers.dtype), sharding)

    return array, Form("jax array", wrap, mean_dtype=wide)


def _from_other(value: Any, place: Place) -> tuple[NDArray[Any], Form]:
    kind = type(value).__name__
    gives = hasattr(value, "__array__") or callable(getattr(value, "numpy", None))
    for carried in _CARRIERS:
        if gives and hasattr(value, carried):
            place.refuse(
                f"expected numbers alone from {place.client}, and a {kind} carries {carried}; convert it before, as by "
                "numpy.asarray"
            )
    try:
        # Tensors of other libraries give their numbers when they are out of the graph and in the main memory.
        for step in ("detach", "cpu", "numpy"):
            method = getattr(value, step, None)
            if callable(method):
                value = method()
        array = np.asanyarray(value) if hasattr(value, "__array__") else None
    except (TypeError, ValueError, RuntimeError) as error:
        place.refuse(f"the {kind} of {place.client} gives no array: {error}")
    if array is None:
        way = next((f"; convert it before, as by {name}()" for name in _EXITS if hasattr(value, name)), "")
        place.refuse(
            f"expected arrays, or dictionaries, lists and tuples of arrays, from {place.client}, got {kind}{way}"
        )
    return array, Form("other", lambda numbers: numbers)
