"""Records linked on shares by Dice's coefficient of bigrams, compared with the same in the clear."""

from __future__ import annotations

import datetime
import itertools
from fractions import Fraction

import numpy as np
import pytest

from secagg.errors import RangeError, ShapeError, UsageError
from secagg.mpc import tables
from secagg.mpc.arrays import Engine
from secagg.mpc.arrays.dtypes import boolean, int64
from secagg.network.simulated import simulate
from secagg.patterns.linkage.examples import misspelt
from secagg.statistics import linkage
from secagg.statistics.bigrams import MOST, UNIVERSE, dice, features, letters, soundex

NAMES = ("ada", "bob", "cleo")
BORN = datetime.date(1984, 3, 7)


@pytest.mark.parametrize(
    ("name", "code"),
    [("Robert", "R163"), ("Rupert", "R163"), ("Ashcraft", "A261"), ("Tymczak", "T522"), ("Pfister", "P236"),
     ("Honeyman", "H555"), ("Lee", "L000"), ("Müller", "M460"), ("李", "0000")],
)  # fmt: skip
def test_soundex_is_that_of_the_national_archives(name, code):
    assert soundex(name) == code


def test_features_know_neither_accents_nor_the_order_of_names():
    assert letters("Łukasz Øster-Weiß") == "lukaszosterweiss"
    assert features(("Zoë", "MEIER"), BORN) == features(("Meier", "zoe"), BORN)
    assert len(features(("Ann",), BORN)) == 4 + 9  # _a an nn n_; _1 19 98 84 40 03 30 07 7_
    assert dice(features(("Ann",), BORN), features(("Anna",), BORN)) == 2 * 12 / (13 + 14)
    assert max(features(("zz",), BORN)) < UNIVERSE


