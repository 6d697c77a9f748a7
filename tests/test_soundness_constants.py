"""More numbers of the soundness pages, computed and looked up in the page: bounds on peers, lattices, noise, ring widths.

As in test_soundness_numbers.py, a change of the constant, of the formula or of the sentence fails.
"""

from __future__ import annotations

import importlib
import math
import re
from pathlib import Path

import numpy as np
import pytest

from secagg.fixed_point import Plan

ROOT = Path(__file__).parents[1]


def page(name: str) -> str:
    return " ".join((ROOT / "docs" / f"{name}.md").read_text("utf-8").split())


def says(name: str, *words: str) -> None:
    text = page(name)
    for phrase in words:
        assert phrase in text, f"docs/{name}.md does not say: {phrase}"


def row(name: str, *first: str) -> list[str]:
    """Return the cells of the only row of the page's tables that begins with these."""
    lines = (ROOT / "docs" / f"{name}.md").read_text("utf-8").splitlines()
    rows = [
        [cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")
    ]
    (found,) = (cells for cells in rows if tuple(cells[: len(first)]) == first)
    return found


# Constants that carry a claim: page, module, name, value, and words that name the value.
CONSTANTS = [
    ("soundness", "wire", "VERSION", 1, "Messages carry the session (its first 16 bytes), sender, lane, number and kind"),
    ("soundness-masked", "protocols.masked_sum.shamir", "PRIME", 2**256 + 297, "Over the prime 2^256 + 297"),
    ("soundness-masked", "protocols.masked_sum.shamir", "_DRAWN_BYTES", 48, "up to 2^-127 a coefficient"),
    ("soundness-masked", "federated.terms", "_GRINDING_BITS", 64.0, "There 64 bits are added"),
    ("soundness-masked", "federated.terms", "NONCE_BYTES", 32, "adds 32 bytes of its own"),
    ("soundness-dp", "dp.mechanism", "_WRAP", 2.0**-40, "planned to be at most 2^-40"),
    ("soundness-dp", "updates.noisy", "_CUT", 2.0**-20, "Noise is made for δ' = (1 - 2^-20) δ"),
    ("soundness-dp", "dp.rejection", "_WORD", 2**64, "integer weights W_b that add up to 2^64"),
    ("soundness-encryption", "he.rlwe.sampling", "ETA", 21, "the number of heads of 42 coins"),
    ("soundness-encryption", "he.rlwe.noise", "FAILURE_BITS", 40, "at most 2^-40 for all C together"),
    ("soundness-encryption", "he.rlwe.flooding", "MIN_FLOOD_BITS", 11, "for W ≥ 2^10, which is what the code uses"),
    ("soundness-encryption", "he.rlwe.key_generation", "NONCE_BYTES", 32, "nonce of 32 bytes"),
    ("soundness-encryption", "he.ckks.contexts", "FAILURE_BITS", 40, "for any numbers but with probability 2^-40"),
    ("soundness-encryption", "he.paillier.dleq", "_BATCH_BYTES", 16, "Small exponents e_1..e_k of 128 bits"),
    ("soundness-encryption", "he.paillier.dleq", "CHALLENGE_BYTES", 32, "A, B, 256 bits, z = r + ea"),
    ("soundness-encryption", "he.paillier.dleq", "_HIDING_BITS", 128, "r has L + 384 bits"),
    ("soundness-encryption", "he.paillier.checks", "MIN_RANDOMIZER_BITS", 512, "Less than 512 is refused"),
    ("soundness-encryption", "he.paillier.primes", "SMALL_FACTOR_BITS", 16, "free of factors below 2^16"),
    ("soundness", "wire", "MAX_FRAME_BYTES", 4 << 30, "4 GiB unless told otherwise"),
    ("soundness", "wire", "MAX_ITEMS", 1 << 18, "at most 2^18 items"),
    ("soundness", "wire", "MAX_ARRAYS", 256, "and 256 arrays"),
    ("soundness", "wire", "MAX_DEPTH", 1 << 32, "never send more than 2^32"),
    ("soundness", "network.callers", "_MAX_CONNECTED", 512, "512 connections that have sent nothing"),
    ("soundness", "network.callers", "_MAX_SHAKING", 256, "256 within a handshake"),
    ("soundness", "mpc.additive", "SEED_BYTES", 32, "fresh 32-byte seeds"),
    ("soundness", "protocols.announcements", "SALT_BYTES", 32, "a fresh salt of 32 bytes"),
    ("soundness-masked", "protocols.masked_sum.graph", "_COMPLETE_UP_TO", 100, "up to 100 clients always"),
    ("soundness-dp", "dp.distributions", "DIGITS", 32, "errs by less than 10^-32"),
    ("soundness-dp", "dp.distributions", "_SPARE", 25, "Of the p = digits + 25 places"),
    ("soundness-dp", "dp.distributions", "_LARGE", 10**20, "x < 10^20"),
    ("soundness-dp", "dp.distributions", "_TERMS", 32, "after 32 terms"),
    ("soundness-dp", "dp.clipping", "_DRAWS", 64, "After 64 redraws"),
    ("soundness-dp", "dp.clipping", "_SPREAD", 1.0, "β = e^(-1/2)"),
    ("soundness-dp", "dp.calibration", "_EXACTNESS", 1e-6, "by bisection to 10^-6"),
    ("soundness-dp", "dp.calibration", "_MIN_GAUSSIAN", 0.25, "variance σ² ≥ 1/4"),
    ("soundness-dp", "updates.noisy", "_CLEAR", 4.0, "below 4 standard deviations"),
    ("soundness-dp", "federated.budget", "MAX_SUMS", 4096, "at most 4,096 of them"),
    ("soundness-dp", "federated.budget", "_SUM_BYTES", 8, "8 bytes of its nonce"),
    ("soundness-encryption", "he.scheme", "_MAX_ORIGINS", 64, "remembers up to 64 encryptions"),
    ("soundness-encryption", "he.ckks.contexts", "_CLIP_BITS", 32, "|c| ≤ 2^32"),
]  # fmt: skip
EXTRAS = {"dp": "dp_accounting", "noisy": "dp_accounting", "flower": "flwr", "ckks": "tenseal"}


@pytest.mark.parametrize(
    ("name", "module", "constant", "value", "words"), CONSTANTS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_the_constant_is_what_the_page_says(name, module, constant, value, words):
    for part, needed in EXTRAS.items():
        if part in module.split("."):
            pytest.importorskip(needed)
    assert getattr(importlib.import_module(f"secagg.{module}"), constant) == value
    says(name, words)


def test_bounds_on_what_a_peer_makes_a_party_hold():
    from secagg import wire
    from secagg.mailbox import Room

    assert Room() == Room(nbytes=1 << 30, frames=65_536, lanes=4096, early=1024)
    assert wire._MAX_CONTROL_BYTES[wire.FrameType.HEARTBEAT] == 64
    says(
        "soundness",
        "up to 1 GiB of what Python holds for them, 65,536 messages and 4,096 lanes",
        "64 bytes for a heartbeat",
    )


@pytest.mark.parametrize(
    ("nbytes", "named"), [(1 << 29, "2^-79 for half a gigabyte"), (1 << 40, "2^-57 for a terabyte")]
)
def test_advantage_against_a_stream_by_the_switching_lemma(nbytes, named):
    blocks = nbytes // 16  # of AES
    exponent = round(2 * math.log2(blocks)) - 129
    assert named.startswith(f"2^{exponent} ")
    says("soundness", "at most b²/2^129", named)


def test_advantage_against_pseudonyms():
    assert round(math.log2(4) + 2 * 27) - 128 == -72
    says("soundness", "at most 4σ²/2^128", "2^-72 for 2^27 blocks")


def test_range_of_truncated_products():
    from secagg.mpc.numbers import truncation_range
    from secagg.ring import Ring

    least, greatest = truncation_range(Ring(64), 16)
    assert least == -(1 << 30) << 32
    assert (1 << 30) - 1 << 32 <= greatest < 1 << 30 << 32
    says("soundness", "For k = 64, f = 16, numbers whose products stay in [-2^30, 2^30)")


def test_what_the_defaults_of_collectors_let_one_row_claim():
    from secagg.patterns.banking import COLLECTORS

    defaults = COLLECTORS.Parameters()
    assert (defaults.max_senders_per_bank, defaults.min_banks) == (100_000, 2)
    says("soundness", "a made-up row of 100,000 senders", "With `min_banks = 2`")


def test_bytes_of_a_comparison():
    from secagg.mpc.three.costs import msb_cost

    n = 1 << 20
    assert 40 <= sum(msb_cost(n, 64).payload_bytes.values()) / n <= 43
    says("soundness-bounded", "a comparison costs some 40 bytes")


def test_neighbours_against_an_active_server():
    from secagg.protocols.masked_sum import choose

    assert choose(1000, max_corrupt=1 / 3, max_dropout=1 / 10, threat_model="malicious").degree == 344
    assert choose(100, max_corrupt=0.1, max_dropout=0.1).complete
    assert not choose(101, max_corrupt=0.1, max_dropout=0.1).complete
    says("soundness-masked", "344 for n = 1000, a third corrupt, a tenth dropping out")


def test_redrawing_that_ends_by_rounding_down_is_as_rare_as_said():
    assert 0.61**64 < 1e-13
    says("soundness-dp", "below 0.61^64 < 10^-13")


# Encryption.


@pytest.mark.parametrize(("limb_bits", "degrees"), [(32, (4096, 8192)), (26, (4096, 8192))])
def test_errors_of_products_in_the_table(limb_bits, degrees):
    _, *cells = row("soundness-encryption", str(limb_bits))
    for degree, cell in zip(degrees, cells, strict=False):
        u, k = 2.0**-53, int(math.log2(degree)) - 1
        logs = 3 * k * math.log1p(u) + (3 * k + 4) * math.log1p(math.sqrt(5) * u)
        logs += 3 * k * math.log1p(9 * u) + 3 * math.log1p(5 * u)
        bound = math.ldexp(degree, limb_bits - 1) * math.expm1(logs)
        assert math.isclose(bound, float(cell), rel_tol=0.015)


def test_products_are_made_of_the_limbs_that_the_page_names():
    from secagg.he.rlwe.parameters import parameters

    used = {
        bits: (p := parameters(bits)).limb_bits and (p.limb_bits, p.limbs, p.degree) for bits in (64, 96, 128)
    }
    assert used == {64: (32, 2, 4096), 96: (32, 3, 4096), 128: (26, 5, 8192)}
    assert row("soundness-encryption", "32")[-1] == "q = 2^64 (2 limbs), 2^96 (3 limbs), both N = 4096"
    assert row("soundness-encryption", "26")[-1] == "q = 2^128 (5 limbs), N = 8192"


def lattice(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.lattice")


@pytest.mark.parametrize(("degree", "bits"), [(4096, 64), (4096, 96), (8192, 128)])
def test_hardness_of_the_three_sets(degree, bits, monkeypatch):
    own = row("soundness-encryption", str(degree), str(bits))[-1]
    check_hardness(lattice(monkeypatch), degree, bits, [float(x) for x in re.findall(r"[\d.]+", own)])


@pytest.mark.parametrize("name", ["4096", "8192/256", "8192/tenseal"])
@pytest.mark.slow
def test_hardness_of_the_ckks_contexts(name, monkeypatch):
    pytest.importorskip("tenseal")
    from secagg.he.ckks import CONTEXTS

    context = CONTEXTS[name]
    first = "4096, the default, and 4096/symmetric" if name == "4096" else name
    _, degree, primes, security, block, gates, core, quantum = row("soundness-encryption", first)
    bits = sum(context.prime_bits)
    assert primes == " + ".join(map(str, context.prime_bits)) + f" = {bits}"
    assert (int(degree), int(security)) == (context.degree, context.security_bits)
    said = [float(x) for x in re.findall(r"[\d.]+", f"{block} {gates} {core} {quantum}")]
    check_hardness(lattice(monkeypatch), context.degree, bits, said)


def check_hardness(benchmark, degree: int, bits: int, said: list[float]) -> None:
    """Check block, gates, core-SVP and both quantum counts of a row."""
    beta, samples = benchmark.smallest_block(degree, bits)
    assert said[0] == beta
    gates = benchmark.gates(beta, degree + samples + 1)
    found = [gates, 0.292 * beta, 0.265 * beta, 0.257 * beta]
    np.testing.assert_allclose(said[1:], found, atol=0.06)


@pytest.mark.parametrize(("sum_bits", "most"), [(48, 221), (46, 3542), (44, 56_674)])
def test_room_of_a_single_key(sum_bits, most):
    from secagg.he.rlwe import noise
    from secagg.he.rlwe.parameters import parameters

    plan = Plan(64, 0, float((1 << (sum_bits - 1)) // 10 - 1), 10)
    assert plan.sum_bits == sum_bits
    assert noise.largest_squares(plan, parameters(64), 1 << 20) == most
    says(
        "soundness-encryption", "a sum of 48 bits bears Σ w_k² ≤ 221, one of 46 bits 3,542, of 44 bits 56,674"
    )


@pytest.mark.parametrize(("degree", "bits", "sum_bits"), [(4096, 96, 36), (8192, 128, 36), (8192, 128, 64)])
def test_distances_of_flooded_answers_in_the_table(degree, bits, sum_bits):
    from secagg.he.rlwe.flooding import plan_release

    _, _, flood_bits, *distances = row("soundness-encryption", f"N = {degree}, q = 2^{bits}", str(sum_bits))
    plan = Plan(64, 0, float((1 << (sum_bits - 1)) // 1000 - 1), 1000)
    assert plan.sum_bits == sum_bits
    for blocks, said in zip((1, 1 << 8, 1 << 15), distances, strict=True):
        found = plan_release(
            plan, holders=3, releases=1, length=blocks * degree, statistical_bits=0, modulus_bits=bits
        )
        assert (found.parameters.degree, found.flood_bits) == (degree, int(flood_bits))
        assert found.log2_distance == pytest.approx(float(said), abs=0.06)


def test_primes_of_a_paillier_key_are_as_far_apart_as_the_page_says():
    pytest.importorskip("gmpy2")
    from gmpy2 import mpz, next_prime

    from secagg.he.paillier import primes

    def pair(apart: int) -> tuple[mpz, mpz]:
        p = next_prime(mpz(3) << 254)
        while p % 4 != 3:
            p = next_prime(p)
        return p, p + (mpz(1) << 156) + 4 * apart

    close = "its prime factors are too close to one another"
    assert primes.flaw(*pair(0)) == close  # of 512 bits: |p - q| = 2^156
    assert primes.flaw(*pair(1)) != close
    says("soundness-encryption", "|p - q| > 2^{|n|/2-100}")


@pytest.mark.parametrize(("name", "log2"), [("4096", -22.5), ("4096/symmetric", -24.1), ("8192/256", -21.6)])
def test_error_of_a_ckks_encryption_relative_to_the_clip(name, log2):
    pytest.importorskip("tenseal")
    from secagg.he.ckks import CONTEXTS

    context = CONTEXTS[name]
    assert context.hiding == 3 * math.sqrt(context.degree)
    assert math.log2(context.expected_error) == pytest.approx(log2, abs=0.06)
    says(
        "soundness-encryption",
        "errs by 2^-22.5 of the clip in root mean square (2^-24.1 symmetric; 2^-21.6 at N = 8192)",
    )
    says("soundness-encryption", "of deviation 3√N units of 2^-40")
