"""Protections to run, with keys that are made once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from safe_primes import P, Q
from secagg.aggregation import Additive, Ckks, Masked, Paillier, Protection, Rlwe

NAMES = ("masked", "active", "additive", "paillier", "threshold-paillier", "ckks", "rlwe", "single-rlwe")


@pytest.fixture(scope="session")
def protection() -> Callable[[str], Protection]:
    """Return a protection by one of the names; skips where its package is missing."""
    made: dict[str, Protection] = {}

    def paillier() -> Protection:
        pytest.importorskip("gmpy2", reason="Paillier needs gmpy2")
        from secagg.he.paillier import SecretKey

        return Paillier(bits=2048, secret_key=SecretKey.generate(2048, s=2))

    def threshold_paillier() -> Protection:
        pytest.importorskip("gmpy2", reason="Paillier needs gmpy2")
        from secagg.he.paillier.threshold import deal_threshold_key

        _, shares = deal_threshold_key(3, 2, bits=2048, safe_primes=(P, Q))
        return Paillier(key_holders=3, threshold=2, key_shares=tuple(shares))

    def ckks() -> Protection:
        pytest.importorskip("tenseal", reason="CKKS needs TenSEAL")
        from secagg.he.ckks import SecretKey

        return Ckks(secret_key=SecretKey.generate())

    makers: dict[str, Callable[[], Protection]] = {
        "masked": Masked,
        "active": lambda: Masked(threat_model="malicious", max_corrupt=0.2, max_dropout=0.25),
        "additive": lambda: Additive(aggregators=3),
        "paillier": paillier,
        "threshold-paillier": threshold_paillier,
        "ckks": ckks,
        "rlwe": Rlwe,
        "single-rlwe": lambda: Rlwe(key_holders=1),
    }

    def get(name: str) -> Protection:
        if name not in made:
            made[name] = makers[name]()
        return made[name]

    return get


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.slow] * name.endswith("paillier")) for name in NAMES]
)
def each(request: pytest.FixtureRequest, protection: Callable[[str], Protection]) -> Protection:
    """One after the other."""
    choice: Any = protection(request.param)
    return choice