def test_scores_have_the_order_of_dice_s_coefficients():
    inverses = linkage._inverses()
    scores: dict[Fraction, list[int]] = {}
    for together in range(2, 2 * MOST + 1):
        one = max(1, together - MOST)
        for common in range(min(together // 2, MOST) + 1):
            scores.setdefault(Fraction(common, together), []).append(
                common * int(inverses[one, together - one])
            )
    ranges = [(min(found), max(found)) for _, found in sorted(scores.items())]
    assert all(low[1] < high[0] for low, high in itertools.pairwise(ranges))
    assert (ranges[-1][1] + 1) * linkage._SHORT_PAIRS < 1 << 31  # with the places of pairs they fit 32 bits
    assert (ranges[-1][1] + 1) * linkage._MOST_PAIRS < 1 << 63


def blocks_of(rng, blocks, size, filled=0.8):
    """Return blocks of few different records, so that many pairs are equally alike, with empty slots."""
    names = ("Anna", "Hanna", "Johanna", "Meier", "Mayer")

    def slot():
        found = rng.choice(names, 2).tolist()
        if rng.random() < 0.3:
            found[0] = misspelt(found[0], rng)
        return features(found, BORN) if rng.random() < filled else frozenset()

    return [[slot() for _ in range(size)] for _ in range(blocks)]


def opened(left, right, threshold, parties=NAMES):
    """Return what is linked, numbers and keys, as one party opens them."""
    sides = [np.stack([linkage.encoded(block) for block in side]) for side in (left, right)]

    async def program(party):
        engine = await Engine.create(party, parties)
        shared = [
            engine.share(side if party.me == owner else None, owner=owner, shape=side.shape, dtype=boolean)
            for side, owner in zip(sides, NAMES, strict=False)
        ]
        links = linkage.link(*shared, threshold=threshold)
        left_keys, right_keys = links.keys()
        arrays = (links.pairs, links.count(), *links.sides(), *links.numbers(), right_keys)
        return left_keys, await engine.open_each([(x, name) for name in parties for x in arrays])

    left_keys, found = simulate(dict.fromkeys(parties, program)).values()[0]
    return left_keys, *found[:7]


@pytest.mark.parametrize(
    ("blocks", "rows", "columns", "threshold", "parties"),
    [(3, 5, 7, 60, NAMES), (2, 6, 4, 90, (*NAMES, "dora")), (1, 47, 45, 75, NAMES)],
    ids=["three", "four", "wide"],
)
@pytest.mark.slow
def test_links_on_shares_are_those_in_the_clear_with_ties_and_empty_slots(
    blocks, rows, columns, threshold, parties
):
    rng = np.random.default_rng(rows)
    left, right = blocks_of(rng, blocks, rows), blocks_of(rng, blocks, columns)
    expected = linkage.linked(left, right, threshold=threshold)
    assert expected
    left_keys, pairs, count, of_left, of_right, number, other, right_keys = opened(
        left, right, threshold, parties
    )
    assert [tuple(map(int, pair)) for pair in np.argwhere(pairs)] == expected
    assert count == len(expected)
    assert pairs.sum(axis=2).max() == pairs.sum(axis=1).max() == 1  # nobody twice
    assert np.array_equal(of_left, pairs.any(axis=2))
    assert np.array_equal(of_right, pairs.any(axis=1))
    assert [(number[b, i], other[b, j]) for b, i, j in expected] == [(n, n) for n in range(1, count + 1)]
    assert np.count_nonzero(number) == np.count_nonzero(other) == count
    same = left_keys.reshape(-1, 1) == right_keys.reshape(1, -1)
    flat = [(b * rows + i, b * columns + j) for b, i, j in expected]
    assert [tuple(map(int, pair)) for pair in np.argwhere(same)] == flat
    assert len(np.unique(right_keys)) == right_keys.size


def test_a_link_is_the_pair_that_is_most_alike():
    anna, hanna, johanna = (features((name, "Meier"), BORN) for name in ("Anna", "Hanna", "Johanna"))
    assert linkage.linked([[anna, hanna]], [[johanna, hanna]], threshold=50) == [(0, 1, 1)]
    assert linkage.linked([[anna]], [[anna, anna]], threshold=100) == [(0, 0, 0)]
    assert linkage.linked([[frozenset()]], [[frozenset()]], threshold=1) == []


@pytest.mark.slow
def test_keys_join_tables_on_shares():
    left, right = blocks_of(np.random.default_rng(1), 1, 4, 1), blocks_of(np.random.default_rng(2), 1, 5, 1)
    expected = {i: 10 + j for _, i, j in linkage.linked(left, right, threshold=70)}
    assert expected

    async def program(party):
        engine = await Engine.create(party, NAMES)

        def share(values, dtype=int64):
            mine = values if party.me == "ada" else None
            return engine.share(mine, owner="ada", shape=np.shape(values), dtype=dtype)

        slots = [share(np.stack([linkage.encoded(b) for b in side]), boolean) for side in (left, right)]
        own, others = linkage.link(*slots, threshold=70).keys()
        people = tables.Table({"key": tables.Column(share(own[0]))}, share(np.ones(4, bool), boolean))
        columns = {"link": tables.Column(others[0]), "weight": tables.Column(share(np.arange(10, 15)))}
        weighed = tables.Table(columns, share(np.ones(5, bool), boolean))
        joined, broken = tables.join(people, weighed, [("key", "link")])
        found = [broken, joined.columns["key"].values, joined.columns["weight"].values, joined.valid]
        return await engine.open_each([(x, name) for name in NAMES for x in found])

    broken, keys, weights, valid = simulate(dict.fromkeys(NAMES, program)).values()[0][:4]
    assert not broken
    assert dict(zip(keys[valid].tolist(), weights[valid].tolist(), strict=True)) == expected


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(RangeError, match="at most 64 bigrams of a record, got 65"):
        linkage.encoded([frozenset(range(65))])
    for threshold in (0, 101):
        with pytest.raises(UsageError, match="threshold of 1 to 100 percent"):
            opened([[frozenset()]], [[frozenset()]], threshold)
    with pytest.raises(ShapeError, match="slots of as many blocks with"):
        opened([[frozenset()]], [[frozenset()]] * 2, 80)
