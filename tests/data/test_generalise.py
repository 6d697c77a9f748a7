"""Recipes make values coarser as they say, keep them in range, and are part of what parties agree on."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from joint_runs import make_job
from secagg.data.generalise import generalised, read_recipe
from secagg.errors import UsageError
from secagg.patterns.counts import factorize
from secagg.query.schema import Boolean, Date, Identifier, Integer, Money, Real, Schema, Time, Timestamp

PATIENTS = Schema(
    patient=Identifier(),
    diagnosis=Identifier(repeated=True),
    age=Integer(-5, 130),
    bill=Money(),
    weight=Real(Decimal(0), Decimal(500), 1),
    admitted=Date(nullable=True),
    seen=Timestamp(),
    at=Time(),
    smokes=Boolean(),
)


def days(*texts: str) -> Any:
    return np.array([np.datetime64(text, "D").astype(np.int64) for text in texts])


def coarse(column: str, step: dict[str, Any], values: Any) -> Any:
    recipe = read_recipe({"patients": {column: step}}, {"patients": PATIENTS}, decimals=2)
    return generalised({"patients": {column: values}}, {"patients": PATIENTS}, recipe)["patients"][column]


def test_a_band_is_named_by_its_lower_end_within_the_columns_range() -> None:
    assert coarse("age", {"band": 10}, np.array([47, 40, 0, -1, -5])).tolist() == [40, 40, 0, -5, -5]
    assert coarse("bill", {"band": 10}, np.array([1234, 999, 0])).tolist() == [1000, 0, 0]  # cents
    assert coarse("weight", {"band": Decimal("2.5")}, np.array([724, 725, 749])).tolist() == [700, 725, 725]
    assert coarse("at", {"band": 3600}, np.array([3599.5, 7200.0])).tolist() == [0.0, 7200.0]


def test_dates_become_the_first_of_their_period_and_missing_ones_stay_missing() -> None:
    found = coarse(
        "admitted", {"to": "month"}, np.ma.array(days("2026-03-31", "1969-12-31"), mask=[False, True])
    )
    assert found.data[:1].tolist() == days("2026-03-01").tolist()
    assert found.mask.tolist() == [False, True]
    before = days("2026-12-31", "1969-12-31", "2026-02-01")
    assert (
        coarse("admitted", {"to": "quarter"}, before).tolist()
        == days("2026-10-01", "1969-10-01", "2026-01-01").tolist()
    )
    assert (
        coarse("admitted", {"to": "year"}, before).tolist()
        == days("2026-01-01", "1969-01-01", "2026-01-01").tolist()
    )
    moment = int(datetime.datetime(2026, 3, 31, 23, 59, tzinfo=datetime.UTC).timestamp())
    assert coarse("seen", {"to": "day"}, np.array([moment])).tolist() == [(moment // 86_400) * 86_400]


def test_identifiers_keep_a_prefix_and_those_that_become_equal_are_one() -> None:
    values = factorize(np.array(["G20.1", "I10", "G20.9", "I10"], object))
    found = coarse("diagnosis", {"prefix": 3}, values)
    assert list(found) == ["G20", "I10", "G20", "I10"]
    assert found.categories.tolist() == ["G20", "I10"]


@pytest.mark.parametrize(
    ("column", "step", "why"),
    [
        ("age", {"prefix": 2}, "patients.age: a column of type Integer has no prefix"),
        ("age", {"band": 0}, "patients.age: expected a band above 0"),
        ("weight", {"band": Decimal("0.25")}, "at most 1 decimals"),
        ("admitted", {"to": "day"}, "expected one of month, quarter, year"),
        ("smokes", {"band": 1}, "has no band"),
        ("age", {"band": 1, "to": "year"}, "expected one of band, prefix and to"),
        ("age", {"bands": 10}, r"expected \{band = N\}"),
        ("height", {"band": 10}, "expected one of the columns patient"),
    ],
)
def test_a_step_that_does_not_fit_its_column_is_refused(column: str, step: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        read_recipe({"patients": {column: step}}, {"patients": PATIENTS}, decimals=2)


def test_a_recipe_is_agreed_on_and_survives_a_job_file(tmp_path: Any) -> None:
    from secagg.jobs.job_file import parse_job
    from secagg.patterns.registry import find

    job = make_job()
    text = job.to_toml() + "\n[generalise.deposits]\namount = {band = 100}\n"
    read = parse_job(text, file=tmp_path / "job.toml")
    again = parse_job(read.to_toml(), file=tmp_path / "job.toml")
    assert read.shown_recipe() == again.shown_recipe() == {"deposits.amount": "{band = 100}"}
    plain = parse_job(job.to_toml(), file=tmp_path / "job.toml")
    assert find("structuring").pattern is read.pattern
    assert read.digest == again.digest != plain.digest
    assert read.generalise["deposits"]["amount"].band == 10_000
    with pytest.raises(
        UsageError, match=r"job.toml:\d+: generalise.deposits.customer: a column of type Identifier"
    ):
        parse_job(text.replace("amount = {band", "customer = {band"), file=tmp_path / "job.toml")
