"""Tensors come back as tensors, of the same dtype and in the same place; bfloat16 goes in and comes out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import secagg
from secagg.aggregation import Privacy
from secagg.errors import PlanError, ShapeError, UsageError
from secagg.updates.rounding import (
    LARGEST_BFLOAT16,
    half_spacing,
    rounded_down,
    rounded_up,
    to_floats,
    to_integers,
)

PROTOCOLS = ("masked", "bounded", "single-rlwe", "ckks")


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="tensors need torch")


@pytest.fixture
def jax() -> Any:
    return pytest.importorskip("jax", reason="jax arrays need jax")


@pytest.fixture
def short() -> Any:
    return pytest.importorskip("ml_dtypes", reason="bfloat16 in numpy needs ml_dtypes").bfloat16


def of(values: Any) -> np.ndarray[Any, Any]:
    return np.asarray(values, np.float64)


# bfloat16.


@pytest.mark.parametrize("name", PROTOCOLS)
def test_bfloat16_comes_back_within_the_stated_error(short: Any, protection: Any, name: str) -> None:
    choice: Any = "bounded" if name == "bounded" else protection(name)
    xs = np.random.default_rng(1).normal(size=(3, 50)).astype(short)
    exact = of(xs).sum(axis=0)
    for result, expected in (
        (secagg.sum(list(xs), protocol=choice, clip=8.0), exact),
        (secagg.mean(list(xs), protocol=choice, clip=8.0), exact / 3),
    ):
        assert result.value.dtype == np.dtype(short)
        assert np.max(np.abs(of(result.value) - expected)) <= result.report.error < 0.04


def test_bfloat16_scalars_and_noisy_sums_come_back(short: Any) -> None:
    pytest.importorskip("dp_accounting", reason="noise needs dp-accounting")
    result = secagg.sum([short(1.5), short(2.5)], clip=4.0)
    assert type(result.value) is short
    assert float(result.value) == 4.0
    noisy = secagg.sum([np.ones(4, short)] * 4, privacy=Privacy(50.0, 1e-5, 2.0))
    assert noisy.value.dtype == np.dtype(short)


def test_bfloat16_and_float32_are_not_the_same(short: Any) -> None:
    with pytest.raises(ShapeError, match=r"expected bfloat16 of shape \(2,\), got float32 of shape"):
        secagg.sum([np.ones(2, short), np.ones(2, np.float32)], clip=1.0)


def test_sums_that_bfloat16_does_not_hold_are_refused(short: Any) -> None:
    xs = [np.array([3e38], short)] * 2
    with pytest.raises(PlanError, match="do not fit bfloat16; convert"):
        secagg.sum(xs, clip=3e38)
    assert secagg.mean(xs, clip=3e38).value == xs[0]


def test_dtypes_that_are_too_short_are_refused(short: Any) -> None:
    import ml_dtypes

    with pytest.raises(ShapeError, match=r"expected float16, bfloat16.* got float8_e4m3fn; convert"):
        secagg.sum([np.ones(2, ml_dtypes.float8_e4m3fn)] * 2, clip=1.0)


def test_rounding_to_bfloat16_is_that_of_ml_dtypes(short: Any) -> None:
    words = np.random.default_rng(2).integers(0, 1 << 32, 10_000, np.uint32)
    numbers = words.view(np.float32)
    numbers = numbers[np.isfinite(numbers) & (np.abs(numbers) <= LARGEST_BFLOAT16)]
    ties = (words & np.uint32(0xFFFF0000) | np.uint32(0x8000)).view(np.float32)
    ties = ties[np.abs(ties) < LARGEST_BFLOAT16]
    for given in (numbers, ties):
        found = to_floats(given.astype(np.float64), np.dtype(np.float32), bfloat16=True)
        assert np.array_equal(found, given.astype(short).astype(np.float32))
        for one, exact in zip(found[:200], given[:200], strict=True):
            assert abs(float(one) - float(exact)) <= half_spacing(one.reshape(1), bfloat16=True)


def test_numbers_beyond_a_dtype_neither_wrap_nor_become_infinite() -> None:
    far = np.array([-1e30, 1e30, 0.5, -0.5])
    assert to_integers(far, np.dtype("u8")).tolist() == [0, 2**64 - 2048, 0, 0]
    assert to_integers(far, np.dtype("i8")).tolist() == [-(2**63), 2**63 - 1024, 0, 0]
    assert to_integers(far, np.dtype("i1")).tolist() == [-128, 127, 0, 0]
    assert to_floats(far[:2], np.dtype("f2")).tolist() == [-65504, 65504]
    assert to_floats(np.array([1e39]), np.dtype("f4"), bfloat16=True).tolist() == [LARGEST_BFLOAT16]


def test_few_digits_are_on_the_side_that_was_asked_for() -> None:
    for value in (2.0**-40, 1e-300, 5e-324, 1.0, 21834.6667, 9.999e30):
        assert float(rounded_down(value)) <= value <= float(rounded_up(value))
        assert len(rounded_up(value).replace(".", "").partition("e")[0]) <= 3


# torch.


@pytest.mark.slow
@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float32", "float64", "int8", "int64", "uint8", "uint16"]
)
def test_tensors_come_back_as_tensors(torch: Any, dtype: str) -> None:
    kind = getattr(torch, dtype)
    update = {"w": torch.arange(6).reshape(2, 3).to(kind), "b": torch.tensor(2).to(kind)}
    result = secagg.sum([update, update, update], clip=5)
    for key in update:
        found = result.value[key]
        assert isinstance(found, torch.Tensor)
        assert (found.dtype, found.shape, found.device) == (kind, update[key].shape, update[key].device)
        assert not found.requires_grad
        off = (found.double() - 3 * update[key].double()).abs().max().item()
        assert off <= result.report.error
    mean = secagg.mean([update, update], clip=5).value
    assert mean["w"].dtype == (kind if kind.is_floating_point else torch.float64)


@pytest.mark.slow
def test_tensors_with_gradients_parameters_and_strides_come_back(torch: Any) -> None:
    layer = torch.nn.Linear(3, 2)
    found = secagg.mean([dict(layer.named_parameters())] * 2, clip=1.0)
    assert torch.allclose(found.value["weight"], layer.weight, atol=1e-5)
    x = torch.arange(6.0, requires_grad=True).reshape(2, 3).T * 1
    assert secagg.sum([x, x], clip=5.0).value.shape == (3, 2)
    state = secagg.mean([layer.state_dict(), layer.state_dict()], clip=1.0).value
    layer.load_state_dict(state)


@pytest.mark.slow
def test_rows_and_weights_may_be_tensors(torch: Any) -> None:
    rows = torch.tensor([[0.0, 4.0], [4.0, 0.0]])
    found = secagg.mean(rows, torch.tensor([1, 3]), max_weight=3, clip=4.0)
    assert torch.allclose(found.value, torch.tensor([3.0, 1.0]), atol=1e-4)
    with pytest.raises(UsageError, match="weights in the order of the updates, in a list, got a int"):
        secagg.mean(rows, torch.tensor(3), max_weight=3, clip=4.0)


@pytest.mark.slow
def test_tensors_that_give_no_numbers_are_refused(torch: Any) -> None:
    for tensor, said in (
        (torch.eye(2).to_sparse(), r"a sparse tensor; convert it by to_dense\(\)"),
        (torch.zeros(2, device="meta"), "the Tensor of client0 gives no array"),
        (torch.zeros(2, dtype=torch.complex64), "got complex64"),
        (torch.zeros(2, dtype=torch.bool), "got bool"),
        (torch.zeros(2).to(torch.float8_e4m3fn), "gives no array"),
    ):
        with pytest.raises(ShapeError, match=said):
            secagg.sum([tensor, tensor], clip=1.0)


# jax.


@pytest.mark.slow
def test_jax_arrays_come_back_as_jax_arrays(jax: Any) -> None:
    jnp = jax.numpy
    for dtype in ("float16", "bfloat16", "float32", "int8", "int32", "uint8"):
        update = [jnp.arange(6).reshape(2, 3).astype(dtype), jnp.asarray(2, dtype)]
        result = secagg.sum([update, update, update], clip=5)
        for found, given in zip(result.value, update, strict=True):
            assert isinstance(found, jax.Array)
            assert (found.dtype, found.shape, found.sharding) == (given.dtype, given.shape, given.sharding)
            assert np.max(np.abs(of(found) - 3 * of(given))) <= result.report.error
        mean = secagg.mean([update, update, update], clip=5)
        wide = jax.dtypes.canonicalize_dtype(np.float64)
        assert mean.value[0].dtype == (dtype if "float" in dtype else wide)
        assert np.max(np.abs(of(mean.value[0]) - of(update[0]))) <= mean.report.error


@pytest.mark.slow
def test_rows_and_weights_may_be_jax_arrays_and_traced_ones_are_refused(jax: Any) -> None:
    rows = jax.numpy.array([[0.0, 4.0], [4.0, 0.0]])
    found = secagg.mean(rows, jax.numpy.array([1, 3]), max_weight=3, clip=4.0)
    assert np.allclose(found.value, [3, 1], atol=1e-4)
    with pytest.raises(ShapeError, match="the jax array of a gives no array"):
        jax.jit(lambda x: secagg.sum({"a": x, "b": x}, clip=1.0).value)(rows)
