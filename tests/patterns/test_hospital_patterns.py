"""Patterns for hospitals: what parties compute is what the pooled table gives.

The module is long because the patterns share made-up patients and one way to play the hospitals.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
import statsmodels.api as sm
from lifelines.datasets import load_rossi

from bank_tables import terms_of
from costs import measured
from hospital_tables import HOSPITALS, largest_difference, parts, patients, strings, with_covariates
from program_runs import played
from secagg.data.conventions import Conventions
from secagg.errors import DataError, PlanError, RangeError
from secagg.jobs.job_file import _check_named
from secagg.patterns.health import (
    ASSOCIATION,
    COHORT_COUNT,
    CORRELATION,
    COX,
    CROSSTAB,
    DESCRIBE,
    LINEAR_REGRESSION,
    LOGISTIC_REGRESSION,
    LOGRANK,
    MARKER_COOCCURRENCE,
    METRICS_BY_GROUP,
    POISSON_REGRESSION,
    RARE_VARIANT,
    SURVIVAL,
)
from secagg.toml_files import FieldFault

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


@pytest.mark.slow
def test_curves_of_all_hospitals_are_told_at_the_agreed_times_where_enough_are_at_risk():
    parameters = SURVIVAL.Parameters(arms=ARMS, times=(10, 30, 52), last_time=52, min_at_risk=42)
    rows = compared(SURVIVAL, parameters, TABLES)
    assert 0 < len(rows) < 6
    assert all(low < s < high for _, _, s, low, high in rows)


@pytest.mark.slow
def test_the_log_rank_test_of_all_hospitals():
    # A bound that fits: under the default one, of 40,000 patients, the error is 3e-7, and now and then beyond 1e-6.
    parameters = LOGRANK.Parameters(arms=ARMS, last_time=52, max_patients=200)
    ((statistic, degrees, p),) = compared(LOGRANK, parameters, TABLES)
    assert degrees == 1
    assert statistic > 0
    assert 0 < p < 1
    smallest = min(np.bincount(ROSSI["fin"]))
    for few, told in ((smallest, 1), (smallest + 1, 0)):
        assert len(compared(LOGRANK, msgspec.structs.replace(parameters, min_patients=few), TABLES)) == told


@pytest.mark.slow
def test_cox_s_model_of_all_hospitals_with_padded_rows():
    names = ("fin", "age", "flat")
    x = np.column_stack([ROSSI[["fin", "age"]].to_numpy(float), np.full(len(ROSSI), 3)])
    tables = with_covariates(ROSSI["week"], EVENT, x, names, AT)
    found = compared(COX, COX.Parameters(covariates=names, iterations=6), tables)
    assert [row[0] for row in found] == list(names)
    assert [row[1] is None for row in found] == [False, False, True]
    few = COX.Parameters(covariates=names, iterations=1, min_patients=int(EVENT.sum()) + 1)
    assert compared(COX, few, tables) == []
    unfinished = COX.Parameters(covariates=names, iterations=2)
    outcome = played(COX, unfinished, tables, HOSPITALS[:3])
    assert set(outcome.errors) == set(HOSPITALS)
    assert all("has not converged" in str(error) for error in outcome.errors.values())


OUTCOMES = {
    LINEAR_REGRESSION: (ROSSI["week"].to_numpy(float), sm.families.Gaussian(), {"outcome_high": 60}),
    LOGISTIC_REGRESSION: (EVENT.astype(float), sm.families.Binomial(), {"iterations": 6}),
    POISSON_REGRESSION: (ROSSI["prio"].to_numpy(float), sm.families.Poisson(), {"iterations": 7}),
}


@pytest.mark.slow
@pytest.mark.parametrize("pattern", OUTCOMES, ids=lambda pattern: pattern.name)
def test_regressions_of_all_hospitals_with_padded_rows_are_those_of_statsmodels(pattern):
    outcome, family, more = OUTCOMES[pattern]
    x = ROSSI[["age", "fin"]].to_numpy(float)
    values = np.column_stack([outcome, x])
    tables = with_covariates(ROSSI["week"], EVENT, values, ("outcome", "age", "fin"), AT)
    tables = {
        who: {**own, "patients": {"patient": own["patients"]["patient"]}} for who, own in tables.items()
    }
    parameters = pattern.Parameters(covariates=("age", "fin"), low=(0, 0), high=(60, 1), **more)
    terms = replace(terms_of(HOSPITALS, COMPUTING), pad_rows_to=16)
    found = played(pattern, parameters, tables, COMPUTING, terms).values()[0]
    expected = sm.GLM(outcome, sm.add_constant(x), family=family).fit(tol=1e-12)
    assert [row[0] for row in found] == ["age", "fin", "intercept"]
    assert {row[4] for row in found} == {len(ROSSI)}
    assert max(row[5] for row in found) < 1e-3
    for place, (_, coefficient, error, p, _, _) in zip((1, 2, 0), found, strict=True):
        assert float(coefficient) == pytest.approx(
            expected.params[place], abs=2e-5 * expected.bse[place] + 1e-5
        )
        if place:
            assert float(error) == pytest.approx(expected.bse[place], rel=1e-4)
            tail = expected.pvalues[place]
            assert float(p) == pytest.approx(tail, abs=1e-2 if pattern is LINEAR_REGRESSION else 1e-4)
    reference = pattern.reference(parameters, terms, tables)[HOSPITALS[0]]
    assert largest_difference([row[:5] for row in found], [row[:5] for row in reference]) < 1e-4


def test_a_regression_of_few_patients_or_of_other_outcomes_is_not_told():
    tables = with_covariates(
        [1, 2], [True, False], [[0, 1], [2, 3]], ("outcome", "age"), {"elm": np.arange(2)}
    )
    own = {**tables["elm"], "patients": {"patient": tables["elm"]["patients"]["patient"]}}
    pattern: Any = LOGISTIC_REGRESSION
    parameters = pattern.Parameters(covariates=("age",), low=(0,), high=(9,))
    with pytest.raises(DataError, match="expected 0 or 1 of each of 2 patients, got something else 1 times"):
        pattern.local(parameters, {**own})
    pattern = POISSON_REGRESSION
    with pytest.raises(DataError, match="1 of 2 patients have age outside its range 0 to 2"):
        pattern.local(pattern.Parameters(covariates=("age",), low=(0,), high=(2,)), {**own})
    parameters = pattern.Parameters(covariates=("age",), low=(0,), high=(9,), max_outcome=1)
    with pytest.raises(DataError, match="0 to max_outcome, which is 1; 1 of 2 are others"):
        pattern.local(parameters, {**own})
    few = pattern.Parameters(covariates=("age",), low=(0,), high=(9,))
    assert pattern.from_opened(few, [np.zeros(3), np.zeros(1), np.zeros(1, np.int64)]) == [[]] * 6
    assert pattern.pooled(few, {"elm": own}) == []
    with pytest.raises(PlanError, match="other names than intercept"):
        pattern.check(
            pattern.Parameters(covariates=("intercept",), low=(0,), high=(1,)), terms_of(HOSPITALS, COMPUTING)
        )


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


AGE = ROSSI["age"].to_numpy()
RNG = np.random.default_rng(4)


def split(*columns, table, names):
    """Return each hospital's rows of one table."""
    arrays = [np.asarray(column) for column in columns]
    return {
        name: {table: {n: c[rows] for n, c in zip(names, arrays, strict=True)}} for name, rows in AT.items()
    }


