from __future__ import annotations

import math

import numpy as np
import pytest

from secagg.errors import UsageError, WireError
from secagg.he.rlwe.parameters import Parameters, from_wire, parameters


@pytest.mark.parametrize(
    ("bits", "degree", "limb_bits", "limbs"), [(64, 4096, 32, 2), (96, 4096, 32, 3), (128, 8192, 26, 5)]
)
def test_there_are_three_sets(bits: int, degree: int, limb_bits: int, limbs: int) -> None:
    p = parameters(bits)
    assert (p.degree, p.modulus_bits, p.limb_bits, p.limbs) == (degree, bits, limb_bits, limbs)
    assert from_wire(degree, bits, peer="bank") == p
    assert Parameters(p.name, degree, bits, limb_bits, limbs) == p
    assert p.limbs * p.limb_bits >= bits > (p.limbs - 1) * p.limb_bits
    assert p.coefficient_bytes * 8 == bits


@pytest.mark.parametrize("bits", [64, 96, 128])
def test_every_set_lies_below_the_published_limits_for_128_bits(bits: int) -> None:
    # HomomorphicEncryption.org standard, ternary secrets: classical and quantum.
    limits = {4096: (109, 101), 8192: (218, 202)}
    assert bits <= min(limits[parameters(bits).degree])


@pytest.mark.parametrize("bits", [0, 32, 63, 65, 256, -64, 64.0, "64", None, True])
def test_a_modulus_off_the_list_is_refused(bits: object) -> None:
    with pytest.raises(UsageError, match="expected a modulus of 64, 96 or 128 bits, got"):
        parameters(bits)  # type: ignore[arg-type]


def test_a_combination_off_the_list_is_refused() -> None:
    with pytest.raises(UsageError, match="use parameters"):
        Parameters("rlwe/8192/128", 8192, 128, 32, 4)
    with pytest.raises(UsageError, match="use parameters"):
        Parameters("rlwe/2048/64", 2048, 64, 32, 2)


def test_what_a_peer_names_off_the_list_is_the_peers_error() -> None:
    with pytest.raises(WireError, match="expected degree 4096 with a modulus of 64 bits from bank") as caught:
        from_wire(2048, 64, peer="bank")
    assert caught.value.peer == "bank"
    with pytest.raises(WireError, match="expected a modulus of 64, 96 or 128 bits from bank, got 60"):
        from_wire(4096, 60, peer="bank")


def test_blocks_hold_all_numbers() -> None:
    p = parameters(64)
    assert [p.blocks(n) for n in (1, 4096, 4097, 8192)] == [1, 1, 2, 2]


def rounding_error(limb_bits: int, degree: int) -> float:
    """The bound on a limb product's error, see `secagg.he.rlwe.products`."""
    u, k = 2.0**-53, int(math.log2(degree)) - 1
    logs = 3 * k * math.log1p(u) + (3 * k + 4) * math.log1p(math.sqrt(5) * u)
    logs += 3 * k * math.log1p(9 * u) + 3 * math.log1p(5 * u)
    return math.ldexp(degree, limb_bits - 1) * math.expm1(logs)


@pytest.mark.parametrize("bits", [64, 96, 128])
def test_a_product_that_passes_the_check_is_right(bits: int) -> None:
    p = parameters(bits)
    assert rounding_error(p.limb_bits, p.degree) + 0.25 < 1
    # Why keys are not added before products, and why there are no limbs of 32 bits at 8192.
    assert 2 * rounding_error(32, 4096) + 0.25 > 1
    assert rounding_error(32, 8192) + 0.25 > 1


def test_the_stated_bounds_are_those_of_the_formula() -> None:
    stated = {(32, 4096): 0.42, (32, 8192): 0.91, (26, 4096): 0.0065, (26, 8192): 0.014}
    for (bits, degree), bound in stated.items():
        assert np.isclose(rounding_error(bits, degree), bound, rtol=0.02)
