"""The size of a table is chosen by what this machine measured once; results are the same for every choice."""

from __future__ import annotations

import json
import math
import stat

import pytest

pytest.importorskip("gmpy2", reason="Paillier needs gmpy2")

import gmpy2
import numpy as np
from gmpy2 import mpz

from secagg import fixed_point
from secagg.he.paillier import SecretKey, factors, table_speed
from secagg.he.paillier.randomizers import FixedBase, GrowingBase, cut, draw_exponents
from secagg.prg import Stream

MODULUS = mpz(2) ** 6143 + 1
BITS = 1536


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return where measured speeds are kept, with nothing measured yet and a measurement that takes no time."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(table_speed, "_known", {})
    monkeypatch.setattr(table_speed, "_measure", lambda _bits: (1.0, 1.5, 3.0))
    return tmp_path / "secagg" / "tables.json"


def test_slow_memory_makes_tables_smaller_and_powers_stay_the_same(place, monkeypatch):
    made = []

    class Watched(GrowingBase):
        def _made(self, window, executor):
            made.append(window)
            return FixedBase(mpz(3), mpz(5), 4, 2)

    for measured in ((1.0, 1.0, 1.0), (1.0, 1.0, 2.9), (1.0, 4.0, 9.0)):
        monkeypatch.setattr(table_speed, "_measure", lambda _bits, m=measured: m)
        table_speed.factors(MODULUS, anew=True)
        Watched(lambda: mpz(3), MODULUS, BITS).prepare(None, None)
    assert made == [10, 8, 6]
    small = mpz(1000003)
    exponents = draw_exponents(5, 64, Stream(bytes(32)))
    powers = [FixedBase(mpz(3), small, 64, w).powers(cut(exponents, 64, w), None) for w in (6, 8, 10)]
    assert powers[0] == powers[1] == powers[2]
    assert place.exists()


def test_speeds_are_measured_once_and_kept_by_kind_of_machine_for_the_owner_alone(place, monkeypatch):
    assert table_speed.factors(MODULUS) == (1.0, 1.5, 3.0)
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    (kept,) = json.loads(place.read_text())["factors"].items()
    assert kept == (f"{table_speed._machine()}, 6144 bits", [1.0, 1.5, 3.0])
    monkeypatch.setattr(table_speed, "_measure", lambda _bits: pytest.fail("measured again"))
    monkeypatch.setattr(table_speed, "_known", {})
    assert table_speed.factors(MODULUS) == (1.0, 1.5, 3.0)
    assert [path.name for path in place.parent.iterdir()] == ["tables.json"]
    monkeypatch.setattr(table_speed, "_measure", lambda _bits: (1.0, 1.0, 1.0))
    assert table_speed.factors(mpz(2) ** 4095 + 1) == (1.0, 1.0, 1.0)
    assert list(json.loads(place.read_text())["factors"].values()) == [[1.0, 1.5, 3.0], [1.0, 1.0, 1.0]]


def test_a_folder_that_is_named_relative_to_where_a_process_runs_is_ignored(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    place = table_speed._place()
    assert place is None or place.is_absolute()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff{",
        b"[]",
        b'{"version": 2, "factors": {}}',
        b'{"version": 1, "factors": {"KIND": [1.0, 0.5, 1.0]}}',
        b'{"version": 1, "factors": {"KIND": [1.0, 1e300, 1.0]}}',
        b'{"version": 1, "factors": {"KIND": [1.0]}}',
        b" " * (table_speed._MAX_BYTES + 1),
    ],
)
def test_a_broken_or_foreign_file_is_measured_over(place, content):
    place.parent.mkdir()
    kind = f"{table_speed._machine()}, 6144 bits"
    place.write_bytes(content.replace(b"KIND", kind.encode()))
    assert table_speed.factors(MODULUS) == (1.0, 1.5, 3.0)
    assert json.loads(place.read_text())["factors"][kind] == [1.0, 1.5, 3.0]