def facts(at=AT):
    sex, outcome = np.array(["f", "m"])[AGE % 2], np.array(["no", "yes"])[EVENT.astype(int)]
    return {
        name: {
            "facts": {
                "patient": strings([f"p{i}" for i in np.tile(rows, 2)]),
                "variable": strings(["sex"] * len(rows) + ["outcome"] * len(rows)),
                "value": strings([*sex[rows], *outcome[rows]]),
            }
        }
        for name, rows in at.items()
    }


def test_a_cross_table_of_all_hospitals_with_its_tests():
    told = compared(CROSSTAB, CROSSTAB.Parameters(), facts())
    assert [what for what, _ in told][-4:] == [
        "chi-square",
        "degrees of freedom",
        "p-value",
        "Fisher's p-value",
    ]
    assert [what for what, _ in told][:2] == ["f | no", "f | yes"]


@pytest.mark.slow
def test_a_patient_in_the_tables_of_two_hospitals_counts_once_in_a_cross_table_if_so_agreed():
    def own(*rows):
        return {
            "facts": {
                "patient": strings([row[0] for row in rows for _ in range(2)]),
                "variable": strings(["sex", "outcome"] * len(rows)),
                "value": strings([value for row in rows for value in row[1:]]),
            }
        }

    tables = {
        "elm": own(("ann", "f", "yes"), ("bob", "m", "no")),
        "fir": own(("bob", "m", "yes"), ("cat", "f", "yes")),
        "oak": own(("ann", "f", "yes"), ("dan", "m", "no"), ("bob", "m", "no")),
        "yew": own(),
    }
    once = compared(CROSSTAB, CROSSTAB.Parameters(min_patients=1, once=True), tables)
    assert [(what, int(n)) for what, n in once] == [("f | yes", 2), ("m | no", 2)]
    twice = compared(CROSSTAB, CROSSTAB.Parameters(min_patients=1), tables)
    assert [(what, int(n)) for what, n in twice] == [("f | yes", 3), ("m | no", 3), ("m | yes", 1)]
    few = CROSSTAB.Parameters(min_patients=1, once=True, max_patients=2)
    with pytest.raises(RangeError, match="3 patients are more than max_patients"):
        CROSSTAB.local(few, tables["oak"])


