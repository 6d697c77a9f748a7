"""Updates of every form become lists of arrays and come back."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from secagg.errors import ShapeError
from secagg.updates.structure import Structure

DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")


class Pair(NamedTuple):
    left: Any
    right: Any


# Digits in texts or slashes could make two parts of one path, which is refused.
KEYS = st.text(st.characters(exclude_characters="/'0123456789"), max_size=3) | st.integers(0, 9)

arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
leaves = arrays | st.integers(-(2**40), 2**40) | st.floats(-8, 8) | arrays.map(lambda a: a.dtype.type(3))
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.tuples(inner, inner)
        | st.builds(Pair, inner, inner)
    ),
    max_leaves=6,
)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return type(b) is dict and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray | np.generic):
        return (
            type(a) is type(b)
            and a.dtype == b.dtype
            and a.shape == b.shape
            and bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
        )
    return type(a) is type(b) and a == b


@pytest.mark.slow
@given(trees)
@settings(deadline=None)
def test_whatever_goes_in_comes_back(update: Any) -> None:
    # What has no numbers at all is refused.
    update = [update, 1.0]
    structure = Structure(update, "a")
    flat = structure.flatten(update, "a")
    assert [leaf.size for leaf in structure.leaves] == [array.size for array in flat]
    assert same(structure.build(flat), update)


def test_paths_name_keys_and_positions() -> None:
    structure = Structure({"a": [1, (2, {"b": 3.0})], 7: np.zeros(2)}, "x")
    assert [leaf.path for leaf in structure.leaves] == ["a/0", "a/1/0", "a/1/1/b", "7"]


def test_keys_may_come_in_another_order() -> None:
    structure = Structure({"a": np.zeros(2), "b": np.ones(3)}, "x")
    first, second = structure.flatten(OrderedDict(b=np.full(3, 5.0), a=np.full(2, 4.0)), "y")
    assert first.tolist() == [4, 4]
    assert second.tolist() == [5, 5, 5]


class Tensor:
    """Behaves as PyTorch's tensors do: gives no array while gradients go through it, or on another device."""

    def __init__(self, values: Any, *, graph: bool = True, device: str = "gpu", kind: str = "") -> None:
        self.values, self.graph, self.device, self.kind = np.asarray(values), graph, device, kind

    def detach(self) -> Tensor:
        return Tensor(self.values, graph=False, device=self.device, kind=self.kind)

    def cpu(self) -> Tensor:
        return Tensor(self.values, graph=self.graph, device="cpu", kind=self.kind)

    def numpy(self) -> Any:
        if self.graph or self.device != "cpu":
            raise RuntimeError("not in main memory, or in a graph")
        if self.kind:
            raise TypeError(f"Got unsupported ScalarType {self.kind}")
        return self.values


class Variable:
    """Turns into an array, as Keras's variables do."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.arange(3, dtype=np.float32)


def test_tensors_and_variables_become_arrays() -> None:
    structure = Structure({"t": Tensor([1.5, 2.5]), "v": Variable()}, "x")
    assert [str(leaf) for leaf in structure.leaves] == ["float64 of shape (2,)", "float32 of shape (3,)"]


def test_a_tensor_that_gives_no_array_is_named() -> None:
    with pytest.raises(ShapeError, match=r"at t: the Tensor of x gives no array.*BFloat16"):
        Structure({"t": Tensor([1.0], kind="BFloat16")}, "x")


def test_the_other_byte_order_is_the_same_dtype() -> None:
    structure = Structure(np.zeros(2, ">f8"), "x")
    (array,) = structure.flatten(np.array([1.0, 2.0]), "y")
    assert structure.leaves[0].dtype == np.dtype("<f8")
    assert array.sum() == 3


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"w": [np.zeros((2, 2)), 1]}, r"at w/0: bo's .*expected float64 of shape \(2, 3\), got .*\(2, 2\)"),
        ({"w": [np.zeros((2, 3), "f4"), 1]}, "at w/0: bo's .*expected float64 .*got float32"),
        (
            {"w": [np.zeros((2, 3)), 1.0]},
            "at w/1: bo's .*expected int64 .*got float64 .*write 3.0 for 3, or pass",
        ),
        ({"w": [np.zeros((2, 3))]}, "at w: bo's .*expected a list of 2, got a list of 1"),
        ({"w": (np.zeros((2, 3)), 1)}, "at w: bo's .*expected a list of 2, got a tuple of 2"),
        ({"w": {}}, "at w: bo's .*expected a list of 2, got a dictionary"),
        ({"v": 1}, "bo's update differs from al's: expected keys w, got keys without w"),
        ({"w": [np.zeros((2, 3)), 1], "v": 1}, "got keys with v as well"),
        (np.zeros(3), "bo's .*expected a dictionary, got a ndarray"),
        ({"w": [[1.0], 1]}, "at w/0: bo's .*got a list of 1"),
    ],
)
def test_another_structure_is_refused_with_client_and_path(other: Any, said: str) -> None:
    structure = Structure({"w": [np.zeros((2, 3)), 1]}, "al")
    with pytest.raises(ShapeError, match=said):
        structure.flatten(other, "bo")


@pytest.mark.parametrize(
    "leaf",
    [
        True,
        "1.0",
        None,
        1j,
        2**70,
        np.zeros(2, "c8"),
        np.zeros(2, bool),
        np.array(["a"]),
        np.zeros(2, np.longdouble),
        np.ma.array([1.0, 2.0], mask=[True, False]),
        object(),
    ],
)
def test_what_is_no_array_of_numbers_is_refused_with_client_and_path(leaf: Any) -> None:
    with pytest.raises(ShapeError, match=r"at a/0: expected .* from x, got"):
        Structure({"a": [leaf]}, "x")


@pytest.mark.parametrize("nothing", [{}, [], np.zeros((0, 3)), {"a": [np.zeros(0)]}])
def test_an_update_without_numbers_is_refused(nothing: Any) -> None:
    with pytest.raises(ShapeError, match="no numbers in the update of x"):
        Structure(nothing, "x")
