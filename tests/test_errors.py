"""Which kind of error says what: an argument out of range is a UsageError and none of its kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from secagg.cost import Cost, Network
from secagg.errors import UsageError
from secagg.fixed_point import Plan, plan
from secagg.mpc.buckets import plan_buckets
from secagg.mpc.numbers import truncation_range
from secagg.mpc.three.costs import msb_cost
from secagg.prg import Stream
from secagg.protocols.masked_sum import choose
from secagg.ring import Ring, pack_bits, to_planes
from secagg.updates.coding import check_precision
from secagg.updates.privacy import Privacy

OUT_OF_RANGE: dict[str, Callable[[Any], object]] = {
    "bits of a ring": Ring,
    "bits of a plan": lambda n: Plan(bits=n, frac_bits=3, clip=1.0, parties=2),
    "clip": lambda n: plan(clip=n, frac_bits=3, parties=2),
    "precision": lambda n: plan(clip=1.0, precision=n, parties=2),
    "frac_bits": lambda n: plan(clip=1.0, frac_bits=n, parties=2),
    "parties": lambda n: plan(clip=1.0, frac_bits=3, parties=n),
    "max_weight": lambda n: plan(clip=1.0, frac_bits=3, parties=2, max_weight=n),
    "precision of updates": check_precision,
    "width of packed elements": lambda n: pack_bits(Stream(bytes(32)).words(3), n),
    "number of planes": lambda n: to_planes(Stream(bytes(32)).words(3), n),
    "bound of random numbers": lambda n: Stream(bytes(32)).below(n, 3),
    "size of a permutation": lambda n: Stream(bytes(32)).permutation(n),
    "bits to truncate": lambda n: truncation_range(Ring(64), n),
    "bits compared": lambda n: msb_cost(10, n),
    "digits of a comparison": lambda n: msb_cost(10, 64, digit_bits=n),
    "rows of a list": lambda n: plan_buckets([3, n], key_planes=lambda _: 4, other_planes=1),
    "clients of a masked sum": choose,
    "corrupt fraction": lambda n: choose(10, max_corrupt=n),
    "epsilon": lambda n: Privacy(n, 1e-6, 1.0),
    "rounds of privacy": lambda n: Privacy(1.0, 1e-6, 1.0, n),
    "rounds of a cost": lambda n: Cost(n, {}),
    "latency": lambda n: Network("slow", n, 1e6),
}


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_an_argument_out_of_range_is_a_usage_error_and_no_kind_of_it(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        OUT_OF_RANGE[name](-1)
    assert type(caught.value) is UsageError
