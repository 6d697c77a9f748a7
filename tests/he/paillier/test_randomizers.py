"""Randomizers are the powers they should be, and a pool hands each out once."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest

pytest.importorskip("gmpy2", reason="Paillier needs gmpy2")

import numpy as np
from gmpy2 import mpz

from secagg.errors import UsageError
from secagg.fixed_point import plan
from secagg.he.paillier import RandomizerPool, residues
from secagg.he.paillier.randomizers import FixedBase, GrowingBase, cut, draw_below, draw_exponents
from secagg.prg import Stream, system_stream

PLAN = plan(clip=100.0, frac_bits=16, parties=10)


@pytest.mark.parametrize("bits", [1, 7, 8, 30, 61])
@pytest.mark.parametrize("window", [1, 3, 8, 10, 14])
def test_table_powers_are_powers(bits, window):
    modulus = mpz(2**89 - 1)
    exponents = draw_exponents(20, bits, system_stream())
    exponents[0] = 0
    numbers = [int.from_bytes(row.tobytes(), "little") for row in exponents]
    assert max(numbers) < 1 << bits
    table = FixedBase(mpz(3), modulus, bits, window)
    powers = table.powers(cut(exponents, bits, window), None)
    assert powers == [pow(3, a, modulus) for a in numbers]
    with ThreadPoolExecutor(2) as executor:
        assert FixedBase(mpz(3), modulus, bits, window, executor=executor)._rows == table._rows
        assert table.powers(cut(exponents, bits, window), executor) == powers


def test_exponents_spread_over_all_their_bits():
    drawn = draw_exponents(4096, 12, Stream(bytes(32)))
    numbers = drawn.astype(np.int64) @ [1, 256]
    # 4096 draws from 4096 numbers hit 63.2% of them; 10 standard deviations are 3%.
    assert abs(len(set(numbers.tolist())) / 4096 - 0.632) < 0.05
    assert numbers.max() < 4096


def test_random_numbers_below_n_are_never_0_and_never_n():
    drawn = draw_below(mpz(5), 500, system_stream())
    assert set(drawn) == {1, 2, 3, 4}


def test_a_growing_table_gives_the_same_powers_and_grows_no_further_than_it_pays():
    modulus, bits, made = mpz(1000003), 300, []

    class Watched(GrowingBase):
        def _made(self, window, executor):
            made.append(window)
            return super()._made(window, executor)

    base = Watched(lambda: mpz(3), modulus, bits)
    rng = Stream(bytes(32))
    for _ in range(40):
        exponents = draw_exponents(20, bits, rng)
        expected = [pow(3, int.from_bytes(e.tobytes(), "little"), int(modulus)) for e in exponents]
        assert base.powers(exponents, None) == expected
    assert made == [4, 6]  # 20 powers at first, 800 in the end
    base.prepare(3, None)
    base.powers(draw_exponents(500, bits, rng), None)
    assert made == [4, 6, 3]  # what was asked for stays


def test_windows_out_of_range_are_refused():
    for window in (0, 15):
        with pytest.raises(UsageError, match="a window has 1 to 14 bits"):
            FixedBase(mpz(3), mpz(35), 8, window)


def test_randomizers_are_powers_of_h(small_key):
    key = small_key.public_key
    drawn = residues.from_digits(key.draw_randomizers(5, rng=Stream(bytes(32))), key.n)
    exponents = draw_exponents(5, key.bits // 2, Stream(bytes(32)))
    numbers = [int.from_bytes(row.tobytes(), "little") for row in exponents]
    base = pow(int(key.h), int(key.n) ** key.s, int(key.modulus.ciphertext))
    assert drawn == [pow(base, a, int(key.modulus.ciphertext)) for a in numbers]


def test_a_pool_hands_out_every_randomizer_once(small_keys):
    key = small_keys[1]
    with ThreadPoolExecutor(2) as executor:
        pool = RandomizerPool(key.public_key, executor, size=20)
        pool.fill()
        assert len(pool) >= 20
        taken = [residues.from_digits(pool.take(n), key.public_key.n) for n in (1, 19, 7, 40, 3)]
        flat = [randomizer for randomizers in taken for randomizer in randomizers]
        assert len(set(flat)) == len(flat) == 70
        assert all(
            pow(randomizer, (p - 1) * (q - 1), p * q * p * q) == 1
            for randomizer in flat
            for p, q in [key.prime_factors()]
        )


def test_many_threads_never_get_the_same_randomizer(small_keys):
    with ThreadPoolExecutor(2) as background, ThreadPoolExecutor(8) as takers:
        pool = RandomizerPool(small_keys[1].public_key, background, size=50)
        taken = list(takers.map(lambda _: pool.take(3), range(100)))
    first = [randomizer for low, _ in taken for randomizer in low]
    assert len(set(first)) == len(first) == 300


def test_what_a_pool_encrypts_decrypts(small_key):
    key = small_key.public_key
    x = np.arange(-50.0, 50.0)
    with ThreadPoolExecutor(2) as executor:
        pool = RandomizerPool(key, executor, size=8)
        pool.fill()
        for _ in range(3):
            ciphertext = key.encrypt(x, PLAN, randomizers=pool)
            assert np.array_equal(small_key.decrypt(ciphertext), x)


class Failing(Executor):
    """Fails every second task."""

    def __init__(self) -> None:
        self.tasks = 0

    def submit(self, fn, /, *args, **kwargs):
        self.tasks += 1
        future: Future = Future()
        if self.tasks % 2:
            future.set_exception(MemoryError("no memory for randomizers"))
        else:
            future.set_result(fn(*args, **kwargs))
        return future


def test_what_stops_the_background_surfaces_and_the_pool_goes_on(small_keys):
    key = small_keys[1].public_key
    executor = Failing()
    executor.tasks = 1000
    pool = RandomizerPool(key, executor, size=32)
    seen, failures = [], 0
    for _ in range(20):
        try:
            seen += residues.from_digits(pool.take(5), key.n)
        except MemoryError:
            failures += 1
    assert failures
    assert len(set(seen)) == len(seen) >= 50


def test_a_closed_pool_has_no_randomizers_left_and_still_computes_them(small_keys):
    with ThreadPoolExecutor(1) as executor:
        pool = RandomizerPool(small_keys[1].public_key, executor, size=16)
        pool.fill()
        pool.close()
        assert len(pool) == 0
        assert len(pool.take(3)[0]) == 3
        assert len(pool) == 0


@pytest.mark.slow
def test_a_forked_child_has_none_of_its_parents_randomizers(small_primes):
    p, q = small_primes
    program = f"""
