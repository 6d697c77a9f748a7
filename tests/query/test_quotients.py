"""Quotients of shared integers beside Python's fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from secagg import mpc, simulate
from secagg.errors import PlanError
from secagg.query.quotients import quotient

NAMES = ("ada", "bob", "cleo")


@pytest.mark.slow
def test_a_quotient_is_rounded_towards_zero_in_its_last_bit():
    top, most = (1 << 62) - 1, (1 << 57) - 1
    numerators = np.array([7, -7, 7, -7, 0, top, -top, 1, 123456789])
    denominators = np.array([2, 2, -2, -2, 5, 1, most, most, 1000])

    async def program(party):
        engine = await mpc.Engine.create(party)
        n, d = (
            engine.share(v if party.me == "ada" else None, owner="ada", shape=len(v))
            for v in (numerators, denominators)
        )
        shared = quotient(n, d, bits=62, denominator_bits=57)
        finer = quotient(n[:5], d[:5], bits=4, denominator_bits=3, fraction_bits=30)
        public = quotient(n, -7, bits=62, denominator_bits=3, fraction_bits=1)
        return await engine.open(shared, finer, public)

    shared, finer, public = simulate(dict.fromkeys(NAMES, program)).values()[0]
    for i, (n, d) in enumerate(zip(numerators.tolist(), denominators.tolist(), strict=True)):
        assert shared[i] == int(Fraction(n, d))
        assert public[i] == int(Fraction(2 * n, -7))
    for i in range(5):
        assert finer[i] == int(Fraction(int(numerators[i]) << 30, int(denominators[i])))


def test_more_bits_than_the_ring_holds_are_refused():
    async def program(party):
        engine = await mpc.Engine.create(party)
        x = engine.public(np.array([1]))
        with pytest.raises(PlanError, match="at most 57, got 62 and 58"):
            quotient(x, x, bits=62, denominator_bits=58)

    simulate(dict.fromkeys(NAMES, program)).values()
