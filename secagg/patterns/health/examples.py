"""Example data of the patterns for hospitals: made-up patients of three hospitals, with a finding for each pattern.

Nothing here is drawn from anybody's data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from secagg.patterns.example import Example, FileTable

_HOSPITALS: Final = ("elm", "fir", "oak")
_SIZES: Final = (24, 9, 27)
_TOLERANCE: Final = 1e-6

Rng = np.random.Generator


def _by_hospital(
    seed: int, make: Callable[[Rng, list[str]], Mapping[str, FileTable]]
) -> dict[str, Mapping[str, FileTable]]:
    """Return each hospital's tables, made of its patients' names."""
    rng = np.random.default_rng(seed)
    return {
        name: make(rng, [f"{name}-{i}" for i in range(size)])
        for name, size in zip(_HOSPITALS, _SIZES, strict=True)
    }


def _long(patients: list[str], columns: Mapping[str, list[Any]], word: str, value: str) -> FileTable:
    """Return a row a patient and column."""
    return {
        "patient": [patient for _ in columns for patient in patients],
        word: [name for name in columns for _ in patients],
        value: [cell for cells in columns.values() for cell in cells],
    }


def _months(rng: Rng, arms: list[str]) -> tuple[list[int], list[bool]]:
    """Return times and events of patients; those with the treatment live longer."""
    mean = np.where(np.array(arms) == "treatment", 60.0, 20.0)
    time = np.minimum(rng.exponential(mean), 59).astype(int)
    return time.tolist(), (time < 59).tolist()


def _patients(rng: Rng, names: list[str]) -> dict[str, FileTable]:
    arms = [("control", "treatment")[i % 2] for i in range(len(names))]
    time, event = _months(rng, arms)
    return {"patients": {"patient": names, "arm": arms, "time": time, "event": event}}


def survival(seed: int) -> Example:
    """Return patients of two arms."""
    return Example(
        "Patients of the arm treatment live three times as long as those of control. Times are in months.",
        _by_hospital(seed, _patients),
        {"arms": ["control", "treatment"], "times": [6, 12], "last_time": 60},
        [("control", 6), ("treatment", 6), ("treatment", 12)],
        tolerance=_TOLERANCE,
    )


def logrank(seed: int) -> Example:
    """Return patients of two arms."""
    return Example(
        "Patients of the arm treatment live three times as long as those of control. Times are in months.",
        _by_hospital(seed, _patients),
        {"arms": ["control", "treatment"], "last_time": 60},
        tolerance=_TOLERANCE,
    )


def cox(seed: int) -> Example:
    """Return patients of two arms with their age."""

    def make(rng: Rng, names: list[str]) -> dict[str, FileTable]:
        treated = [i % 2 for i in range(len(names))]
        time, event = _months(rng, [("control", "treatment")[i] for i in treated])
        decades = (rng.integers(30, 80, len(names)) / 10).tolist()
        columns = {"treatment": treated, "decades": decades}
        return {
            "patients": {"patient": names, "time": time, "event": event},
            "covariates": _long(names, columns, "covariate", "value"),
        }

    return Example(
        "The hazard of treated patients is a third of the others'; their age does nothing. Times are in months.",
        _by_hospital(seed, make),
        {"covariates": ["treatment", "decades"]},
        [("treatment",)],
        tolerance=_TOLERANCE,
    )


def cohort_count(seed: int) -> Example:
    """Return patients, some of whom are at two hospitals."""

    def make(rng: Rng, names: list[str]) -> dict[str, FileTable]:  # noqa: ARG001
        return {"patients": {"patient": [*names, "moved-1", "moved-2"]}}

    return Example(
        "60 patients are at one hospital each, and moved-1 and moved-2 at all three. So 62 patients meet the criteria.",
        _by_hospital(seed, make),
        {"once": True},
        [(62,)],
    )


def crosstab(seed: int) -> Example:
    """Return sex and outcome of patients."""

    def make(rng: Rng, names: list[str]) -> dict[str, FileTable]:
        sex = [("f", "m")[i % 2] for i in range(len(names))]
        outcome = [("no", "yes")[int(rng.random() < (0.2 if s == "f" else 0.7))] for s in sex]
        return {"facts": _long(names, {"sex": sex, "outcome": outcome}, "variable", "value")}

    return Example(
        "The outcome is yes for one woman in five and for seven men in ten.",
        _by_hospital(seed, make),
        {"axes": {"sex": ["f", "m"], "outcome": ["no", "yes"]}, "min_patients": 3},
        [("f | no",), ("m | yes",)],
        tolerance=_TOLERANCE,
    )


def metrics_by_group(seed: int) -> Example:
    """Return a model's scores and what became of the patients, who are of four groups."""
    rng = np.random.default_rng(seed)
    tables: dict[str, Mapping[str, FileTable]] = {}
    for hospital, size in zip(_HOSPITALS, (150, 90, 120), strict=True):
        group = [
            "young",
            "very old",
            *(("young", "old", "young", "old", "middle")[i % 5] for i in range(size - 2)),
        ]
        score = np.round(rng.uniform(size=size), 6)
        # Of the old the model is no better than a guess.
        fits = np.array(group) != "old"
        label = rng.uniform(size=size) < np.where(fits, score, 0.5)
        tables[hospital] = {
            "predictions": {
                "patient": [f"{hospital}-{i}" for i in range(size)],
                "group": group,
                "label": label.tolist(),
                "score": [f"{one:.6f}" for one in score],
            }
        }
    return Example(
        "A model's scores fit the young and say nothing of the old. Three patients of all hospitals are very old, and are "
        "not told. Nor is the group middle, or the very old would follow from the number of all.",
        tables,
        {"groups": ["young", "middle", "old", "very old"], "bins": 4, "min_patients": 10},
        [("old", "accuracy"), ("old", "true positive rate"), ("young", "accuracy")],
        tolerance=1e-4,
    )


