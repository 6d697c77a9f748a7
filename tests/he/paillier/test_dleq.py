"""A proof holds for equal logarithms and for nothing else, and one proof serves many."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gmpy2", reason="Paillier needs gmpy2")

import gmpy2
from gmpy2 import mpz, powmod
from hypothesis import given
from hypothesis import strategies as st

from secagg.he.paillier import dleq
from secagg.he.paillier.dleq import Setting, multi_power
from secagg.prg import Stream, system_stream

# TEST CONSTANTS: safe primes that everybody can read here.
P = mpz(0xDA66D14A2F1109BC1163A4EF26A9CDBB9FE6C77A97F4808C8D26B19DD93401EB)
Q = mpz(0xD81DA5EFFDF8874AB6A2E68B510C431305BD7B3E2DF827E8B1D3B197D8F9A243)
MODULUS = (P * Q) ** 2
ORDER = P * Q * (P >> 1) * (Q >> 1)
V = powmod(mpz(0xABCDEF123456789), 2, MODULUS)
SECRET = mpz(2) ** 1023 - 12345
SETTING = Setting(MODULUS, V, 1024)
V_I = powmod(V, SECRET, MODULUS)
RNG = Stream(bytes(32))
CS = [mpz.from_bytes(RNG.bytes(128), "little") % MODULUS for _ in range(7)]
DS = [powmod(c, 2 * SECRET, MODULUS) for c in CS]
PROVED = bytes(range(32))
CHALLENGE, RESPONSE = SETTING.prove(CS, SECRET, PROVED, system_stream())


def holds(
    *,
    setting: Setting = SETTING,
    cs: list[mpz] = CS,
    ds: list[mpz] = DS,
    v_i: mpz = V_I,
    proved: bytes = PROVED,
    challenge: bytes = CHALLENGE,
    response: bytes = RESPONSE,
) -> bool:
    return setting.holds(cs, ds, v_i, proved, challenge, response)


def proof(cs: list[mpz], proved: bytes = PROVED, secret: mpz = SECRET) -> dict[str, Any]:
    challenge, response = SETTING.prove(cs, secret, proved, system_stream())
    return {"challenge": challenge, "response": response}


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_proof_holds_for_any_number_of_powers(count: int) -> None:
    assert holds(cs=CS[:count], ds=DS[:count], **proof(CS[:count]))


@pytest.mark.parametrize("secret", [1, 2, SECRET, mpz(2) ** 1024 - 1])
def test_a_proof_holds_for_the_whole_range_of_secrets_and_has_one_length(secret: int) -> None:
    a = mpz(secret)
    made = proof(CS, secret=a)
    assert holds(ds=[powmod(c, 2 * a, MODULUS) for c in CS], v_i=powmod(V, a, MODULUS), **made)
    assert (len(made["challenge"]), len(made["response"])) == (32, SETTING.response_bytes)
    assert SETTING.response_bytes == math.ceil((1024 + 384 + 1) / 8)


@pytest.mark.slow
def test_a_proof_says_nothing_of_anything_else() -> None:
    assert holds()
    assert not holds(proved=PROVED[::-1])
    assert not holds(v_i=V_I * V % MODULUS)
    assert not holds(setting=Setting(MODULUS, V * V % MODULUS, 1024))
    assert not holds(cs=CS[::-1], ds=DS[::-1])
    assert not holds(cs=CS[:-1], ds=DS[:-1])
    for j in range(len(CS)):
        for wrong in (DS[j] * (1 + P * Q) % MODULUS, DS[j] * CS[j] % MODULUS, mpz(1)):
            assert not holds(ds=[*DS[:j], wrong, *DS[j + 1 :]])
    for i in range(0, 32, 5):
        assert not holds(challenge=bytes([*CHALLENGE[:i], CHALLENGE[i] ^ 1, *CHALLENGE[i + 1 :]]))
    assert not holds(response=(mpz.from_bytes(RESPONSE, "little") + 1).to_bytes(len(RESPONSE), "little"))


@pytest.mark.parametrize("order", [P, Q, P >> 1, Q >> 1, ORDER], ids=["p", "q", "p'", "q'", "all"])
def test_an_honest_prover_with_one_wrong_power_of_any_order_does_not_convince(order: mpz) -> None:
    wrong = powmod(mpz(4), ORDER // order, MODULUS)
    assert wrong != 1
    for j in (0, 6):
        ds = [*DS[:j], DS[j] * wrong % MODULUS, *DS[j + 1 :]]
        for attempt in range(5):
            proved = bytes([attempt]) * 32
            assert not holds(ds=ds, proved=proved, **proof(CS, proved))


def test_two_wrong_powers_whose_product_is_right_do_not_convince() -> None:
    ds = [DS[0] * 4 % MODULUS, DS[1] * gmpy2.invert(4, MODULUS) % MODULUS, *DS[2:]]
    assert not holds(ds=ds, **proof(CS))


def test_signs_are_not_seen_as_squares_have_none() -> None:
    """Elements of order 2 would pass the small exponents test half of the time, were it not on squares."""
    exponents = dleq._small_exponents(PROVED, 2)
    assert powmod(multi_power([mpz(-1), mpz(1)], exponents, MODULUS), 2, MODULUS) == 1
    passed = sum(
        multi_power([mpz(-1)], dleq._small_exponents(bytes([i]) * 32, 1), MODULUS) == 1 for i in range(200)
    )
    assert 60 < passed < 140
    assert holds(ds=[MODULUS - d for d in DS])


def test_small_exponents_are_16_bytes_each_and_hang_on_all_that_is_proved() -> None:
    first = dleq._small_exponents(PROVED, 1000)
    assert first.shape == (1000, 16)
    assert len(np.unique(first, axis=0)) == 1000
    assert abs(np.unpackbits(first).mean() - 0.5) < 0.01
    assert not np.any(np.all(first == dleq._small_exponents(PROVED[::-1], 1000), axis=1))


def test_a_challenge_hangs_on_all_that_is_proved_and_on_both_commitments() -> None:
    made = {SETTING._challenge(*x) for x in ((PROVED, V, V_I), (PROVED[::-1], V, V_I), (PROVED, V_I, V))}
    assert len(made | {SETTING._challenge(PROVED, V, V)}) == 4


def test_responses_hide_the_secret_by_128_bits() -> None:
    """z lies between e a and 2^|r| + e a, and e a is 128 bits shorter than r."""
    nonces = []
    for _ in range(20):
        made = proof(CS[:1])
        e, z = (mpz.from_bytes(made[key], "little") for key in ("challenge", "response"))
        assert (e * SECRET).bit_length() <= 1024 + 256
        nonces.append(z - e * SECRET)
    assert all(0 <= r < mpz(1) << (1024 + 384) for r in nonces)
    assert max(nonces) >> (1024 + 384 - 4)  # all of 20 uniform numbers are below 1/16: 1 in 2^80
    assert len(set(nonces)) == 20


def test_repeated_randomness_gives_the_same_proof_or_another_nonce() -> None:
    def nonce(proved: bytes, secret: mpz = SECRET) -> mpz:
        challenge, response = SETTING.prove(CS, secret, proved, Stream(bytes(32)))
        return mpz.from_bytes(response, "little") - mpz.from_bytes(challenge, "little") * secret

    assert nonce(PROVED) == nonce(PROVED)
    assert len({nonce(PROVED), nonce(PROVED[::-1]), nonce(PROVED, SECRET + 1)}) == 3


@pytest.mark.slow
@given(st.data())
def test_multi_power_is_the_product_of_powers(data: st.DataObject) -> None:
    count, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 17))
    modulus = data.draw(st.integers(3, 1 << 70))
    bases = [mpz(data.draw(st.integers(0, modulus - 1))) for _ in range(count)]
    exponents = [data.draw(st.integers(0, (1 << 8 * width) - 1)) for _ in range(count)]
    rows = np.frombuffer(b"".join(e.to_bytes(width, "little") for e in exponents), np.uint8).reshape(
        -1, width
    )
    expected = math.prod(pow(int(b), e, modulus) for b, e in zip(bases, exponents, strict=True)) % modulus
    assert multi_power(bases, rows, mpz(modulus)) == expected


@pytest.mark.parametrize("count", [100, 3000])
def test_multi_power_is_right_with_wide_windows(count: int) -> None:
    rng = np.random.default_rng(count)
    bases = [mpz(int(b)) for b in rng.integers(1, 10**9, count)]
    rows = rng.integers(0, 256, (count, 16), dtype=np.uint8)
    expected = math.prod(
        pow(int(b), int.from_bytes(row.tobytes(), "little"), 10**9 + 7)
        for b, row in zip(bases, rows, strict=True)
    )
    assert multi_power(bases, rows, mpz(10**9 + 7)) == expected % (10**9 + 7)
