"""Quotients of shared integers beside Python's fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from secagg import mpc, simulate
from secagg.errors import PlanError
from secagg.query.quotients import FRACTION_BITS, quotient

NAMES = ("ada", "bob", "cleo")


def test_a_quotient_is_exact_but_for_its_last_digit():
    top, most = (1 << 62) - 1, (1 << 57) - 1
    numerators = np.array([7, -7, 7, -7, 0, top, -top, 1, 123456789])
    denominators = np.array([2, 2, -2, -2, 5, 1, most, most, 1000])

    async def program(party):
        engine = await mpc.Engine.create(party)
        n, d = (
            engine.share(v if party.me == "ada" else None, owner="ada", shape=len(v))
            for v in (numerators, denominators)
        )
        found = quotient(n, d, bits=62, denominator_bits=57)
        return await engine.open(found.whole, found.fraction)

    whole, fraction = simulate(dict.fromkeys(NAMES, program)).values()[0]
    for n, d, w, f in zip(numerators, denominators, whole, fraction, strict=True):
        exact, got = Fraction(int(n), int(d)), int(w) + Fraction(int(f), 1 << FRACTION_BITS)
        assert 0 <= abs(exact) - abs(got) < Fraction(1, 1 << FRACTION_BITS)
        assert exact * got >= 0


def test_more_bits_than_the_ring_holds_are_refused():
    async def program(party):
        engine = await mpc.Engine.create(party)
        x = engine.public(np.array([1]))
        with pytest.raises(PlanError, match="at most 57, got 62 and 58"):
            quotient(x, x, bits=62, denominator_bits=58)

    simulate(dict.fromkeys(NAMES, program)).values()
