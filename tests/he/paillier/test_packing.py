"""Sums of packed numbers are exact up to the last value that the plan allows, and refused beyond."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("gmpy2", reason="Paillier needs gmpy2")

from gmpy2 import mpz
from hypothesis import given
from hypothesis import strategies as st

from secagg.errors import PlanError, RangeError, ShapeError
from secagg.fixed_point import Plan
from secagg.he.paillier.packing import Packing, max_slots
from secagg.he.scheme import Header

MODULUS = mpz(2**521 - 1) * mpz(2**127 - 1)
# Slots of 1, 2, 3, 4, 6 and 8 bytes; the first, second and last filled to the last bit.
PLANS = (
    Plan(8, 0, 42.0, 3),
    Plan(16, 0, 32767.0, 1),
    Plan(32, 0, 100_000.0, 3, 7),
    Plan(32, 10, 1000.0, 2, 5),
    Plan(64, 24, 100.0, 10_000),
    Plan(64, 0, float(2**53), 1023),
)
plans = pytest.mark.parametrize("plan", PLANS, ids=lambda p: f"{p.sum_bits} bits")


def header(plan: Plan, shape: tuple[int, ...], weight: int) -> Header:
    return Header("test", bytes(32), plan, shape, weight=weight)


def encoded(numbers: list[int], plan: Plan) -> np.ndarray:
    return np.array([v % plan.ring.modulus for v in numbers], plan.ring.dtype)


def weighted(packing: Packing, weights: list[int], vectors: list[list[int]]) -> list[mpz]:
    packed = [packing.pack(encoded(v, packing.plan)) for v in vectors]
    return [
        sum(w * m for w, m in zip(weights, column, strict=True)) % packing.modulus
        for column in zip(*packed, strict=True)
    ]


@plans
def test_extreme_values_in_every_slot_are_exact_up_to_the_whole_capacity(plan):
    packing = Packing.densest(plan, MODULUS)
    capacity, length = plan.parties * plan.max_weight, 2 * packing.slots + 1
    pattern = [plan.limit, -plan.limit, 0, plan.limit - 1]
    numbers = [pattern[i % 4] for i in range(length)]
    for weights in ([capacity], [-capacity], [capacity - 1, 1], [1 - capacity, -1]):
        if 0 in weights:
            continue
        total = packing.unpack(
            weighted(packing, weights, [numbers] * len(weights)), header(plan, (length,), capacity)
        )
        assert total.view(f"i{plan.bits // 8}").tolist() == [sum(weights) * v for v in numbers]


@pytest.mark.slow
@given(st.data())
def test_weighted_sums_of_plaintexts_are_sums_of_numbers(data):
    plan = data.draw(st.sampled_from(PLANS))
    packing = Packing(plan, MODULUS, data.draw(st.integers(1, max_slots(plan, MODULUS))))
    count, length = data.draw(st.integers(1, min(4, plan.parties))), data.draw(st.integers(1, 40))
    weight = st.integers(-plan.max_weight, plan.max_weight).filter(bool)
    weights = data.draw(st.lists(weight, min_size=count, max_size=count))
    value = st.integers(-plan.limit, plan.limit)
    vectors = data.draw(
        st.lists(st.lists(value, min_size=length, max_size=length), min_size=count, max_size=count)
    )
    sums = [sum(w * v[i] for w, v in zip(weights, vectors, strict=True)) for i in range(length)]
    total = packing.unpack(
        weighted(packing, weights, vectors), header(plan, (length,), sum(abs(w) for w in weights))
    )
    assert total.tolist() == encoded(sums, plan).tolist()


@plans
def test_the_bits_of_a_plaintext_are_used_to_the_last_whole_slot(plan):
    slots, bits = max_slots(plan, MODULUS), 8 * -(-plan.sum_bits // 8)
    assert 2 ** (slots * bits) <= MODULUS < 2 ** ((slots + 1) * bits + 1)


def test_shapes_come_back():
    plan = PLANS[4]
    packing = Packing.densest(plan, MODULUS)
    values = encoded(list(range(-30, 30)), plan).reshape(3, 4, 5)
    total = packing.unpack(packing.pack(values), header(plan, (3, 4, 5), 1))
    assert np.array_equal(total, values)


@plans
@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_beyond_the_headers_weight_is_refused(plan, sign):
    packing = Packing.densest(plan, MODULUS)
    numbers = [0] * (packing.slots + 3)
    numbers[packing.slots // 2] = sign * plan.limit
    packed = packing.pack(encoded(numbers, plan))
    claims = header(plan, (len(numbers),), 1)
    packing.unpack(packed, claims)
    one = packing.pack(encoded([sign * bool(v) for v in numbers], plan))
    with pytest.raises(RangeError, match="no sum of weight 1"):
        packing.unpack([a + b for a, b in zip(packed, one, strict=True)], claims)


def test_a_number_in_a_slot_that_should_be_empty_is_refused():
    plan = PLANS[4]
    packing = Packing.densest(plan, MODULUS)
    packed = packing.pack(encoded([1] * packing.slots, plan))
    packing.unpack(packed, header(plan, (packing.slots,), 1))
    with pytest.raises(RangeError, match="no sum of weight 1"):
        packing.unpack(packed, header(plan, (packing.slots - 1,), 1))


def test_a_plaintext_beyond_its_slots_is_refused():
    plan = PLANS[4]
    packing = Packing(plan, MODULUS, 1)
    for m in (mpz(2) ** 48, MODULUS // 2, MODULUS - 2**48):
        with pytest.raises(RangeError, match="no sum of weight 1"):
            packing.unpack([m], header(plan, (1,), 1))


def test_a_number_of_slots_that_does_not_fit_is_refused():
    plan = PLANS[4]
    most = max_slots(plan, MODULUS)
    for slots in (0, most + 1):
        with pytest.raises(ShapeError, match=f"expected 1 to {most} slots"):
            Packing(plan, MODULUS, slots)
    with pytest.raises(PlanError, match="do not fit a plaintext of 40 bits"):
        Packing.densest(plan, mpz(2**40 - 1))
