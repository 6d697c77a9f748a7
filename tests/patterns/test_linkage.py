"""People of two organisations linked on shares: exactly as in the clear, on made-up lists with errors."""

from __future__ import annotations

import datetime

import numpy as np
import pytest

from bank_tables import terms_of
from costs import measured
from program_runs import played, strings
from secagg.errors import DataError, PlanError, RangeError
from secagg.patterns.linkage import LINKAGE_COUNT, RECORD_LINKAGE, examples
from secagg.patterns.linkage.people import Comparison, lay

NAMES = ("clinic", "registry")
COMPUTING = (*NAMES, "office")


def everybody(block_size, threshold=80):
    """Return parameters that lay all people into one block."""
    return Comparison(blocks=1, block_on=(), block_size=block_size, threshold_percent=threshold)


def table(rows):
    person, given, family, born = zip(*rows, strict=True)
    days = [(day - datetime.date(1970, 1, 1)).days for day in born]
    columns = {"person": strings(person), "given_name": strings(given), "family_name": strings(family)}
    return {"people": columns | {"born": np.array(days, np.int64)}}


@pytest.fixture(scope="module")
def tables():
    return {name: table(rows) for name, rows in examples.people(7, 18, 12).items()}


@pytest.mark.slow
def test_who_is_linked_on_shares_is_who_is_in_the_clear_at_the_declared_cost(tables):
    parameters = Comparison(blocks=4, block_size=14, block_on=("month",), threshold_percent=70)
    terms = terms_of(NAMES, COMPUTING)
    outcome = played(RECORD_LINKAGE, parameters, tables, COMPUTING)
    outcome.values()
    expected = RECORD_LINKAGE.reference(parameters, terms, tables)
    assert {name: outcome.results[name] for name in NAMES} == expected
    assert len(expected["clinic"]) >= 9
    assert sorted(n for _, n in expected["clinic"]) == sorted(n for _, n in expected["registry"])
    declared = RECORD_LINKAGE.cost(parameters, terms, dict.fromkeys(NAMES, 0))
    costs = {name: measured(name, ledger) for name, ledger in outcome.ledgers.items()}
    assert {n: c.payload_bytes[n] for n, c in costs.items()} == declared.payload_bytes
    assert max(c.rounds for c in costs.values()) == declared.rounds


@pytest.mark.parametrize(("smallest", "told"), [(9, True), (100, False)])
def test_a_number_of_links_is_told_from_the_smallest_on(smallest, told, tables):
    parameters = LINKAGE_COUNT.Parameters(
        blocks=4, block_size=14, block_on=("month",), threshold_percent=70, smallest=smallest
    )
    outcome = played(LINKAGE_COUNT, parameters, tables, COMPUTING)
    outcome.values()
    expected = LINKAGE_COUNT.reference(parameters, terms_of(NAMES, COMPUTING), tables)
    assert {name: outcome.results[name] for name in NAMES} == expected
    assert [bool(rows) for rows in expected.values()] == [told, told]


def test_people_with_errors_are_found_again():
    lists = examples.people(11, 150, 150)
    parameters = everybody(300, 82)
    found = RECORD_LINKAGE.linked(parameters, {name: table(rows) for name, rows in lists.items()})
    right = sum(one[1:] == other[1:] for one, other in found)
    assert right >= 0.97 * 150  # recall
    assert right >= 0.97 * len(found)  # precision
    # One block a year of birth and sound misses whoever has an error in what makes the block.
    blocked = Comparison(blocks=64, block_size=300, threshold_percent=82)
    fewer = RECORD_LINKAGE.linked(blocked, {name: table(rows) for name, rows in lists.items()})
    assert 0.5 * right < len(set(fewer) & set(found)) < right


def test_swapped_names_lie_in_one_block_and_nothing_shows_how_full_it_is(tables):
    parameters = Comparison(block_size=4)
    born = datetime.date(1984, 3, 7)
    laid = [
        lay(parameters, table([("x", *names, born)])).features
        for names in (("Zoë", "Meier"), ("Meier", "Zoe"))
    ]
    assert laid[0] == laid[1]
    assert [len(block) for block in laid[0]] == [4] * 64
    shapes = {
        tuple(
            (t, c, len(v)) for t, own in RECORD_LINKAGE.local(parameters, t1).items() for c, v in own.items()
        )
        for t1 in (
            table([("x", "Ann", "Lee", born)]),
            table([("x", "Ann", "Lee", born), ("y", "Bo", "Day", born)]),
        )
    }
    assert len(shapes) == 1
    assert (
        RECORD_LINKAGE.prepare(parameters, terms_of(NAMES, COMPUTING), table([("x", "A", "B", born)])).rows
        == 0
    )


def test_both_may_call_different_people_alike():
    born = datetime.date(1984, 3, 7)
    rows = [("1", "Ann", "Lee", born), ("2", "Bob", "Day", born)]
    lists = {"clinic": table(rows), "registry": table([("1", *rows[1][1:]), ("2", *rows[0][1:])])}
    parameters = everybody(2)
    told = RECORD_LINKAGE.reference(parameters, terms_of(NAMES, COMPUTING), lists)
    assert dict(told["clinic"])["1"] == dict(told["registry"])["2"]
    outcome = played(RECORD_LINKAGE, parameters, lists, COMPUTING)
    outcome.values()
    assert {name: outcome.results[name] for name in NAMES} == told


def test_people_that_cannot_be_laid_into_blocks_are_refused():
    born = datetime.date(1984, 3, 7)
    parameters = everybody(1)
    long = "".join(
        a + b for a, b in zip("abcdefghijklmnopqrst" * 2, "zyxwvutsrqponmlkjihgf" * 2, strict=False)
    )
    for rows, error, says in (
        (
            [("x", "A", "B", born), ("y", "C", "D", born)],
            RangeError,
            "1 of 1 blocks have more people than block_size",
        ),
        ([("x", "A", "B", born), ("x", "C", "D", born)], DataError, "a person stands in several rows"),
        ([("", "A", "B", born)], DataError, "an empty identifier"),
        ([("x", "李", "王", born)], DataError, "1 of 1 people have names without a letter"),
        (
            [("x", long[:40], long[40:], born)],
            RangeError,
            "64 bigrams",
        ),
    ):
        with pytest.raises(error, match=says):
            lay(parameters, table(rows))


def test_blocks_that_cannot_be_compared_are_refused():
    terms = terms_of(NAMES, COMPUTING)
    for options, says in (
        ({"blocks": 1024, "block_size": 1024}, "pairs, and at most"),
        ({"blocks": 2, "block_on": ()}, "set blocks = 1"),
        ({"block_on": ("year", "year")}, "name each once"),
    ):
        with pytest.raises(PlanError, match=says):
            RECORD_LINKAGE.check(Comparison(**options), terms)
    loose = Comparison(threshold_percent=50)
    assert "different people are linked" in RECORD_LINKAGE.warnings(loose, terms)[0]
    assert RECORD_LINKAGE.warnings(Comparison(), terms) == []
    assert RECORD_LINKAGE.risks(loose, terms, {}) == []
