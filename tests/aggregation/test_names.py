"""What carries names is matched by them, and comes back with them; what cannot be matched is refused.

The module is long because each of the libraries whose objects carry names has its cases here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest

import secagg
from secagg.errors import SecaggError, ShapeError, UsageError

pd = pytest.importorskip("pandas", reason="pandas objects need pandas")


def total(*updates: Any, **options: Any) -> Any:
    return secagg.sum(
        {f"c{i}": update for i, update in enumerate(updates)}, **{"clip": 100.0, **options}
    ).value


# pandas.


def test_columns_of_dataframes_are_matched_by_name() -> None:
    a = pd.DataFrame({"count": [1, 2], "amount": [10.0, 20.0]}, index=["north", "south"])
    b = pd.DataFrame({"amount": [30.0, 40.0], "count": [3, 4]}, index=["south", "north"])
    found = total(a, b)
    pd.testing.assert_frame_equal(found, a.add(b)[["count", "amount"]], rtol=1e-4)
    assert found["count"].tolist() == [5, 5]


@pytest.mark.parametrize("protocol", ["masked", "additive", "bounded", "rlwe"])
def test_series_are_matched_by_label_under_every_protection(protocol: str) -> None:
    a = pd.Series([1, 2, 3], index=["n", "s", "w"], name="count")
    b = pd.Series([10, 20, 30], index=["w", "n", "s"], name="count")
    pd.testing.assert_series_equal(
        total(a, b, protocol=protocol), pd.Series([21, 32, 13], index=["n", "s", "w"], name="count")
    )


def test_series_in_containers_are_matched_by_label() -> None:
    a, b = (pd.Series([1.0, 2.0], index=list(index)) for index in ("ab", "ba"))
    found = secagg.mean([{"x": [a]}, {"x": [b]}], [1, 3], max_weight=3, clip=2.0)
    pd.testing.assert_series_equal(found.value["x"][0], pd.Series([1.75, 1.25], index=list("ab")), atol=1e-5)


def test_labels_of_several_levels_and_times_are_matched() -> None:
    pairs = pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["who", "when"])
    a = pd.Series([1, 2, 3], index=pairs)
    assert total(a, a.iloc[::-1]).tolist() == [2, 4, 6]
    days = pd.date_range("2026-01-01", periods=3)
    b = pd.Series([1, 2, 3], index=days)
    found = total(b, b.iloc[[2, 0, 1]])
    assert found.tolist() == [2, 4, 6]
    assert found.index.equals(days)


def test_columns_of_several_levels_come_back() -> None:
    columns = pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")])
    a = pd.DataFrame([[1, 2]], columns=columns)
    found = total(a, a[a.columns[::-1]])
    assert found.columns.equals(columns)
    assert found.to_numpy().tolist() == [[2, 4]]


def test_dtypes_of_pandas_come_back() -> None:
    a = pd.DataFrame(
        {"whole": pd.array([1, 2], dtype="Int16"), "part": pd.array([1.5, 2.5], dtype="Float32")}
    )
    found = total(a, a)
    assert found.dtypes.astype(str).tolist() == ["Int16", "Float32"]
    assert found["whole"].tolist() == [2, 4]
    average = secagg.mean([a, a], clip=4.0).value
    assert average.dtypes.astype(str).tolist() == ["float64", "Float32"]


def test_clips_go_by_the_names_of_columns() -> None:
    a = pd.DataFrame({"small": [5.0, 0.5], "large": [50.0, 5.0]})
    found = secagg.sum([a, a], clip={"small": 1.0, "large": 100.0})
    assert found.value["small"].tolist() == pytest.approx([2.0, 1.0], abs=1e-5)
    assert found.report.clipped == {"client0": 1, "client1": 1}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (pd.Series([1, 2], index=["n", "x"]), r"labels 'n', 's', got labels without 's'"),
        (pd.Series([1, 2, 3], index=["n", "s", "w"]), "got labels with 'w' as well"),
        (
            pd.Series([1, 2], index=["n", "n"]),
            "c1's update: expected distinct labels, got more than once: 'n'",
        ),
        (pd.Series([1, 2]), "got labels without"),
        (
            pd.Series([1, 2], index=pd.Index(["n", "s"], name="office")),
            "called 'region', got labels called 'office'",
        ),
        (pd.Series([1, 2], index=["n", "s"], name="amounts"), "expected the name 'counts', got 'amounts'"),
        (
            np.array([1, 2]),
            "expected a Series of pandas, got an array without labels; give labels to all or to none",
        ),
        (pd.DataFrame({"a": [1, 2]}), "got a DataFrame of pandas"),
        (pd.Series([1, None], index=["n", "s"], dtype="Int64"), "a Series with missing values; fill or drop"),
        (pd.Series([True, False], index=["n", "s"]), "got bool"),
        (pd.Series(["1", "2"], index=["n", "s"]), "c1, got a Series of str|got object"),
        (pd.Series(["a", "b"], index=["n", "s"], dtype="category"), "got a Series of category"),
        (pd.Series([1, 2], index=["n", "s"], dtype="Sparse[int64]"), r"got a Series of Sparse\[int64, 0\]"),
        (pd.Series(pd.date_range("2026", periods=2), index=["n", "s"]), "got datetime64"),
        (pd.Series([1.0, 2.0], index=["n", "s"]), "expected int64 of shape .2,., got float64"),
    ],
)
def test_a_series_that_cannot_be_matched_is_refused(other: Any, said: str) -> None:
    first = pd.Series([1, 2], index=pd.Index(["n", "s"], name="region"), name="counts")
    with pytest.raises(ShapeError, match=said):
        total(first, other)


def test_dataframes_that_cannot_be_matched_are_refused() -> None:
    a = pd.DataFrame({"x": [1, 2], "y": [3, 4]})
    with pytest.raises(
        ShapeError, match="c1's update differs from c0's: expected columns x, y, got columns without y"
    ):
        total(a, a[["x"]])
    with pytest.raises(ShapeError, match="expected distinct labels, got more than once: 'x'"):
        total(a.set_axis(["x", "x"], axis=1), a)
    with pytest.raises(ShapeError, match="expected a DataFrame of pandas, got a ndarray"):
        total(a, a.to_numpy())
    with pytest.raises(ShapeError, match="two parts of the path '0'"):
        total(*[a.set_axis([0, "0"], axis=1)] * 2)


def test_a_number_that_is_none_is_named_by_its_label() -> None:
    a = pd.Series([1.0, 2.0], index=["n", "s"])
    with pytest.raises(
        SecaggError, match="c1's update: 1 of 2 numbers are NaN or infinite, the first at 's'"
    ):
        total(a, pd.Series([np.nan, 1.0], index=["s", "n"]))


# Clients in an index.


def test_the_index_of_updates_names_the_clients() -> None:
    numbers = pd.Series([1.0, 2.0, 4.0, 8.0], index=["al", "bo", "cy", "dy"])
    found = secagg.sum(numbers, clip=8.0, simulate_dropouts=["bo"])
    assert found.report.contributors == ("al", "cy", "dy")
    rows = pd.DataFrame({"x": [1, 2], "y": [3, 4]}, index=["al", "bo"])
    found = secagg.sum(rows, clip=4)
    pd.testing.assert_series_equal(found.value, pd.Series([3, 7], index=["x", "y"]))
    assert found.report.contributors == ("al", "bo")
    assert secagg.sum(rows.reset_index(drop=True), clip=4).report.contributors == ("client0", "client1")
    assert secagg.sum(dict(rows.iterrows()), clip=4).value.tolist() == [3, 7]


@pytest.mark.parametrize(
    ("updates", "options", "said"),
    [
        (pd.Series([1.0, 2.0], index=["a", "a"]), {}, "distinct names, got more than once: a"),
        (pd.Series([1.0, 2.0], index=[7, 8]), {}, "a client's name is text"),
        (
            pd.Series([1.0, 2.0], index=["a", "b"]),
            {"names": ["x", "y"]},
            "index of the updates names the clients",
        ),
        (pd.DataFrame({"x": [1, 2], "y": [0.5, 1]}), {}, "columns of one dtype, got 2"),
        ([1.0, 2.0], {"names": {"x", "y"}}, "names in the order of the updates, in a list, got a set"),
        ([1.0, 2.0], {"names": "xy"}, "in a list, got a str"),
    ],
)
def test_names_that_say_nothing_clear_are_refused(updates: Any, options: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        secagg.sum(updates, clip=2.0, **options)


BY_NAME = {"al": 0.0, "bo": 4.0}
IN_ORDER = [0.0, 4.0]


@pytest.mark.parametrize("updates", [BY_NAME, pd.Series(BY_NAME)])
def test_weights_in_a_series_are_matched_by_name(updates: Any) -> None:
    found = secagg.mean(updates, pd.Series([3, 1], index=["bo", "al"]), max_weight=3, clip=4.0)
    assert found.value == pytest.approx(3.0, abs=1e-5)


def test_weights_that_are_numbered_belong_to_the_updates_of_these_numbers() -> None:
    numbered = pd.Series([3, 1], index=[1, 0])
    assert secagg.mean(IN_ORDER, numbered, max_weight=3, clip=4.0).value == pytest.approx(3.0, abs=1e-5)
    assert secagg.mean(IN_ORDER, pd.Series([1, 3]), max_weight=3, clip=4.0).value == pytest.approx(
        3.0, abs=1e-5
    )


@pytest.mark.parametrize(
    ("updates", "weights", "said"),
    [
        (BY_NAME, pd.Series([1, 3]), "a Series that is only numbered; set the index, or pass its tolist"),
        (BY_NAME, pd.Series([1, 3], index=[1, 0]), "got none for 'al', 'bo'"),
        (BY_NAME, pd.Series([1, 3], index=["al", "cy"]), "got none for 'bo'"),
        (BY_NAME, pd.Series([1, 3, 2], index=["al", "bo", "cy"]), "got one for 'cy'"),
        (BY_NAME, pd.Series([1, 3, 2], index=["al", "bo", "bo"]), "got more than one for 'bo'"),
        (IN_ORDER, pd.Series([1, 3], index=["al", "bo"]), "got none for 'client0'"),
        (IN_ORDER, pd.Series([1, 3], index=[5, 6]), "got none for 'client0'"),
        (IN_ORDER, pd.DataFrame({"w": [1, 3]}), "got a DataFrame; pass one column"),
        (IN_ORDER, {1, 3}, "weights in the order of the updates, in a list, got a set"),
        (IN_ORDER, "13", "got a str"),
        (IN_ORDER, 3, "got a int"),
    ],
)
def test_weights_that_belong_to_nobody_are_refused(updates: Any, weights: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        secagg.mean(updates, weights, max_weight=3, clip=4.0)


# polars and Arrow.


@pytest.mark.slow
def test_dataframes_of_polars_are_matched_by_column() -> None:
    pl = pytest.importorskip("polars", reason="polars objects need polars")
    a = pl.DataFrame({"x": [1, 2], "y": [0.5, 1.0]}, schema={"x": pl.Int16, "y": pl.Float32})
    found = total(a, a.select("y", "x"))
    assert isinstance(found, pl.DataFrame)
    assert found.schema == a.schema
    assert found["x"].to_list() == [2, 4]
    series = total(pl.Series("n", [1, 2]), pl.Series("n", [3, 4]))
    assert series.equals(pl.Series("n", [4, 6]), check_names=True)
    assert secagg.mean(IN_ORDER, pl.Series([1, 3]), max_weight=3, clip=4.0).value == pytest.approx(
        3.0, abs=1e-5
    )


@pytest.mark.slow
def test_what_polars_cannot_match_is_refused() -> None:
    pl = pytest.importorskip("polars", reason="polars objects need polars")
    a = pl.DataFrame({"x": [1, 2]})
    for other, said in (
        (pl.DataFrame({"y": [1, 2]}), "columns without x"),
        (pl.DataFrame({"x": [1, None]}), "at x: .*missing values"),
        (pl.DataFrame({"x": ["1", "2"]}), "at x: .*a Series of String"),
        (pl.DataFrame({"x": [1, 2]}, schema={"x": pl.Int128}), "at x: .*a Series of Int128"),
        (pl.DataFrame({"x": [1, 2]}, schema={"x": pl.Decimal(10, 2)}), "at x: .*a Series of Decimal"),
        (pl.DataFrame({"x": [True, False]}), "at x: .*a Series of Boolean"),
        (np.array([[1], [2]]), "expected a DataFrame of polars, got a ndarray"),
    ):
        with pytest.raises(ShapeError, match=said):
            total(a, other)
    with pytest.raises(ShapeError, match=r"got LazyFrame; convert it before, as by collect\(\)"):
        total(a.lazy(), a.lazy())
    with pytest.raises(ShapeError, match="expected the name 'n', got 'm'"):
        total(pl.Series("n", [1]), pl.Series("m", [1]))


def test_tables_of_arrow_are_matched_by_column() -> None:
    pa = pytest.importorskip("pyarrow", reason="Arrow's objects need pyarrow")
    columns = {"x": pa.array([1, 2], pa.int16()), "y": pa.array([0.5, 1.0], pa.float32())}
    for make in (pa.table, pa.RecordBatch.from_pydict):
        a, b = make(columns), make(dict(reversed(columns.items())))
        found = total(a, b)
        assert type(found) is type(a)
        assert found.schema == a.schema
        assert found.column("x").to_pylist() == [2, 4]
    assert total(columns["x"], columns["x"]).equals(pa.array([2, 4], pa.int16()))
    chunked = pa.chunked_array([[1], [2]])
    assert total(chunked, chunked).equals(pa.chunked_array([[2, 4]]))
    weights = pa.array([1, 3])
    assert secagg.mean(IN_ORDER, weights, max_weight=3, clip=4.0).value == pytest.approx(3.0, abs=1e-5)


def test_what_arrow_cannot_match_is_refused() -> None:
    pa = pytest.importorskip("pyarrow", reason="Arrow's objects need pyarrow")
    a = pa.table({"x": [1, 2]})
    for other, said in (
        (pa.table({"y": [1, 2]}), "columns without x"),
        (pa.table({"x": [1, None]}), "at x: .*missing values"),
        (pa.table({"x": [True, False]}), "at x: .*an Arrow array of bool"),
        (pa.table({"x": ["a", "b"]}), "at x: .*an Arrow array of string"),
        (
            pa.Table.from_arrays([pa.array([1, 2])] * 2, names=["x", "x"]),
            "expected distinct names of columns",
        ),
        (pa.table({"x": [1, 2], "__index_level_0__": [7, 8]}), "'__index_level_0__' is an index of pandas"),
        (pa.RecordBatch.from_pydict({"x": [1, 2]}), "expected a Table of Arrow, got a RecordBatch of Arrow"),
    ):
        with pytest.raises(ShapeError, match=said):
            total(a, other)


# xarray.


@pytest.mark.slow
def test_axes_and_labels_of_xarray_are_matched() -> None:
    xr = pytest.importorskip("xarray", reason="xarray objects need xarray")
    a = xr.DataArray(
        [[1, 2, 3], [4, 5, 6]],
        dims=("day", "place"),
        coords={"day": ["mo", "tu"], "place": ["n", "s", "w"]},
        name="n",
    )
    found = total(a, a.T.isel(place=[2, 0, 1], day=[1, 0]).assign_coords(source="another"))
    xr.testing.assert_identical(found, 2 * a)
    data = xr.Dataset({"n": a, "mean": a / 2})
    xr.testing.assert_identical(
        total(data, data[["mean", "n"]].isel(day=[1, 0])).map(lambda x: x.round(4)), 2 * data
    )
    bare = xr.DataArray([1, 2], dims="x")
    xr.testing.assert_identical(total(bare, bare), 2 * bare)
    levels = a.stack(both=("day", "place"))
    xr.testing.assert_identical(total(levels, levels[::-1]), 2 * levels)
    weights = xr.DataArray([3, 1], dims="who", coords={"who": ["bo", "al"]})
    assert secagg.mean(BY_NAME, weights, max_weight=3, clip=4.0).value == pytest.approx(3.0, abs=1e-5)


@pytest.mark.slow
def test_what_xarray_cannot_match_is_refused() -> None:
    xr = pytest.importorskip("xarray", reason="xarray objects need xarray")
    a = xr.DataArray([1, 2], dims="x", coords={"x": ["n", "s"]})
    for other, said in (
        (xr.DataArray([1, 2], dims="x"), "expected labels along 'x', got none"),
        (xr.DataArray([1, 2], dims="y", coords={"y": ["n", "s"]}), "expected axes 'x', got 'y'"),
        (xr.DataArray([1, 2], dims="x", coords={"x": ["n", "w"]}), "along 'x', got labels without 's'"),
        (xr.DataArray([1, 2], dims="x", coords={"x": ["n", "n"]}), "expected distinct labels"),
        (
            xr.DataArray([1, 2], dims="x", coords={"who": ("x", ["n", "s"])}),
            "coordinate 'who' labels an axis",
        ),
        (np.array([1, 2]), "an array without labels"),
        (pd.Series([1, 2], index=["n", "s"]), "expected a DataArray of xarray, got a Series of pandas"),
        (xr.Variable("x", [1, 2]), "a Variable carries dims"),
    ):
        with pytest.raises(ShapeError, match=said):
            total(a, other)


# What Python and numpy name.


class Pair(NamedTuple):
    left: Any
    right: Any


class Other(NamedTuple):
    right: Any
    left: Any


@dataclass
class Model:
    weight: Any
    bias: Any


@dataclass
class Derived:
    weight: Any
    norm: float = field(init=False, default=0.0)


def test_fields_of_structured_arrays_are_matched_by_name() -> None:
    a = np.array([(1, 2.0), (3, 4.0)], [("n", "i4"), ("x", "f8")])
    b = np.array([(10.0, 5), (30.0, 6)], [("x", "f8"), ("n", "i4")])
    found = total(a, b)
    assert found.dtype == a.dtype
    assert found["n"].tolist() == [6, 9]
    assert found["x"] == pytest.approx([12, 34], abs=1e-3)
    assert total(a[0], b[0])["n"] == 6
    records = total(a.view(np.recarray), b)
    assert isinstance(records, np.recarray)
    assert records.n.tolist() == [6, 9]
    nested = np.zeros(2, [("v", "f4", (3,)), ("in", [("k", "u1")])])
    nested["in"]["k"] = 7
    both = total(nested, nested)
    assert both.dtype == nested.dtype
    assert both["in"]["k"].tolist() == [14, 14]
    with pytest.raises(ShapeError, match="expected fields n, x, got fields without x"):
        total(a, np.zeros(2, [("n", "i4"), ("y", "f8")]))
    with pytest.raises(ShapeError, match="expected a structured array, got a ndarray"):
        total(a, np.zeros(2))


def test_fields_of_tuples_and_dataclasses_name_their_parts() -> None:
    found = secagg.sum([Pair(np.ones(2), 1)] * 2, clip={"left": 0.5, "right": 1})
    assert isinstance(found.value, Pair)
    assert found.value.left.tolist() == [1, 1]
    assert found.value.right == 2
    with pytest.raises(ShapeError, match="expected a Pair, got a Other"):
        total(Pair(1, 2), Other(1, 2))
    model = total(Model(np.ones(2), 1), Model(bias=2, weight=np.zeros(2)))
    assert isinstance(model, Model)
    assert (model.weight.tolist(), model.bias) == ([1, 1], 3)
    with pytest.raises(ShapeError, match="Derived has some with init=False"):
        total(Derived(1.0), Derived(1.0))
    with pytest.raises(ShapeError, match="expected a Model, got a dictionary"):
        total(Model(1, 2), {"weight": 1, "bias": 2})
    with pytest.raises(UsageError, match="a Pair, whose fields are names"):
        secagg.sum(Pair(1.0, 2.0), clip=2.0)


class Quantity(np.ndarray):
    """Carries a unit, as astropy's do."""