def noisy_marginals(seed: int) -> Example:
    """Return sex, smoking and outcome of enough patients for noise to be small beside their numbers."""
    rng = np.random.default_rng(seed)
    tables = {}
    for hospital, size in zip(_HOSPITALS, (500, 300, 400), strict=True):
        sex = [("f", "m")[i % 2] for i in range(size)]
        smoker = [("no", "yes")[int(rng.random() < 0.4)] for _ in sex]
        outcome = [("no", "yes")[int(rng.random() < (0.6 if s == "yes" else 0.3))] for s in smoker]
        names = [f"{hospital}-{i}" for i in range(size)]
        facts = _long(names, {"sex": sex, "smoker": smoker, "outcome": outcome}, "variable", "value")
        tables[hospital] = {"facts": facts}
    axes = {"sex": ["f", "m"], "smoker": ["no", "yes"], "outcome": ["no", "yes"]}
    return Example(
        "The outcome is yes for six smokers in ten, and for three others in ten; numbers are told with noise.",
        tables,
        {"axes": axes, "epsilon": 4.0},
        [("smoker, outcome: yes | yes",)],
        tolerance=0.25,
    )


def describe(seed: int) -> Example:
    """Return a measurement of two arms."""

    def make(rng: Rng, names: list[str]) -> dict[str, FileTable]:
        arms = [("control", "treatment")[i % 2] for i in range(len(names))]
        values = [f"{rng.normal(120 if arm == 'control' else 110, 8):.1f}" for arm in arms]
        return {"measurements": {"patient": names, "arm": arms, "value": values}}

    return Example(
        "Blood pressure is about 120 in the arm control and about 110 in the arm treatment.",
        _by_hospital(seed, make),
        {"arms": ["control", "treatment"], "high": 200, "decimals": 1, "quantiles": [0.5]},
        [("control", "number", 31), ("treatment", "number", 29), ("treatment", "quantile 0.5")],
        tolerance=_TOLERANCE,
    )


def correlation(seed: int) -> Example:
    """Return two measurements that go together."""

    def make(rng: Rng, names: list[str]) -> dict[str, FileTable]:
        height = rng.normal(170, 10, len(names))
        weight = 70 + 0.9 * (height - 170) + rng.normal(0, 6, len(names))
        columns = {"height": [f"{x:.1f}" for x in height], "weight": [f"{x:.1f}" for x in weight]}
        return {"patients": {"patient": names}, "covariates": _long(names, columns, "covariate", "value")}

    return Example(
        "Tall patients are heavy ones: the correlation of height and weight is about 0.8.",
        _by_hospital(seed, make),
        {"covariates": ["height", "weight"], "low": [100, 0], "high": [230, 180]},
        [("height", "weight")],
        tolerance=_TOLERANCE,
    )


