"""Secrets from shares of which some are wrong, and how much work wrong ones can make."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from secagg.errors import RemoteProtocolError, TooFewPartiesError
from secagg.prg import Stream
from secagg.protocols.masked_sum import recovery, shamir
from secagg.protocols.masked_sum.recovery import Recovery
from secagg.protocols.masked_sum.shamir import PRIME, Polynomials, read_share

CLIENTS, THRESHOLD, CORRUPT = 40, 27, 3
SECRET = bytes(range(32))


@pytest.fixture
def bases(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many points each basis had that was made from nothing, which takes a time of points**2."""
    made: list[int] = []

    class Counted(shamir.Basis):
        def __init__(self, points: Any) -> None:
            made.append(len(points))
            super().__init__(points)

    monkeypatch.setattr(recovery, "Basis", Counted)
    return made


def recoverer() -> Recovery:
    names = [f"c{i}" for i in range(CLIENTS)]
    return Recovery(THRESHOLD, CORRUPT, names.__getitem__)


def dealt(seed: int) -> dict[int, int]:
    rows = Polynomials([SECRET], THRESHOLD, Stream(bytes([seed]) * 32)).at(range(1, CLIENTS + 1))[0]
    return {holder: read_share(row.tobytes()) for holder, row in enumerate(rows)}


def test_each_wrong_share_is_laid_to_its_holder_with_one_basis_in_all(bases: list[int]) -> None:
    """Corrupt clients that each deal somebody else a wrong share make work for one basis, not for each holder."""
    found = recoverer()
    for victim in range(CLIENTS - THRESHOLD - 1):
        shares = dealt(victim)
        shares[victim * 2] ^= 1
        assert found.secret(victim, shares, lambda secret: secret == SECRET) == SECRET
    assert found.suspects == {victim * 2 for victim in range(CLIENTS - THRESHOLD - 1)}
    assert bases == [THRESHOLD]


def test_two_holders_whose_errors_cancel_lay_them_to_a_third_and_change_no_secret() -> None:
    shares, points = dealt(1), [holder + 1 for holder in range(THRESHOLD + 1) if holder != 5]
    # What an error of 1 in the share of each of two holders adds to what all but holder 5's give.
    first, second = shamir.Basis(points)._coefficients[:2]
    shares[0] = (shares[0] + 1) % PRIME
    shares[1] = (shares[1] - first * pow(second, -1, PRIME)) % PRIME
    found = recoverer()
    assert found.secret(7, shares, lambda secret: secret == SECRET) == SECRET
    assert found.suspects == {5}


def test_noise_in_place_of_shares_makes_work_for_one_basis_and_as_many_comparisons(bases: list[int]) -> None:
    compared: list[bytes] = []

    def never(secret: bytes) -> bool:
        compared.append(secret)
        return False

    numbers = np.random.default_rng(1).integers(1, 2**62, CLIENTS)
    shares = {holder: int(n) ** 5 % PRIME for holder, n in enumerate(numbers)}
    found = recoverer()
    with pytest.raises(RemoteProtocolError, match="c3 dealt wrong shares") as caught:
        found.secret(3, shares, never)
    assert caught.value.peer == ""
    assert bases == [THRESHOLD]
    assert len(compared) <= THRESHOLD + 1


def test_a_holder_without_a_spare_share_is_not_accused(bases: list[int]) -> None:
    shares = dict(list(dealt(1).items())[:THRESHOLD])
    shares[0] ^= 1
    with pytest.raises(RemoteProtocolError, match="cannot be told from 27 shares"):
        recoverer().secret(0, shares, lambda secret: secret == SECRET)
    assert bases == [THRESHOLD]


@pytest.mark.parametrize(
    ("silent", "unreadable", "peer", "text"),
    [
        ([5, 6], 0, "c5", "no answer from c5, c6"),
        ([5], CORRUPT, "c5", "no answer from c5"),
        ([], CORRUPT, "", "which, cannot be told"),
        # One of them is honest: the owner dealt it no share.
        ([], CORRUPT + 1, "c0", "4 could not open what c0 dealt them"),
    ],
)
def test_who_is_to_blame_for_too_few_shares_is_named_where_it_can_be_known(
    silent: list[int], unreadable: int, peer: str, text: str
) -> None:
    shares = dict(list(dealt(1).items())[: THRESHOLD - 1])
    with pytest.raises(TooFewPartiesError, match=text) as caught:
        recoverer().secret(0, shares, lambda secret: True, silent=silent, unreadable=unreadable)
    assert caught.value.peer == peer
