"""What an aggregator receives of encrypted zeros is uniform and independent, coefficient by coefficient.

See `transcripts` for statistics and false alarms. The key and the randomness of encryption come from the operating
system, so a false alarm has probability 2**-16 a run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from secagg.fixed_point import Plan
from secagg.he.rlwe.keys import SecretKey
from secagg.he.rlwe.parameters import Parameters, parameters
from transcripts import View, elements

pytestmark = pytest.mark.slow

PLAN = Plan(64, 16, 100.0, 50, 10)


@pytest.mark.parametrize("p", [parameters(64), parameters(96), parameters(128)], ids=lambda p: p.name)
@pytest.mark.parametrize("number", [0.0, 100.0])
def test_two_ciphertexts_of_one_constant_under_one_key_are_uniform_and_independent(
    p: Parameters, number: float
) -> None:
    public_key = SecretKey.generate(p).public_key
    view = View(p.degree)
    for i in range(2):
        c: Any = public_key.encrypt(np.full(p.degree, number), PLAN)
        for part, polynomials in (("c0", c.c0), ("c1", c.c1)):
            for name, words in (("low", polynomials.low), ("high", polynomials.high)):
                if words is not None:
                    bits = p.modulus_bits - 64 if name == "high" else 64
                    view.add(f"{part} {name} of {i}", elements(words, p.degree, bits))
    assert sum(part.shape[1] for part in view.parts) == 4 * p.modulus_bits
    view.check()