@pytest.mark.slow
def test_small_cells_are_not_told_and_then_neither_is_a_test():
    cells = compared(CROSSTAB, CROSSTAB.Parameters(min_patients=20), facts())
    assert 0 < len(cells) < 4
    assert all(value >= 20 for _, value in cells)
    alone = compared(CROSSTAB, CROSSTAB.Parameters(min_patients=20, tell="test"), facts())
    assert [what for what, _ in alone] == ["chi-square", "degrees of freedom", "p-value"]
    exact = compared(CROSSTAB, CROSSTAB.Parameters(min_patients=20, tell="exact", max_patients=60), facts())
    assert [what for what, _ in exact] == ["Fisher's p-value"]
    with pytest.raises(PlanError, match="set max_patients to 512 or less"):
        CROSSTAB.check(CROSSTAB.Parameters(tell="exact"), terms_of(HOSPITALS, COMPUTING))


def _twice(tables, table, changed):
    """Return tables in which oak also has fir's and some of elm's patients, with other facts; and which are the first."""
    elm, fir = tables["elm"][table], tables["fir"][table]
    more = {
        name: np.concatenate([column, elm[name][:5], fir[name]])
        for name, column in tables["oak"][table].items()
    }
    n = len(more["patient"])
    for name, value in changed.items():
        more[name][n - 5 - len(fir["patient"]) :] = value
    return {**tables, "oak": {**tables["oak"], table: more}}


