"""Numbers that the soundness pages name are those of the code: each is computed, and looked up in the page's words.

A change of the constant, of the formula or of the sentence fails. Checks and laws that pages name have tests of their
own, named there.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from bank_tables import terms_of
from secagg.mpc import buckets as bucket_plans
from secagg.mpc.buckets import OVERFLOW_BITS
from secagg.mpc.three.costs import COSTS
from secagg.mpc.three.streams import PairStreams, Purpose
from secagg.network import hello
from secagg.party import SESSION_BYTES
from secagg.prg import KEY_BYTES, Stream
from secagg.protocols.group_by import Field, Layout, Query
from secagg.protocols.group_by import layout as layouts
from secagg.protocols.group_by.engine import _gates
from secagg.protocols.group_by.lists import check_gates
from secagg.protocols.pseudonyms import log2_collision
from secagg.protocols.row_counts import MAX_ROWS

ROOT = Path(__file__).parents[1]
THREE = ("A", "B", "C")


def page(name: str) -> str:
    return " ".join((ROOT / "docs" / f"{name}.md").read_text("utf-8").split())


def says(name: str, words: str) -> None:
    assert " ".join(words.split()) in page(name), f"docs/{name}.md does not say: {words}"


def collectors(counts: tuple[int, ...]) -> Layout:
    """Return the layout of the query that the page's examples are about."""
    from secagg.patterns.banking import COLLECTORS

    banks = tuple(f"bank {i}" for i in range(len(counts)))
    return Layout.plan(COLLECTORS.query(COLLECTORS.Parameters(), terms_of(banks, THREE)), counts)


def test_bytes_of_sessions_nonces_and_keys():
    assert (SESSION_BYTES, hello.NONCE_BYTES, hello.AGREEMENT_BYTES, KEY_BYTES) == (32, 32, 32, 32)
    says("soundness", "a nonce is 32 bytes from the operating system")
    says("soundness", "each pair of computing parties exchanges 32 random bytes each")
    says("soundness", "one contribution of 32 bytes from each input party")


def test_the_purposes_on_the_page_are_those_that_the_engine_draws_for():
    listed = re.search(r"Purposes: (.*?)\. A second", page("soundness"))
    assert listed
    named = set(re.findall(r"`([^`]+)`", listed[1]))
    code = "".join(
        p.read_text("utf-8") for p in (ROOT / "secagg" / "mpc").rglob("*.py") if "four" not in p.parts
    )
    code += "".join(p.read_text("utf-8") for p in (ROOT / "secagg" / "protocols").rglob("*.py"))
    drawn = set(re.findall(r"(?:k_own|k_next|pair|single)\[Purpose\.(\w+)\]", code))
    assert drawn == {purpose.name for purpose in Purpose}
    assert named == {purpose.value for purpose in Purpose}


def test_each_label_on_the_page_makes_the_streams_of_the_code():
    from secagg.mpc import additive
    from secagg.protocols import additive_sum, bounded_sum

    assert additive._LABEL == "secagg.mpc.additive/share"
    assert f"{bounded_sum.terms.LABEL}/share" == "secagg.protocols.bounded_sum/share"
    assert len({additive_sum.terms.LABEL, bounded_sum.terms.LABEL}) == 2
    labels = ("secagg.mpc.three/", "secagg.mpc.three/outside input")
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
    assert pair[Purpose.AND].bytes(32) != pair[Purpose.MUL].bytes(32)


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
    [((333_333,) * 3, 64, -34), ((1_000_000,) * 3, 64, -33), ((500_000,) * 2, 60, -31)],
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
        "The second line is 2^-34 for three organisations of 333,333 rows each, 2^-33 for three of a million, "
        "and up to 2^-31 for two of half a million, where ι = 60",
    )


@pytest.mark.parametrize(("banks", "ends", "false_match"), [(3, -28, -31), (2, -25, -32)])
def test_bounds_at_ten_million_rows_an_organisation(banks, ends, false_match):
    layout = collectors((10**7,) * banks)
    assert ends - 1 < layout.log2_abort <= ends
    assert round(layout.log2_false_match) == false_match
    says(
        "soundness",
        "the bound on all of these is 2^-28 for three organisations and 2^-25 for two; that of a false match "
        "([7.2](#72-keys-and-padding)) is 2^-31 and 2^-32",
    )


def test_bounds_at_ten_million_rows_and_the_largest_announcement():
    three, two = collectors((10**7,) * 3), collectors((10**7,) * 2)
    assert MAX_ROWS == 10**7
    assert -29 <= three.log2_abort <= -28
    assert -26 <= two.log2_abort <= -25
    assert -32 <= three.log2_false_match <= -31
    assert -33 <= two.log2_false_match <= -32
    says("soundness", "the bound on all of these is 2^-28 for three organisations and 2^-25 for two")
    says("soundness", "that of a false match ([7.2](#72-keys-and-padding)) is 2^-31 and 2^-32")
    says("soundness", "at most `max_rows`, ten million unless the job says less")


def test_the_cost_of_checking_lists():
    million, small = collectors((333_333,) * 3), collectors((100,) * 2)
    ands = check_gates(million).ands
    assert round(ands / million.buckets.rows) == 147
    assert check_gates(small).ands / small.buckets.rows == pytest.approx(350, rel=0.03)
    assert round(100 * ands / _gates(million, COSTS).ands) == 4
    says("soundness", "About 147 ANDs a row")
    says("soundness", "some 350 in tables of a hundred rows")
    says("soundness", "Of a run of a million rows that is 4 % of all ANDs")


def test_capacities_are_the_least_that_the_chernoff_bound_allows():
    for n, buckets, lists in ((50, 64, 2), (1000, 64, 3), (100_000, 1024, 3)):
        capacity = bucket_plans.capacity(n, buckets, lists)
        enough = math.log(lists * buckets) + 40 * math.log(2)
        assert bucket_plans._chernoff(n, capacity + 1, 1 / buckets) >= enough
        assert bucket_plans._chernoff(n, capacity, 1 / buckets) < enough


def test_a_bound_on_the_end_of_a_run_counts_both_kinds_of_bad_luck():
    layout = Layout.plan(Query(THREE, THREE, (Field("n", 1, at_least=1),)), (1000, 500, 0))
    buckets, bits = layout.buckets.buckets, layout.identity_bits
    alike = sum(n * n / buckets + n for n in (1000, 500, 0)) / 2.0**bits
    assert layout.log2_abort == pytest.approx(math.log2(2.0**-40 + alike), abs=1e-9)
    assert np.isfinite(layout.log2_abort)


def test_coordinates_of_bounded_sums_that_are_named_fit_and_larger_ones_do_not():
    from secagg.errors import PlanError
    from secagg.protocols.bounded_sum import Bounds

    says(
        "soundness-bounded",
        "At 64 bits a million coordinates may have up to 2^21.5 units, ten thousand up to 2^24.8",
    )
    for length, log in ((10**6, 21.5), (10**4, 24.8)):
        Bounds(length, int(2**log), 10**30)
        with pytest.raises(PlanError, match="wraps"):
            Bounds(length, int(2 ** (log + 0.1)), 10**30)


def test_frames_carry_the_first_sixteen_bytes_of_the_session():
    from secagg import wire
    from secagg.party import Party
    from secagg.protocols.pseudonyms import HashKeyPart

    party = Party("a", ("a", "b"), session=bytes(range(32)))
    party.send("b", HashKeyPart(bytes(32)))
    frame = b"".join(party.outbox.popleft().frame)
    assert wire.decode_envelope(frame, peer="a").envelope.session == bytes(range(16))
