"""Patterns that are programs: who takes part how, what is refused, what is declared."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from bank_tables import terms_of
from costs import measured
from program_runs import played, strings
from secagg.errors import RangeError
from secagg.party import Party, Roster
from secagg.patterns.banking.velocity import VELOCITY
from secagg.patterns.joint_tables import PrivateTables

BANKS = ("a", "b", "c")


def uses(rng, rows):
    return {
        "uses": {
            "instrument": strings([f"card{i}" for i in rng.integers(0, 6, rows)]),
            "time": rng.integers(0, 40, rows) / 2,
        }
    }


@pytest.mark.parametrize("computing", [("a", "b", "c"), ("a", "x", "y"), ("w", "x", "y", "z")])
def test_inside_and_outside_of_both_engines_each_is_told_about_its_own_rows(computing):
    rng = np.random.default_rng(5)
    tables = {name: uses(rng, rows) for name, rows in zip(BANKS, (0, 5, 9), strict=True)}
    parameters = VELOCITY.Parameters(min_organisations=2, within_s=2)
    outcome = played(VELOCITY, parameters, tables, computing)
    outcome.values()
    terms = terms_of(BANKS, computing)
    expected = VELOCITY.reference(parameters, terms, tables)
    assert any(expected.values())
    assert {name: outcome.results[name] for name in BANKS} == expected


def test_what_no_column_allows_is_refused_at_its_owner_and_else_by_everybody():
    rng = np.random.default_rng(6)
    tables = {name: uses(rng, 4) for name in BANKS}
    parameters = VELOCITY.Parameters(within_s=2)
    tables["b"]["uses"]["time"][1] = 1e15
    own = VELOCITY.prepare(parameters, terms_of(BANKS, BANKS), tables["b"])
    with pytest.raises(RangeError, match=r"uses\.time: 1 of 4 rows lie outside"):
        own.check()
    with pytest.MonkeyPatch.context() as altered:
        altered.setattr(PrivateTables, "check", lambda _: None)
        outcome = played(VELOCITY, parameters, tables, ("a", "x", "y"))
    assert all(
        re.match("b put in a number outside", str(outcome.errors[name])) for name in ("a", "b", "c", "x", "y")
    )


def test_computing_parties_see_no_identifier_that_they_could_guess():
    """The same rows give other pseudonyms in each run, under a key that no computing party outside is sent."""
    tables = {name: uses(np.random.default_rng(7), 4) for name in BANKS}
    own = VELOCITY.prepare(VELOCITY.Parameters(), terms_of(BANKS, BANKS), tables["a"])
    party = Party("a", Roster(BANKS), session=bytes(32))
    first, second = (own.elements("uses", 6, key * 32, party)[0][0] for key in (b"0", b"1"))
    assert not np.isin(first, second).any()
    assert len(set(first[4:].tolist()) - set(first[:4].tolist())) == 2  # padding equals nothing


def test_more_rows_than_agreed_are_refused_before_anything_is_sent():
    terms = replace(terms_of(BANKS, BANKS), max_rows=3)
    with pytest.raises(RangeError, match="more than the agreed max_rows of 3"):
        VELOCITY.prepare(VELOCITY.Parameters(), terms, uses(np.random.default_rng(1), 4)).check()


def test_the_declared_cost_is_near_the_measured_one():
    rng = np.random.default_rng(8)
    tables = {name: uses(rng, 50) for name in BANKS}
    terms = terms_of(BANKS, BANKS)
    outcome = played(VELOCITY, VELOCITY.Parameters(), tables, BANKS)
    outcome.values()
    declared = VELOCITY.cost(VELOCITY.Parameters(), terms, dict.fromkeys(BANKS, 50))
    for name in BANKS:  # sorts are random, and so are their messages
        found = measured(name, outcome.ledgers[name])
        assert found.payload_bytes[name] == pytest.approx(declared.payload_bytes[name], rel=0.3)
        assert found.rounds == pytest.approx(declared.rounds, abs=12)