MARKERS = split(
    [f"p{i}" for i in range(len(AGE))],
    AGE % 2 == 0,
    EVENT,
    table="patients",
    names=("patient", "first", "second"),
)
MEASURED = split(
    [f"p{i}" for i in range(len(AGE))],
    np.array(["old" if a > 27 else "young" for a in AGE], object),
    AGE * 10**6,
    table="measurements",
    names=("patient", "arm", "value"),
)
AS_ONCE: dict[Any, Any] = {
    SURVIVAL: (TABLES, "patients", {"time": 1, "event": True}, {"arms": ARMS, "times": (10, 52), "last_time": 52}),
    LOGRANK: (TABLES, "patients", {"time": 1, "event": True}, {"arms": ARMS, "last_time": 52}),
    MARKER_COOCCURRENCE: (MARKERS, "patients", {"first": True, "second": True}, {"tell": "strength"}),
    DESCRIBE: (MEASURED, "measurements", {"value": 90 * 10**6, "arm": "old"},
               {"arms": ("old", "young"), "high": 100, "decimals": 0, "min_patients": 6}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("pattern", AS_ONCE, ids=lambda pattern: pattern.name)
def test_a_patient_of_several_hospitals_counts_once_as_the_first_has_it(pattern):
    tables, table, changed, parameters = AS_ONCE[pattern]
    again = _twice(tables, table, changed)
    once = compared(pattern, pattern.Parameters(**parameters, once=True), again)
    single = pattern.reference(pattern.Parameters(**parameters), terms_of(HOSPITALS, COMPUTING), tables)[
        "elm"
    ]
    assert largest_difference(once, single) < 1e-6
    several = pattern.reference(pattern.Parameters(**parameters), terms_of(HOSPITALS, COMPUTING), again)[
        "elm"
    ]
    assert largest_difference(several, single) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("pattern", [CORRELATION, COX], ids=lambda pattern: pattern.name)
def test_the_covariates_of_a_patient_of_several_hospitals_count_once(pattern):
    names, x = ("age", "prio"), ROSSI[["age", "prio"]].to_numpy(float)
    tables = with_covariates(ROSSI["week"], EVENT, x, names, AT)
    moved = {name: {**own, "covariates": dict(own["covariates"])} for name, own in tables.items()}
    again = _twice(moved, "patients", {"time": 1, "event": True})
    added = with_covariates(ROSSI["week"], EVENT, x[:, ::-1], names, AT)
    for name in ("patient", "covariate", "value"):
        parts_of = [tables["oak"], *({"covariates": added[n]["covariates"]} for n in ("elm", "fir"))]
        again["oak"]["covariates"][name] = np.concatenate([own["covariates"][name] for own in parts_of])
    parameters: dict[str, Any] = {"covariates": names}
    if pattern is CORRELATION:
        for both in (tables, again):
            for name, own in both.items():
                both[name] = {**own, "patients": {"patient": own["patients"]["patient"]}}
        parameters |= {"low": (0, 0), "high": (60, 60)}
    once = compared(pattern, pattern.Parameters(**parameters, once=True), again)
    single = pattern.reference(pattern.Parameters(**parameters), terms_of(HOSPITALS, COMPUTING), tables)[
        "elm"
    ]
    assert largest_difference([row[:4] for row in once], [row[:4] for row in single]) < 1e-6


@pytest.mark.slow
def test_a_carrier_at_several_hospitals_counts_once_for_each_variant():
    elm = {"patient": strings("abcab"), "variant": strings(["rs1", "rs1", "rs2", "rs2", "rs1"])}
    oak = {"patient": strings("abd"), "variant": strings(["rs1", "rs3", "rs3"])}
    nobody = {name: column[:0] for name, column in elm.items()}
    tables = {n: {"carriers": own} for n, own in {"elm": elm, "fir": nobody, "oak": oak}.items()}
    parameters: dict[str, Any] = {"variants": ("rs1", "rs2", "rs3"), "min_carriers": 2}
    hospitals = ("elm", "fir", "oak")
    once = compared(RARE_VARIANT, RARE_VARIANT.Parameters(**parameters, once=True), tables, hospitals)
    assert once == [("rs1", 2), ("rs2", 2), ("rs3", 2)]
    several = compared(RARE_VARIANT, RARE_VARIANT.Parameters(**parameters), tables, hospitals)
    assert several == [("rs1", 3), ("rs2", 2), ("rs3", 2)]


@pytest.mark.parametrize("once", [True, False])
@pytest.mark.slow
def test_a_patient_at_several_hospitals_counts_once_if_so_agreed(once):
    tables = {
        name: {"patients": {"patient": strings(patients)}}
        for name, patients in {"elm": "abca", "fir": "c", "oak": "cde", "yew": ""}.items()
    }
    ((count,),) = compared(COHORT_COUNT, COHORT_COUNT.Parameters(once=once), tables)
    assert count == (5 if once else 7)
    assert compared(COHORT_COUNT, COHORT_COUNT.Parameters(once=once, min_patients=8), tables) == []


@pytest.mark.slow
def test_announced_row_counts_do_not_tell_how_many_are_at_two_hospitals():
    """The same number is told, with the same row counts, where 1 patient is at two hospitals and where none is."""
    parameters, terms = COHORT_COUNT.Parameters(min_patients=5), terms_of(HOSPITALS[:3], COMPUTING)
    announced, told = [], []
    for sizes, shared in (((30, 20, 10), ["ann"]), ((31, 20, 10), [])):
        tables = {
            name: {
                "patients": {
                    "patient": strings([f"{name}{i}" for i in range(n)] + (shared if at < 2 else []))
                }
            }
            for at, (name, n) in enumerate(zip(HOSPITALS[:3], sizes, strict=True))
        }
        announced.append([COHORT_COUNT.prepare(parameters, terms, own).announced for own in tables.values()])
        told.append(COHORT_COUNT.reference(parameters, terms, tables)[HOSPITALS[0]])
    assert told == [[(61,)], [(61,)]]
    assert announced == [[50, 50, 50], [50, 50, 50]]
    assert compared(COHORT_COUNT, parameters, tables) == [(61,)]  # rows of padding do not count
    outcome = played(COHORT_COUNT, parameters, tables, COMPUTING)
    declared = COHORT_COUNT.cost(parameters, terms, dict.fromkeys(tables, 50))
    for name in tables:  # sorts are random, and so are their messages
        found = measured(name, outcome.ledgers[name])
        assert found.payload_bytes[name] == pytest.approx(declared.payload_bytes[name], rel=0.3)


@pytest.mark.parametrize(
    ("smallest", "pad", "most", "step"),
    [(5, 1, 10**6, 50), (30, 1, 10**6, 100), (80, 1, 10**6, 160), (5, 40, 10**6, 80), (5, 1000, 10**6, 1000),
     (5, 4, 43, 40), (1, 3, 10**6, 3)],
)  # fmt: skip
def test_row_counts_are_rounded_up_by_the_smallest_number_as_far_as_the_limit_allows(
    smallest, pad, most, step
):
    terms = replace(terms_of(HOSPITALS, COMPUTING), pad_rows_to=pad, max_rows=most)
    parameters = COHORT_COUNT.Parameters(min_patients=smallest)
    assert COHORT_COUNT.row_step(parameters, terms) == step
    assert COHORT_COUNT.announced(parameters, terms, 0) == (step if smallest > 1 else 0)
    assert COHORT_COUNT.announced(parameters, terms, 1) == step
    alone = COHORT_COUNT.Parameters(min_patients=smallest, once=False)  # tells no row count
    assert COHORT_COUNT.announced(alone, terms, 0) == 0


def test_cox_and_patterns_with_once_that_hide_small_numbers_round_row_counts_up():
    terms = terms_of(HOSPITALS, COMPUTING)
    rounded = set()
    for pattern in (
        ASSOCIATION, COHORT_COUNT, CORRELATION, COX, CROSSTAB, DESCRIBE, LINEAR_REGRESSION, LOGISTIC_REGRESSION, LOGRANK,
        MARKER_COOCCURRENCE, POISSON_REGRESSION, RARE_VARIANT, SURVIVAL,
    ):  # fmt: skip
        once: dict[str, Any] = {"once": True} if "once" in pattern.Parameters.__struct_fields__ else {}
        parameters = pattern.Parameters(**once)
        (counts,) = [one.what for one in pattern.opens(parameters, terms) if "how many rows" in one.what] or [
            ""
        ]
        if "rounded up to a multiple of" in counts:
            rounded.add(pattern.name)
    assert rounded == {
        "cohort_count", "correlation", "cox", "crosstab", "describe", "logrank", "rare_variant", "survival",
    }  # fmt: skip


@pytest.mark.slow
def test_a_measurement_by_group_is_described_where_groups_are_large_enough():
    arm = np.array(["old" if a > 27 else "young" for a in AGE], object)
    tables = split(
        [f"p{i}" for i in range(len(AGE))],
        arm,
        AGE * 10**6,
        table="measurements",
        names=("patient", "arm", "value"),
    )
    parameters = DESCRIBE.Parameters(
        arms=("old", "young", "none"), high=100, decimals=0, quantiles=(0.01, 0.5, 0.75), min_patients=6
    )
    rows = compared(DESCRIBE, parameters, tables)
    assert {arm for arm, _, _ in rows} == {"old", "young"}
    assert sum(what.startswith("quantile") for _, what, _ in rows) == 4
    tables["elm"]["measurements"]["value"][0] += 5
    with pytest.raises(DataError, match=r"1 of .* values have more than the agreed 0 decimals"):
        DESCRIBE.local(parameters, tables["elm"])


@pytest.mark.slow
def test_correlations_of_all_hospitals():
    names = ("age", "prio", "flat")
    x = ROSSI[["age", "prio", "fin"]].to_numpy(float)
    tables = with_covariates(ROSSI["week"], EVENT, x, names, AT)
    for own in tables.values():
        own["patients"] = {"patient": own["patients"]["patient"]}
    # The last one's standard deviation is 1/2, which is less than 1/256 of half its range.
    rows = compared(CORRELATION, CORRELATION.Parameters(names, (0, 0, -130), (60, 30, 130)), tables)
    assert [r is None for _, _, r, _, _ in rows] == [False, True, True]
    assert all(
        r is not None
        for _, _, r, _, _ in compared(
            CORRELATION, CORRELATION.Parameters(names, (0, 0, 0), (60, 30, 1)), tables
        )
    )
    assert compared(CORRELATION, CORRELATION.Parameters(names, (0, 0, 0), (60, 30, 1), 1000), tables) == []


@pytest.mark.slow
@pytest.mark.parametrize("together", [0.9, 0.4])
def test_whether_two_markers_occur_together_is_told_and_nothing_else(together):
    first = RNG.random(len(AGE)) < 0.4
    second = np.where(RNG.random(len(AGE)) < together - 0.4, first, RNG.random(len(AGE)) < 0.4)
    tables = split(
        [f"p{i}" for i in range(len(AGE))],
        first,
        second,
        table="patients",
        names=("patient", "first", "second"),
    )
    rows = compared(MARKER_COOCCURRENCE, MARKER_COOCCURRENCE.Parameters(level=0.001), tables)
    assert [(what, float(value)) for what, value in rows] == [("together", float(together > 0.5))]
    assert len(compared(MARKER_COOCCURRENCE, MARKER_COOCCURRENCE.Parameters(tell="strength"), tables)) == 2


def test_variants_that_few_carry_are_told():
    variants = [f"rs{i}" for i in (1, 1, 1, 2, 3, 3)]
    carriers = {"patient": strings("abcabb"), "variant": strings(variants)}
    nobody = {name: column[:0] for name, column in carriers.items()}
    tables = {n: {"carriers": own} for n, own in {"elm": carriers, "fir": nobody, "oak": carriers}.items()}
    parameters = RARE_VARIANT.Parameters(variants=("rs1", "rs2", "rs3"), min_carriers=2, max_carriers=3)
    assert compared(RARE_VARIANT, parameters, tables, ("elm", "fir", "oak")) == [("rs2", 2), ("rs3", 2)]


@pytest.mark.slow
def test_the_variants_that_go_with_a_trait():
    n, m = len(AGE), 12
    dosages = RNG.binomial(2, 0.3, (n, m))
    dosages[:, 5] = 1
    trait = np.clip(50 + 6 * dosages[:, 3] + AGE / 4 + RNG.normal(size=n), 40, 80).round(3)
    variants = tuple(f"rs{i}" for i in range(m))
    tables = with_covariates(ROSSI["week"], EVENT, np.column_stack([trait, AGE]), ("trait", "age"), AT)
    for name, rows in AT.items():
        tables[name]["patients"] = {"patient": tables[name]["patients"]["patient"]}
        tables[name]["genotypes"] = {
            "patient": strings([f"p{i}" for i in np.repeat(rows, m)]),
            "variant": strings(list(variants) * len(rows)),
            "dosage": dosages[rows].reshape(-1),
        }
    found = compared(
        ASSOCIATION, ASSOCIATION.Parameters(trait_low=40, trait_high=80, variants=variants, top=2), tables
    )
    assert found[0][0] == "rs3"
    flat = ASSOCIATION.Parameters(trait_low=40, trait_high=80, variants=variants, top=m)
    last = played(ASSOCIATION, flat, tables, COMPUTING).results["elm"][-1]
    assert last == ("rs5", None, None, None, n)
    few = ASSOCIATION.Parameters(trait_low=40, trait_high=80, variants=variants, min_patients=n + 1)
    assert compared(ASSOCIATION, few, tables) == []
    with pytest.raises(DataError, match="expected one dosage for each of 1 patients and 13 variants; 1 are"):
        ASSOCIATION.local(
            ASSOCIATION.Parameters(trait_low=40, trait_high=80, variants=(*variants, "rs99")), tables["fir"]
        )


@pytest.mark.slow
def test_what_is_not_told_is_zero_when_it_is_opened(monkeypatch):
    """Hiding it behind the opening would be too late: a recipient reads what was opened."""
    opened = {}

    def told(pattern, parameters, columns):
        opened[pattern.name] = [np.array(column) for column in columns]
        return original[type(pattern)](pattern, parameters, columns)

    original = {type(pattern): type(pattern).from_opened for pattern in (CROSSTAB, DESCRIBE, CORRELATION)}
    for kind in original:
        monkeypatch.setattr(kind, "from_opened", told)
    compared(CROSSTAB, CROSSTAB.Parameters(min_patients=20), facts())
    counts, shown = opened["crosstab"]
    assert not counts[~shown].any()
    assert 0 < shown.sum() < shown.size
    arm = strings(["one" if i % 25 == 0 else "many" for i in range(len(AGE))])
    rows = split(range(len(AGE)), arm, AGE * 10**6, table="measurements", names=("patient", "arm", "value"))
    compared(DESCRIBE, DESCRIBE.Parameters(arms=("one", "many"), high=100, decimals=0, min_patients=9), rows)
    number, total, squares, large, quantiles, enough = opened["describe"]
    assert large.tolist() == [False, True]
    for column in (number, total, squares):
        assert not column[~large].any()
    assert not quantiles[~enough].any()
    tables = with_covariates(
        ROSSI["week"], EVENT, ROSSI[["age", "prio"]].to_numpy(float), ("age", "prio"), AT
    )
    for own in tables.values():
        own["patients"] = {"patient": own["patients"]["patient"]}
    compared(CORRELATION, CORRELATION.Parameters(("age", "prio"), (0, 0), (60, 30), 1000), tables)
    assert not any(column.any() for column in opened["correlation"])


def with_genotypes(outcome, age, dosages, names):
    """Return each hospital's tables for an association study."""
    tables = with_covariates(ROSSI["week"], EVENT, np.column_stack([outcome, age]), ("trait", "age"), AT)
    for name, rows in AT.items():
        who = [f"p{i}" for i in rows]
        tables[name] = {
            "patients": {"patient": strings(who)},
            "covariates": tables[name]["covariates"],
            "genotypes": {
                "patient": strings(who * len(names)),
                "variant": strings([variant for variant in names for _ in rows]),
                "dosage": dosages[rows].T.reshape(-1),
            },
        }
    return tables


@pytest.mark.slow
def test_variants_of_an_outcome_are_ranked_by_the_score_test_of_logistic_regression():
    rng = np.random.default_rng(8)
    names = ("rs1", "rs2", "rs3", "rs4")
    dosages = rng.binomial(2, 0.4, (len(ROSSI), 4))
    age = ROSSI["age"].to_numpy(float)
    outcome = (rng.random(len(age)) < 1 / (1 + np.exp(1.5 - 0.9 * dosages[:, 2]))).astype(float)
    null = sm.GLM(outcome, sm.add_constant(age), family=sm.families.Binomial()).fit(tol=1e-12)
    parameters = ASSOCIATION.Parameters(
        trait_high=1, high=(60,), variants=names, top=2, null_model=tuple(map(float, null.params))
    )
    tables = with_genotypes(outcome, age, dosages, names)
    found = compared(ASSOCIATION, parameters, tables)
    assert found[0][0] == "rs3"
    for variant, effect, error, p, n in found:
        g = dosages[:, names.index(variant)].astype(float)
        chi_square, expected, _ = null.model.score_test(null.params, exog_extra=g[:, None])
        assert float(p) == pytest.approx(float(np.ravel(expected)[0]), abs=1e-6)
        assert (float(effect) / float(error)) ** 2 == pytest.approx(float(np.ravel(chi_square)[0]), rel=1e-4)
        assert n == len(ROSSI)
    with pytest.raises(PlanError, match="coefficient for each of 1 covariates in null_model, got 3"):
        ASSOCIATION.check(
            msgspec.structs.replace(parameters, null_model=(1, 2, 3)), terms_of(HOSPITALS, COMPUTING)
        )
    with pytest.raises(RangeError, match="below 1/65 or above 64/65"):
        ASSOCIATION.local(msgspec.structs.replace(parameters, null_model=(9, 0)), tables["oak"])
    wrong = with_genotypes(outcome / 2, age, dosages, names)
    with pytest.raises(DataError, match="trait: expected 0 or 1 of each of"):
        ASSOCIATION.local(parameters, wrong["yew"])


def test_what_pooled_shares_tell_is_said_by_what_is_shared() -> None:
    terms = terms_of(HOSPITALS, computing=COMPUTING)
    groups = METRICS_BY_GROUP.Parameters(("young", "old"))
    rows = dict.fromkeys(HOSPITALS, 100)
    assert "counts and sums that each input party puts in" in METRICS_BY_GROUP.trust(groups, terms)
    assert "pseudonyms" not in METRICS_BY_GROUP.trust(groups, terms)
    assert METRICS_BY_GROUP.risks(groups, terms, rows) == []
    assert "every row's numbers under pseudonyms" in COHORT_COUNT.trust(COHORT_COUNT.Parameters(), terms)
    assert COHORT_COUNT.risks(COHORT_COUNT.Parameters(), terms, rows)[0].log2 < -40


def test_a_job_names_its_groups_and_none_that_no_table_can_have() -> None:
    with pytest.raises(PlanError, match="names for groups, got 0"):
        METRICS_BY_GROUP.check(METRICS_BY_GROUP.Parameters(), terms_of(HOSPITALS, computing=COMPUTING))
    groups = METRICS_BY_GROUP.Parameters(("young", "unknown"))
    with pytest.raises(FieldFault, match=r"'unknown' stands for no identifier.*real_identifiers"):
        _check_named(METRICS_BY_GROUP, groups, Conventions())
    _check_named(METRICS_BY_GROUP, groups, Conventions(real_identifiers=("unknown",)))
