"""Fractions of parties as numbers of them, and the two threat models."""

from __future__ import annotations

from typing import Any

import pytest

from secagg.errors import UsageError
from secagg.protocols.threat_model import is_malicious, largest_part


def test_a_fraction_loses_no_party_to_rounding() -> None:
    assert 0.29 * 100 < 29
    assert largest_part(0.29, 100) == 29
    assert [largest_part(k / n, n) for n in range(1, 200) for k in range(n)] == [
        k for n in range(1, 200) for k in range(n)
    ]
    assert largest_part(1 / 3, 10) == 3


def test_there_are_two_threat_models() -> None:
    assert is_malicious("malicious")
    assert not is_malicious("semi-honest")
    unknown: Any = "active"
    with pytest.raises(UsageError, match='"semi-honest" or "malicious", not \'active\''):
        is_malicious(unknown)
