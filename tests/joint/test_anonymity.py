"""The check of a table before it enters: who is too few is refused by size, or suppressed as the owner's policy says."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from joint_runs import make_job
from secagg.data.generalise import read_recipe
from secagg.errors import DataError, UsageError
from secagg.home import Home
from secagg.jobs.job import Job
from secagg.joint.consent.anonymity import Checked, checked
from secagg.joint.consent.gate import ConsentGate
from secagg.joint.consent.policy import Anonymity, PrivacyPolicy
from secagg.patterns.counts import factorize
from secagg.query.schema import Identifier, Integer, Schema

SCHEMA = Schema(
    patient=Identifier(),
    city=Identifier(repeated=True),
    age=Integer(0, 130, nullable=True),
    illness=Identifier(repeated=True),
)


def table(*rows: tuple[str, str, int, str]) -> dict[str, Any]:
    patient, city, age, illness = zip(*rows, strict=True)
    return {
        "patient": factorize(np.array(patient, object)),
        "city": factorize(np.array(city, object)),
        "age": np.ma.array(age, np.int64),
        "illness": factorize(np.array(illness, object)),
    }


# Three of (Ulm, 40), of whom one is there twice; two of (Bonn, 30); one of (Bonn, 50).
ROWS = table(
    ("a", "Ulm", 40, "flu"),
    ("b", "Ulm", 40, "flu"),
    ("c", "Ulm", 40, "cold"),
    ("c", "Ulm", 40, "cold"),
    ("d", "Bonn", 30, "flu"),
    ("e", "Bonn", 30, "flu"),
    ("f", "Bonn", 50, "rare illness"),
)


def check(columns: dict[str, Any] = ROWS, **wanted: Any) -> Checked:
    policy = Anonymity(quasi_identifiers=("city", "age"), **wanted)
    persons = columns["patient"].codes if policy.persons else np.arange(len(columns["age"]))
    return checked("patients", columns, SCHEMA, policy, persons)


def test_combinations_of_too_few_are_refused_by_their_sizes_and_without_any_value() -> None:
    with pytest.raises(DataError) as refused:
        check(k=3, persons="patient")
    said = str(refused.value)
    assert "2 of 3 combinations of city, age are those of fewer than 3 persons (1, 2)" in said
    assert not re.search("Bonn|Ulm|50|rare|flu", said)
    assert check(k=1).kept.all()
    with pytest.raises(DataError, match=r"3 of 3 combinations .* fewer than 4 persons \(1, 2, 3\)"):
        check(k=4, persons="patient")  # four rows of three persons are no four persons
    with pytest.raises(DataError, match=r"2 of 3 combinations .* fewer than 4 rows \(1, 2\)"):
        check(k=4)


def test_combinations_with_too_few_sensitive_values_are_refused() -> None:
    with pytest.raises(DataError, match=r"2 have fewer than 2 values of illness \(1, 1\)"):
        check(k=1, l=2, sensitive=("illness",))


def test_rows_are_suppressed_up_to_the_policys_part_and_what_is_left_is_anonymous() -> None:
    result = check(k=2, suppress="rows", at_most_percent=15)
    assert result.kept.tolist() == [True] * 6 + [False]
    with pytest.raises(DataError, match="more than the 14 percent of rows"):
        check(k=2, suppress="rows", at_most_percent=14)


def test_cells_are_suppressed_where_a_column_may_miss_values_and_rows_where_that_is_not_enough() -> None:
    rows = table(*[("p", "Bonn", age, "x") for age in (30, 30, 50, 60)], ("q", "Ulm", 40, "x"))
    result = check(rows, k=2, suppress="cells", at_most_percent=60)
    assert result.cells == 3
    # Without their ages the two of Bonn are alike; the one of Ulm is still alone.
    assert result.kept.tolist() == [True, True, True, True, False]
    assert np.flatnonzero(np.ma.getmaskarray(result.columns["age"])).tolist() == [2, 3, 4]
    assert not np.ma.getmaskarray(rows["age"]).any()  # the owner's own table is as it was


def gate_of(folder: Path, policy: str) -> ConsentGate:
    home = Home.create(folder / "home")
    (home.path / "privacy.toml").write_text(policy)
    return ConsentGate(home)


def entering(gate: ConsentGate, job: Job, tables: dict[str, Any]) -> dict[str, Any]:
    from secagg.data.generalise import generalised

    admitted = gate.admit(job, "north", tables)
    coarse = generalised(admitted, job.pattern.inputs, job.generalise)
    return dict(gate.screen(job, "north", coarse)["deposits"])


def test_the_check_is_of_the_rows_as_coarse_as_they_enter(tmp_path: Path) -> None:
    policy = '[tables.deposits]\nk = 2\nquasi_identifiers = ["amount"]\npersons = "customer"\n'
    job = make_job()
    deposits = {"customer": np.array(["a", "b", "c", "d"], object), "amount": np.array([101, 102, 205, 206])}
    with pytest.raises(DataError, match="4 of 4 combinations of amount"):
        entering(gate_of(tmp_path, policy), job, {"deposits": deposits})
    recipe = read_recipe({"deposits": {"amount": {"band": 1}}}, job.pattern.inputs, decimals=2)
    gate = gate_of(tmp_path, policy)
    found = entering(gate, dataclasses.replace(job, generalise=recipe), {"deposits": deposits})
    assert found["amount"].tolist() == [100, 100, 200, 200]
    assert gate.described()["suppressed"] == {"deposits": {"rows": 0, "rows_with_cells": 0}}


def test_who_is_suppressed_is_not_counted_as_somebody_who_was_there(tmp_path: Path) -> None:
    policy = (
        '[tables.deposits]\nk = 2\nquasi_identifiers = ["amount"]\npersons = "customer"\nsuppress = "rows"\n'
        "at_most_percent = 50\n"
    )
    gate = gate_of(tmp_path, policy)
    deposits = {"customer": np.array(["a", "b", "c"], object), "amount": np.array([1, 1, 2])}
    found = entering(gate, make_job(), {"deposits": deposits})
    assert list(found["customer"]) == ["a", "b"]
    assert found["customer"].categories.tolist() == ["a", "b"]
    assert gate._populations is not None
    assert len(gate._populations["deposits"].persons) == 2
    assert gate._cells is not None
    gate._cells.absence({"deposits.customer": "c"})


def test_persons_that_cannot_be_told_apart_and_faults_of_the_policy_are_refused(tmp_path: Path) -> None:
    asked = PrivacyPolicy(tables={"t": Anonymity(k=2, quasi_identifiers=("age",), persons="age")})
    with pytest.raises(
        DataError, match="counts the persons of t by age, and the job reads the identifiers patient, city"
    ):
        asked.of_table("t", SCHEMA, SCHEMA)
    only_others = PrivacyPolicy(tables={"t": Anonymity(k=2, quasi_identifiers=("height",))})
    assert only_others.of_table("t", SCHEMA, SCHEMA) is None
    for text, why in (
        ("[tables.t]\nk = 0\nquasi_identifiers = ['a']", r"privacy.toml:2: tables.t.k: expected 1 to"),
        ("[tables.t]\nk = 2\nquasi_identifiers = []", "expected columns, got none"),
        ("[tables.t]\nk = 2\nl = 2\nquasi_identifiers = ['a']", "name the columns that have so many values"),
        ("[differencing]\nwithin = 3", "differencing.within: there is no such field"),
    ):
        with pytest.raises(UsageError, match=why):
            gate_of(tmp_path, text)


def test_who_is_suppressed_in_one_table_is_left_out_of_others_and_those_are_checked_again(
    tmp_path: Path,
) -> None:
    from secagg.patterns.registry import find

    policy = "".join(
        f'[tables.{table}]\nk = 2\nquasi_identifiers = ["{column}"]\npersons = "{person}"\nsuppress = "rows"\n'
        "at_most_percent = 60\n"
        for table, column, person in (("transfers", "amount", "sender"), ("accounts", "score", "sender"))
    )
    gate = gate_of(tmp_path, policy)
    pattern = find("risk_propagation").pattern
    schemas = {
        "transfers": Schema(sender=Identifier(), amount=Integer()),
        "accounts": Schema(sender=Identifier(), score=Integer()),
    }

    class Installed:
        origin = None

        class pattern:  # noqa: N801  # stands for an instance
            inputs = schemas
            name = pattern.name

    job = dataclasses.replace(make_job(), installed=Installed)  # type: ignore[arg-type]
    who = np.array(["a", "b", "c", "d", "e"], object)
    tables = {
        "transfers": {"sender": who, "amount": np.array([1, 1, 1, 1, 2])},  # e is alone
        "accounts": {"sender": who, "score": np.array([7, 7, 7, 8, 8])},  # without e, d is
    }
    found = gate.screen(job, "north", gate.admit(job, "north", tables))
    assert list(found["accounts"]["sender"]) == ["a", "b", "c"]
    assert list(found["transfers"]["sender"]) == ["a", "b", "c"]
    # The other way round: who is alone in the second table was one of two in the first.
    tables["transfers"]["amount"] = np.array([1, 1, 2, 2, 2])
    tables["accounts"]["score"] = np.array([7, 8, 8, 8, 8])
    gate = gate_of(tmp_path, policy)
    found = gate.screen(job, "north", gate.admit(job, "north", tables))
    assert [list(found[table]["sender"]) for table in tables] == [["c", "d", "e"]] * 2
    strict = gate_of(tmp_path, policy.replace("at_most_percent = 60", "at_most_percent = 30"))
    with pytest.raises(DataError, match="2 of 5 rows would be suppressed"):
        strict.screen(job, "north", strict.admit(job, "north", tables))