def marker_cooccurrence(seed: int) -> Example:
    """Return two markers that patients have together."""

    def make(rng: Rng, names: list[str]) -> dict[str, FileTable]:
        first = (rng.random(len(names)) < 0.4).tolist()
        second = [bool(rng.random() < (0.9 if has else 0.1)) for has in first]
        return {"patients": {"patient": names, "first": first, "second": second}}

    return Example(
        "Nine in ten patients with the first marker have the second, and one in ten of the others.",
        _by_hospital(seed, make),
        {"level": 0.01},
        [("together", 1)],
    )


def rare_variant(seed: int) -> Example:
    """Return a variant with six carriers."""

    def make(rng: Rng, names: list[str]) -> dict[str, FileTable]:
        rows = [(name, "rs1") for name in names if rng.random() < 0.9]
        rows += [(name, "rs7") for name in names[:2]]
        rows += [(names[0], "rs9")] if names[0].startswith("elm") else []
        return {"carriers": {"patient": [row[0] for row in rows], "variant": [row[1] for row in rows]}}

    return Example(
        "Two patients of each hospital carry rs7. Nearly all carry rs1, and a single one rs9.",
        _by_hospital(seed, make),
        {"variants": ["rs1", "rs7", "rs9"], "min_carriers": 5, "max_carriers": 20},
        [("rs7", 6)],
    )


def association(seed: int) -> Example:
    """Return variants, one of which raises the trait."""
    variants = [f"rs{i}" for i in range(1, 7)]

    def make(rng: Rng, names: list[str]) -> dict[str, FileTable]:
        dosage = rng.binomial(2, 0.4, (len(names), len(variants)))
        age = rng.integers(30, 80, len(names))
        trait = 40 + 0.2 * age + 8 * dosage[:, 2] + rng.normal(0, 3, len(names))
        columns = {"trait": [f"{x:.2f}" for x in trait], "age": age.tolist()}
        return {
            "patients": {"patient": names},
            "covariates": _long(names, columns, "covariate", "value"),
            "genotypes": _long(
                names, {v: dosage[:, i].tolist() for i, v in enumerate(variants)}, "variant", "dosage"
            ),
        }

    return Example(
        "Each copy of rs3 raises the trait by 8; the other five variants do nothing.",
        _by_hospital(seed, make),
        {"covariates": ["age"], "low": [0], "high": [120], "variants": variants, "top": 1},
        [("rs3",)],
        tolerance=_TOLERANCE,
    )


def _regression(
    seed: int, outcome: Callable[[Rng, Any], list[Any]], story: str, **parameters: Any
) -> Example:
    """Return patients whose outcome depends on the treatment and not on the age."""

    def make(rng: Rng, names: list[str]) -> dict[str, FileTable]:
        treated = rng.permutation(np.arange(len(names)) % 2)
        columns = {
            "age": rng.integers(30, 80, len(names)).tolist(),
            "treatment": treated.tolist(),
            "outcome": outcome(rng, treated),
        }
        return {"patients": {"patient": names}, "covariates": _long(names, columns, "covariate", "value")}

    return Example(
        f"{story} Their age does nothing.",
        _by_hospital(seed, make),
        {"covariates": ["age", "treatment"], "low": [0, 0], "high": [120, 1], **parameters},
        [("age",), ("treatment",), ("intercept",)],
        tolerance=1e-3,
    )


def linear_regression(seed: int) -> Example:
    """Return a measurement that the treatment lowers."""
    return _regression(
        seed,
        lambda rng, treated: [f"{x:.1f}" for x in 60 - 15 * treated + rng.normal(0, 5, len(treated))],
        "The outcome of treated patients is lower by 15.",
        outcome_high=100,
    )


def logistic_regression(seed: int) -> Example:
    """Return an outcome that is rarer under treatment."""
    return _regression(
        seed,
        lambda rng, treated: (
            (rng.random(len(treated)) < np.where(treated == 1, 0.2, 0.7)).astype(int).tolist()
        ),
        "Two in ten treated patients have the outcome, and seven in ten of the others.",
        iterations=6,
    )


def poisson_regression(seed: int) -> Example:
    """Return events that are rarer under treatment."""
    return _regression(
        seed,
        lambda rng, treated: rng.poisson(np.where(treated == 1, 1.0, 3.0)).tolist(),
        "Treated patients fall ill once a year, and the others three times.",
        iterations=6,
    )