import os, warnings
from concurrent.futures import ThreadPoolExecutor
from secagg.he.paillier import RandomizerPool, SecretKey
warnings.simplefilter("ignore")
key = SecretKey._from_primes({p}, {q}).public_key
key.prepare(window=2)
with ThreadPoolExecutor(1) as executor:
    pool = RandomizerPool(key, executor, size=16)
    pool.fill()
    ready = len(pool)
    child = os.fork()
    if not child:
        status = len(pool) or len(set(pool.take(4)[0])) != 4 or len(pool)
        os._exit(int(status))
    assert os.waitpid(child, 0)[1] == 0, "the child has randomizers"
    assert len(pool) >= ready >= 16
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_pool_is_neither_copied_nor_shown(small_keys):
    with ThreadPoolExecutor(1) as executor:
        pool = RandomizerPool(small_keys[1].public_key, executor, size=1)
        pool.fill()
        for duplicate in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="used twice"):
                duplicate(pool)
        assert str(pool.take(1)[0][0]) not in repr(pool)
        with pytest.raises(UsageError, match="at least 1 randomizer"):
            RandomizerPool(small_keys[1].public_key, executor, size=0)


def test_randomizers_of_another_key_or_two_sources_are_refused(small_keys, other_public_key):
    key = small_keys[1].public_key
    with ThreadPoolExecutor(1) as executor:
        pool = RandomizerPool(key, executor, size=1)
        with pytest.raises(UsageError, match="expected randomizers of"):
            other_public_key.encrypt(np.ones(3), PLAN, randomizers=pool)
        with pytest.raises(UsageError, match="one of the two"):
            key.encrypt(np.ones(3), PLAN, randomizers=pool, rng=system_stream())
