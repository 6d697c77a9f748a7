"""Patterns that are programs: who takes part how, what is refused, what is declared."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import msgspec
import numpy as np
import pytest

from bank_tables import terms_of
from costs import measured
from program_runs import played, strings
from secagg import mpc
from secagg.errors import DataError, RangeError
from secagg.party import Party, Roster
from secagg.patterns.banking.velocity import VELOCITY
from secagg.patterns.counts import Categorical
from secagg.patterns.joint_tables import PrivateTables, columns_of, python_value
from secagg.patterns.program import Findings, ProgramPattern
from secagg.query.schema import Boolean, Category, Date, Identifier, Integer, Money, Real, Schema, Timestamp

BANKS = ("a", "b", "c")


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters."""


class Every(ProgramPattern):
    """Opens each column of its table, and one more than a number that may be missing."""

    name, summary = "every", "each column"
    inputs = {  # noqa: RUF012  # nobody changes it
        "rows": Schema(
            who=Identifier(),
            real=Real(Decimal(-10), Decimal(10), 2),
            day=Date(),
            moment=Timestamp(),
            kind=Category(("man", "ape")),
            yes=Boolean(),
            some=Integer(0, 9, nullable=True),
        )
    }
    results = Schema(
        who=Identifier(),
        real_out=Real(Decimal(-10), Decimal(10), 2),
        day_out=Date(),
        moment_out=Timestamp(),
        kind_out=Category(("man", "ape")),
        yes_out=Boolean(),
        more=Integer(-1),
    )
    Parameters = Nothing
    about = "rows"
    tells = "each row"

    def program(self, parameters, tables):
        rows = tables["rows"]
        assert rows.table().names == tuple(rows.columns)
        more = mpc.where(rows.nulls["some"], -1, rows["some"] + 1)
        return Findings({**{n: rows[n] for n in ("real", "day", "moment", "kind", "yes")}, "more": more})

    def pooled(self, parameters, tables):
        found = {}
        for own in tables.values():
            for who, *values, some in zip(*own["rows"].values(), strict=True):
                kinds = list(self.results.values())[1:6]
                shown = [python_value(kind, value) for kind, value in zip(kinds, values, strict=True)]
                found[who,] = (*shown, -1 if some is np.ma.masked else int(some) + 1)
        return found


EVERY = Every()


def uses(rng, rows):
    return {
        "uses": {
            "instrument": strings([f"card{i}" for i in rng.integers(0, 6, rows)]),
            "time": rng.integers(0, 40, rows) / 2,
        }
    }


@pytest.mark.slow
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


@pytest.mark.slow
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
        assert found.rounds == pytest.approx(declared.rounds, rel=0.3)


def test_columns_of_every_type_come_back_as_they_went_in():
    parameters = EVERY.Parameters()
    tables = {}
    for i, name in enumerate(BANKS):
        tables[name] = {
            "rows": {
                "who": strings([f"{name}1", f"{name}2"]),
                "real": np.array([-150, 250 + i]),
                "day": np.array([0, 19_000]),
                "moment": np.array([0, 1_600_000_000]),
                "kind": np.array([1, i % 2]),
                "yes": np.array([True, False]),
                "some": np.ma.masked_array([5, 6], [False, True]),
            }
        }
    outcome = played(EVERY, parameters, tables, ("a", "x", "y"))
    outcome.values()
    expected = EVERY.reference(parameters, terms_of(BANKS, ("a", "x", "y")), tables)
    assert outcome.results == {**expected, "x": None, "y": None}
    assert outcome.results["b"] == [
        ("b1", Decimal("-1.50"), date(1970, 1, 1), datetime(1970, 1, 1, tzinfo=UTC), "man", True, 6),
        (
            "b2",
            Decimal("2.51"),
            date(2022, 1, 8),
            datetime(2020, 9, 13, 12, 26, 40, tzinfo=UTC),
            "man",
            False,
            -1,
        ),
    ]


def test_a_missing_value_is_refused_where_none_may_be():
    table = {"uses": {"instrument": strings(["x"]), "time": np.ma.masked_array([1.0], [True])}}
    with pytest.raises(DataError, match=r"uses\.time: expected a value in every row"):
        VELOCITY.prepare(VELOCITY.Parameters(), terms_of(BANKS, BANKS), table).check()