class Columned:
    """A table of a package that nobody here knows."""

    columns = ("a", "b")

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.zeros((2, 2))


@pytest.mark.parametrize(
    ("leaf", "said"),
    [
        (np.ones(2).view(Quantity), "a Quantity may carry more; convert it before, as by numpy.asarray"),
        (Columned(), "a Columned carries columns"),
        (np.ma.array(np.zeros(2, [("a", "f8")])), "masked array"),
        (np.array(["2026"], "M8[D]"), "got datetime64"),
        (np.array([1, 2], object), "got object"),
    ],
)
def test_what_carries_more_than_numbers_is_refused(leaf: Any, said: str) -> None:
    with pytest.raises(ShapeError, match=said):
        total(leaf, leaf)


def test_sparse_matrices_are_refused_with_what_to_do() -> None:
    sparse = pytest.importorskip("scipy.sparse", reason="sparse matrices need scipy")
    with pytest.raises(ShapeError, match=r"convert it before, as by toarray\(\)"):
        total(sparse.eye_array(3), sparse.eye_array(3))


# Paths.


@pytest.mark.parametrize(
    "update",
    [
        {"a/b": 1.0, "a": {"b": 100.0}},
        {"a": {"b": 100.0}, "a/b": {"c": 1.0}},
        {0: 1.0, "0": 100.0},
        [{1: 1.0, "1": 2.0}],
        {"a": {"": 1.0, "''": 2.0}},
    ],
)
def test_two_parts_of_one_path_are_refused(update: Any) -> None:
    with pytest.raises(ShapeError, match=r"two parts of the path .*: rename"):
        total(update, update, clip="max")


def test_an_empty_name_is_no_rest() -> None:
    update = {"": 1.0, "b": 50.0}
    found = secagg.sum([update, update], clip={"''": 1.0, "": 100.0})
    assert found.value[""] == pytest.approx(2.0, abs=1e-5)
    assert found.value["b"] == pytest.approx(100.0, abs=1e-3)


def test_a_clip_is_for_what_lies_below_and_not_for_what_is_spelled_so() -> None:
    update = {"a": {"x": 50.0}, "a/b": 50.0}
    found = secagg.sum([update, update], clip={"a": 1.0, "": 100.0})
    assert found.value["a"]["x"] == pytest.approx(2.0, abs=1e-5)
    assert found.value["a/b"] == pytest.approx(100.0, abs=1e-3)
    key: Any
    for key, said in (
        ("a/c", "where the updates have nothing"),
        (0, "expected clips by path, which is text"),
    ):
        with pytest.raises(UsageError, match=said):
            secagg.sum([update, update], clip={key: 1.0, "": 100.0})