def test_where_nothing_can_be_written_the_process_remembers(place, monkeypatch):
    place.parent.write_bytes(b"a file where the folder should be")
    assert table_speed.factors(MODULUS) == (1.0, 1.5, 3.0)
    monkeypatch.setattr(table_speed, "_measure", lambda _bits: pytest.fail("measured again"))
    assert table_speed.factors(MODULUS) == (1.0, 1.5, 3.0)


def test_small_tables_are_made_without_a_measurement(place):
    GrowingBase(lambda: mpz(3), mpz(1000003), 300)._best_window(math.inf)
    assert not place.exists()


def test_a_measurement_gives_factors_of_at_least_1_that_do_not_fall(monkeypatch):
    monkeypatch.setattr(table_speed, "SIZES", (1, 2, 4))
    monkeypatch.setattr(table_speed, "_PRODUCTS", 20)
    first, middle, last = table_speed._measure(512)
    assert 1.0 == first <= middle <= last
    # A clock by which products are the faster the larger the table is.
    seconds = iter(t for _ in range(table_speed._TURNS) for spent in (3, 2, 1) for t in (0.0, spent))
    monkeypatch.setattr("secagg.he.paillier.table_speed.time.perf_counter", lambda: next(seconds))
    assert table_speed._measure(512) == (1.0, 1.0, 1.0)


class Counted:
    """A number that counts products modulo something, for one of gmpy2's."""

    products = 0

    def __init__(self, value):
        self.value = value

    def __mul__(self, other):
        Counted.products += 1
        return Counted(self.value * getattr(other, "value", other))

    __rmul__ = __mul__

    def __mod__(self, modulus):
        return Counted(self.value % modulus)


@pytest.mark.parametrize(("window", "each"), [(4, 15), (6, 10)])
def test_a_randomizer_takes_a_product_less_than_it_has_windows(window, each):
    Counted.products = 0
    table = FixedBase(Counted(mpz(3)), mpz(1000003), 64, window)
    rows, last = -(-64 // window), 64 - (-(-64 // window) - 1) * window
    # A row has 2^w powers, of which the first is 1; a base is the one before it, squared w times.
    expected = (rows - 1) * ((1 << window) - 1) + (1 << last) - 1 + (rows - 1) * window
    assert Counted.products == expected
    Counted.products = 0
    exponents = draw_exponents(3, 64, Stream(bytes(32)))
    powers = table.powers(cut(exponents, 64, window), None)
    assert Counted.products == 3 * each
    assert [p.value for p in powers] == [
        pow(3, int.from_bytes(e.tobytes(), "little"), 1000003) for e in exponents
    ]


@pytest.mark.slow
def test_decryption_takes_a_power_modulo_each_factor_for_a_residue(monkeypatch):
    secret_key = SecretKey.generate(2048)
    plan = fixed_point.plan(clip=100.0, frac_bits=16, parties=10)
    values = np.linspace(-99, 99, 150)
    ciphertext = secret_key.public_key.encrypt(values, plan)
    secret_key.decrypt(ciphertext)  # draws what each factor is blinded with
    powers, steps = [], []

    class Counting:
        @staticmethod
        def powmod_base_list(bases, exponent, modulus):
            powers.append((len(bases), exponent.bit_length(), modulus.bit_length()))
            return gmpy2.powmod_base_list(bases, exponent, modulus)

    def powmod(base, exponent, modulus):
        steps.append(exponent.bit_length())
        return gmpy2.powmod(base, exponent, modulus)

    monkeypatch.setattr(factors, "gmpy2", Counting)
    monkeypatch.setattr(factors, "powmod", powmod)
    assert np.abs(secret_key.decrypt(ciphertext) - values).max() < 2.0**-15
    residues = ciphertext.residues
    assert residues == -(-150 // ciphertext.slots)
    assert powers == [(residues, 1024, 2048)] * 2  # exponents and moduli of half the length
    assert len(steps) == 2
    assert max(steps) <= 8 * factors._BLIND_BYTES
