"""Numbers that the soundness pages name are those of the code: each is computed, and looked up in the page's words.

A change of the constant, of the formula or of the sentence fails.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from secagg.mpc import buckets as bucket_plans
from secagg.mpc.buckets import OVERFLOW_BITS
from secagg.mpc.replicated import PairStreams
from secagg.network import hello
from secagg.party import SESSION_BYTES
from secagg.prg import KEY_BYTES, Stream
from secagg.protocols.joint_groups import Field, Layout, Query
from secagg.protocols.joint_groups import layout as layouts
from secagg.protocols.pseudonyms import log2_collision

ROOT = Path(__file__).parents[1]
THREE = ("A", "B", "C")


def page(name: str) -> str:
    return " ".join((ROOT / "docs" / f"{name}.md").read_text("utf-8").split())


def says(name: str, words: str) -> None:
    assert " ".join(words.split()) in page(name), f"docs/{name}.md does not say: {words}"


def collectors(counts: tuple[int, ...]) -> Layout:
    """Return the layout of the query that the page's examples are about."""
    from secagg.protocols import collectors as pattern

    banks = tuple(f"bank {i}" for i in range(len(counts)))
    return Layout.plan(pattern.query(pattern.Parameters(), banks, THREE), counts)


def test_bytes_of_sessions_nonces_and_keys():
    assert (SESSION_BYTES, hello.NONCE_BYTES, hello.AGREEMENT_BYTES, KEY_BYTES) == (32, 32, 32, 32)
    says("soundness", "a nonce is 32 bytes from the operating system")
    says("soundness", "each pair of computing parties exchanges 32 random bytes each")
    says("soundness", "one contribution of 32 bytes from each input party")


def test_the_purposes_on_the_page_are_those_that_the_engine_draws_for():
    listed = re.search(r"Purposes: (.*?)\. A second", page("soundness"))
    assert listed
    named = set(re.findall(r"`([^`]+)`", listed[1]))
    code = "".join(p.read_text("utf-8") for p in (ROOT / "secagg" / "mpc").glob("*.py"))
    code += "".join(p.read_text("utf-8") for p in (ROOT / "secagg" / "protocols").rglob("*.py"))
    drawn = set(re.findall(r"(?:own|following|pair|single)\[\"([^\"]+)\"\]", code))
    assert named == drawn


def test_each_label_on_the_page_makes_the_streams_of_the_code():
    from secagg.mpc import additive
    from secagg.protocols import additive_sum, bounded_sum

    assert additive._LABEL == "secagg.mpc.additive/share"
    assert f"{bounded_sum.terms.LABEL}/share" == "secagg.protocols.bounded_sum/share"
    assert additive_sum.terms.LABEL != bounded_sum.terms.LABEL
    labels = ("secagg.mpc.replicated/", "secagg.mpc.replicated/outside input")
    for label in (
        *labels,
        additive._LABEL,
        f"{bounded_sum.terms.LABEL}/share",
        "secagg.protocols.pseudonyms",
    ):
        says("soundness", f"`{label}`")
        sources = (ROOT / "secagg").rglob("*.py")
        stem, _, purpose = label.rpartition("/")
        assert any(
            label in (text := p.read_text("utf-8")) or (stem in text and f"/{purpose}" in text)
            for p in sources
        )
    pair = PairStreams(bytes(64), bytes(32))
    assert pair["and"].bytes(32) != pair["mul"].bytes(32)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 1000, 1 << 12, (1 << 12) + 1])
def test_keys_of_a_permutation_are_as_long_as_the_page_on_equal_ones_needs(n):
    """Two of n keys of 64 - log2 n bits are equal with probability below n**2 / 2**(65 - log2 n)."""
    rows = max(4, (1 << 16) // n)
    stream = Stream(bytes(range(32)))
    stream.permutations(rows, n)
    redrawn = stream.position // (8 * n) - rows
    bits = 64 - max(1, (n - 1).bit_length())
    expected = rows * n * (n - 1) / 2.0 ** (bits + 1)
    # Expected is below 2**-13 in all cases: one row drawn anew would have a probability below that.
    assert expected < 2**-13
    assert redrawn == 0


def test_overflow_identity_and_compared_bits():
    assert (OVERFLOW_BITS, layouts.KEY_BITS, layouts._IDENTITY_BITS) == (40, 80, 60)
    says("soundness", "at most 2^-40/(λB)")
    says("soundness", "Compared are at least 80 bits of h")
    says("soundness", "agree in bucket and the ι ≥ 60 identity bits")
    assert "or 40" not in page("soundness")


@pytest.mark.parametrize(("rows", "named"), [(1_000_000, -41), (30_000_000, -31)])
def test_false_matches_of_the_tables_that_are_named(rows, named):
    assert round(log2_collision(rows, layouts.KEY_BITS)) == named
    says("soundness", "2^-41 for a million rows, 2^-31 for thirty million")


@pytest.mark.parametrize(
    ("counts", "identity_bits", "named"),
    [((333_333,) * 3, 64, -36), ((1_000_000,) * 3, 64, -33), ((500_000,) * 2, 60, -31)],
)
def test_ends_of_runs_by_bad_luck_of_the_tables_that_are_named(counts, identity_bits, named):
    layout = collectors(counts)
    buckets = layout.buckets.prefix_bits
    second = sum(n * n / 2.0 ** (buckets + identity_bits + 1) + n / 2.0**identity_bits for n in counts)
    assert round(math.log2(second)) == named
    assert layout.identity_bits >= identity_bits
    assert layout.log2_abort > math.log2(second) or layout.identity_bits > identity_bits
    says("soundness", "≤ Σ_l (n_l²/2^(log₂B + ι + 1) + n_l/2^ι)")
    says(
        "soundness",
        "The second line is 2^-36 for three organisations of 333,333 rows each, 2^-33 for three of a million, "
        "and up to 2^-31 for two of half a million, where ι = 60",
    )


def test_capacities_are_the_least_that_the_chernoff_bound_allows():
    for n, buckets, lists in ((50, 64, 2), (1000, 64, 3), (100_000, 1024, 3)):
        capacity = bucket_plans._capacity(n, buckets, lists)
        enough = math.log(lists * buckets) + 40 * math.log(2)
        assert bucket_plans._chernoff(n, capacity + 1, 1 / buckets) >= enough
        assert bucket_plans._chernoff(n, capacity, 1 / buckets) < enough


def test_a_bound_on_the_end_of_a_run_counts_both_kinds_of_bad_luck():
    layout = Layout.plan(Query(THREE, THREE, (Field("n", 1, at_least=1),)), (1000, 500, 0))
    buckets, bits = layout.buckets.buckets, layout.identity_bits
    alike = sum(n * n / buckets + n for n in (1000, 500, 0)) / 2.0**bits
    assert layout.log2_abort == pytest.approx(math.log2(2.0**-40 + alike), abs=1e-9)
    assert np.isfinite(layout.log2_abort)