def committed(codes, values, mask):
    columns = columns_of(Schema(who=Identifier(nullable=True), number=Integer(0, 9, nullable=True)))
    who = Categorical(strings(["x", "y"] if max(codes) >= 0 else []), np.array(codes))
    tables = {"rows": {"who": who, "number": np.ma.masked_array(values, mask)}}
    own = PrivateTables.of({"rows": columns}, tables, caps={}, announced=2, row_limit=9)
    return own.commitment(bytes(32), session=bytes(32), owner="a")


def test_a_commitment_binds_which_values_are_missing_and_not_what_stands_under_them():
    full = committed([0, 1], [5, 0], [False, False])
    assert full != committed([0, -1], [5, 0], [False, False])
    assert full != committed([0, 1], [5, 0], [False, True])
    assert committed([0, -1], [5, 0], [False, True]) == committed([0, -1], [5, 7], [False, True])
    assert committed([-1, -1], [5, 0], [False, False]) != full


class Debts(Every):
    """Opens numbers that are all below 0."""

    inputs = {"rows": Schema(who=Identifier(), debt=Integer(-9, -1))}  # noqa: RUF012
    results = Schema(who=Identifier(), debt_out=Integer(-9, -1))

    def program(self, parameters, tables):
        return Findings({"debt": tables["rows"]["debt"]})


def test_rows_of_padding_are_not_shown_where_a_program_shows_rows_without_values():
    opened = []

    class Low(Debts):
        def program(self, parameters, tables):
            found = tables["rows"]["debt"]
            return Findings({"debt": found}, shown=found < 1)

        def _rows(self, own, columns, shown):
            opened.append(shown.tolist())
            return super()._rows(own, columns, shown)

    tables = {name: {"rows": {"who": strings([name]), "debt": np.array([-3])}} for name in BANKS}
    terms = replace(terms_of(BANKS, BANKS), pad_rows_to=2)
    assert played(Low(), Nothing(), tables, BANKS, terms).results == {n: [(n, -3)] for n in BANKS}
    assert opened == [[True, False]] * 3


def test_rows_of_padding_lie_in_a_range_below_zero():
    tables = {name: {"rows": {"who": strings([name]), "debt": np.array([-3])}} for name in BANKS}
    terms = replace(terms_of(BANKS, BANKS), pad_rows_to=2)
    assert played(Debts(), Nothing(), tables, BANKS, terms).results == {n: [(n, -3)] for n in BANKS}


class Dues(Every):
    """Opens amounts of at most 1000 units; shares them by the row, or one for each owner."""

    inputs = {"rows": Schema(who=Identifier(), due=Money(max=1000))}  # noqa: RUF012
    results = Schema(who=Identifier(), due_out=Money(max=1000))
    one_each = False

    def sizes(self, parameters):
        return {"rows": 1} if self.one_each else {}

    def program(self, parameters, tables):
        return Findings({"due": tables["rows"]["due"]})


@pytest.mark.parametrize(("decimals", "due"), [(2, 1000_00), (3, 1000_000), (0, 1000)])
def test_a_largest_amount_is_in_units_of_the_jobs_currency(decimals, due):
    terms = replace(terms_of(BANKS, BANKS), currency_decimals=decimals)
    tables = {name: {"rows": {"who": strings([name]), "due": np.array([due])}} for name in BANKS}
    assert played(Dues(), Nothing(), tables, BANKS, terms).results == {n: [(n, due)] for n in BANKS}
    above = {"rows": {"who": strings(["a"]), "due": np.array([due + 1])}}
    with pytest.raises(RangeError, match=f"outside 0 to {due}"):
        Dues().prepare(Nothing(), terms, above).check()


def test_row_counts_are_declared_as_opened_only_where_a_table_has_no_public_size():
    class One(Dues):
        one_each = True

    terms = terms_of(BANKS, BANKS)
    counted = [
        any("how many rows" in what.what for what in p.opens(Nothing(), terms)) for p in (Dues(), One())
    ]
    assert counted == [True, False]
