"""Patterns for hospitals: what parties compute is what the pooled table gives."""

from __future__ import annotations

import numpy as np
import pytest
from lifelines.datasets import load_rossi

from bank_tables import terms_of
from hospital_tables import HOSPITALS, largest_difference, parts, patients, strings, with_covariates
from program_runs import played
from secagg.errors import DataError, PlanError
from secagg.patterns.health import COX, LOGRANK, SURVIVAL

ROSSI = load_rossi().iloc[::4]
EVENT = ROSSI["arrest"].to_numpy() == 1
AT = parts(EVENT)
ARMS = ("none", "aid")
TABLES = patients(ROSSI["week"], EVENT, np.array(ARMS, object)[ROSSI["fin"].to_numpy()], AT)
COMPUTING = HOSPITALS[:3]


def compared(pattern, parameters, tables, computing=COMPUTING):
    """Return the result of a run, after it was compared with the reference."""
    outcome = played(pattern, parameters, tables, computing)
    outcome.values()
    expected = pattern.reference(parameters, terms_of(tuple(tables), computing), tables)
    for name in tables:
        assert largest_difference(outcome.results[name], expected[name]) < 1e-6
    return outcome.results[HOSPITALS[0]]


def test_hospitals_are_as_uneven_as_the_claims_say():
    assert [bool(EVENT[rows].any()) for rows in AT.values()] == [False, True, True, True]
    assert len(AT["fir"]) == 1
    assert sum(map(len, AT.values())) == len(ROSSI)


def test_curves_of_all_hospitals_are_told_at_the_agreed_times_where_enough_are_at_risk():
    parameters = SURVIVAL.Parameters(arms=ARMS, times=(10, 30, 52), last_time=52, min_at_risk=42)
    rows = compared(SURVIVAL, parameters, TABLES)
    assert 0 < len(rows) < 6
    assert all(low < s < high for _, _, s, low, high in rows)


def test_the_log_rank_test_of_all_hospitals():
    ((statistic, degrees, p),) = compared(LOGRANK, LOGRANK.Parameters(arms=ARMS, last_time=52), TABLES)
    assert degrees == 1
    assert statistic > 0
    assert 0 < p < 1


@pytest.mark.slow
def test_cox_s_model_of_all_hospitals_with_padded_rows():
    names = ("fin", "age")
    tables = with_covariates(ROSSI["week"], EVENT, ROSSI[[*names]].to_numpy(float), names, AT)
    found = compared(COX, COX.Parameters(covariates=names, iterations=6), tables)
    assert [row[0] for row in found] == list(names)


def test_what_hospitals_did_not_agree_on_is_refused_before_anything_is_sent():
    terms = terms_of(HOSPITALS, COMPUTING)
    tables = {"patients": TABLES["elm"]["patients"] | {"arm": strings(["other"] * len(AT["elm"]))}}
    parameters = SURVIVAL.Parameters(arms=ARMS, last_time=52)
    with pytest.raises(DataError, match="arm that the job does not name"):
        SURVIVAL.prepare(parameters, terms, tables)
    with pytest.raises(PlanError, match="times that rise from 0 to last_time, which is 52"):
        SURVIVAL.check(SURVIVAL.Parameters(arms=ARMS, last_time=52, times=(60,)), terms)
    with pytest.raises(PlanError, match="2 to 64 different names for arms"):
        LOGRANK.check(LOGRANK.Parameters(arms=("one", "one")), terms)
    with pytest.raises(PlanError, match="lower it to 131072 or less"):
        SURVIVAL.check(SURVIVAL.Parameters(last_time=60, max_patients=200_000), terms)


def test_a_patient_without_a_covariate_or_with_one_twice_is_refused():
    rows = {"patient": strings("ab"), "time": np.array([3, 4]), "event": np.array([True, False])}
    covariates = {
        "patient": strings("aab"),
        "covariate": strings(["age", "sex", "age"]),
        "value": np.array([1, 2, 3]),
    }
    with pytest.raises(DataError, match="1 of 2 patients lack an agreed covariate"):
        COX.local(COX.Parameters(covariates=("age", "sex")), {"patients": rows, "covariates": covariates})
    covariates["covariate"] = strings(["age", "age", "age"])
    with pytest.raises(DataError, match="are there twice"):
        COX.local(COX.Parameters(covariates=("age",)), {"patients": rows, "covariates": covariates})
