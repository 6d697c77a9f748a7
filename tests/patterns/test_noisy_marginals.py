"""Marginals with noise, and synthetic tables that are made of them."""

from __future__ import annotations

import csv
import json
import math
from typing import Any

import numpy as np
import pytest

from bank_tables import terms_of
from costs import measured
from program_runs import played
from secagg import dp
from secagg.cli import main
from secagg.dp.synthesis import synthesize
from secagg.errors import PlanError, ShapeError, UsageError
from secagg.jobs.example_files import write_example
from secagg.patterns.health import NOISY_MARGINALS, examples
from secagg.patterns.health.noisy_marginals import Marginals, _noise
from secagg.prg import Stream
from secagg.statistics import noise

HOSPITALS = ("elm", "fir", "oak")
AXES: dict[str, tuple[str, ...]] = {"sex": ("f", "m"), "smoker": ("no", "yes"), "outcome": ("no", "yes")}


def stream(seed):
    return Stream(seed.to_bytes(32, "big"))


@pytest.fixture(scope="module")
def tables():
    example = examples.noisy_marginals(1)
    return {
        name: {"facts": {column: np.array(v, object) for column, v in own["facts"].items()}}
        for name, own in example.tables.items()
    }


def test_a_run_tells_counts_with_the_noise_of_a_trusted_curator_at_the_declared_cost(tables):
    parameters = Marginals(axes=AXES, epsilon=2.0)
    outcome = played(NOISY_MARGINALS, parameters, tables, HOSPITALS)
    outcome.values()
    told, exact = outcome.results["elm"], NOISY_MARGINALS.pooled(parameters, tables)
    assert told == outcome.results["fir"] == outcome.results["oak"]
    assert [name for name, _ in told] == [name for name, _ in exact] == parameters.names()
    added = np.array([a - b for (_, a), (_, b) in zip(told, exact, strict=True)])
    std = NOISY_MARGINALS.noise_std(parameters)
    assert added.any()
    assert abs(added).max() <= 8 * std
    curator = dp.calibrate(
        dp.Budget(2.0, 1e-6, 1, "add-remove"),
        dp.Cohort(),
        dp.Sensitivity(3, math.sqrt(3), 12),
        kind="discrete gaussian",
    )
    assert std**2 == pytest.approx(curator.variance, rel=1e-3)
    declared = NOISY_MARGINALS.cost(parameters, terms_of(HOSPITALS, HOSPITALS), dict.fromkeys(HOSPITALS, 0))
    costs = {name: measured(name, ledger) for name, ledger in outcome.ledgers.items()}
    assert {n: c.payload_bytes[n] for n, c in costs.items()} == declared.payload_bytes


def test_what_a_run_costs_is_what_its_noise_keeps():
    parameters = Marginals(axes=AXES, marginals=(("sex",), ("smoker", "outcome")), epsilon=1.5, delta=1e-7)
    (spent,) = NOISY_MARGINALS.spends(parameters, terms_of(HOSPITALS, HOSPITALS))
    assert (spent.tables, spent.epsilon, spent.delta, spent.unit) == (("facts",), 1.5, 1e-7, "person")
    table = _noise(6, 2, 1.5, 1e-7)
    assert spent.rho is not None
    orders = np.arange(2, 500)
    from_rho = min(
        spent.rho * a + math.log(1 / 1e-7) / (a - 1) for a in orders
    )  # [BS16], the plain conversion
    assert 1.5 <= from_rho < 1.8
    assert spent.rho == pytest.approx(2 / (2 * table.variance))
    assert (1 + math.exp(1.5)) * 6 * table.distance < 1e-3 * 1e-7
    assert table.variance > _noise(6, 1, 1.5, 1e-7).variance
    assert NOISY_MARGINALS.warnings(parameters, terms_of(HOSPITALS, HOSPITALS)) == []
    assert (
        "little is hidden"
        in NOISY_MARGINALS.warnings(Marginals(epsilon=9.0), terms_of(HOSPITALS, HOSPITALS))[0]
    )


def test_coins_of_two_preparations_differ_and_counts_do_not(tables):
    parameters = Marginals(axes=AXES)
    one, other = (NOISY_MARGINALS.local(parameters, tables["elm"]) for _ in range(2))
    assert np.array_equal(one["cells"]["patients"], other["cells"]["patients"])
    assert 0.3 < np.mean(one["coins"]["coin"] != other["coins"]["coin"]) < 0.7


def test_noise_is_of_the_coins_of_all_hospitals(tables, monkeypatch):
    drawn = []

    def keeping(count, rng):
        drawn.append(coins(count, rng))
        return drawn[-1]

    coins = noise.coins
    monkeypatch.setattr(noise, "coins", keeping)
    parameters = Marginals(axes=AXES, marginals=(("sex",),))
    outcome = played(NOISY_MARGINALS, parameters, tables, HOSPITALS)
    outcome.values()
    assert len(drawn) == 3
    words = noise.words((drawn[0] ^ drawn[1] ^ drawn[2]).reshape(-1, noise.WORD_BITS))
    added = _noise(2, 1, 1.0, 1e-6).count(words)
    exact = NOISY_MARGINALS.pooled(parameters, tables)
    assert [count for _, count in outcome.results["elm"]] == [
        n + e for (_, n), e in zip(exact, added, strict=True)
    ]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"marginals": (("sex", "age"),)}, "a marginal names 'age'; the axes are sex, smoker, outcome"),
        ({"marginals": (("sex", "smoker"), ("smoker", "sex"))}, "counted twice"),
        ({"marginals": (("sex", "sex"),)}, "different names for a marginal"),
        ({"epsilon": 1e-4}, "allow a larger epsilon"),
        ({"delta": 1e-16}, "delta = 1e-16 is too small"),
    ],
)
def test_marginals_that_cannot_be_told_are_refused(options, says):
    with pytest.raises(PlanError, match=says):
        NOISY_MARGINALS.check(Marginals(axes=AXES, **options), terms_of(HOSPITALS, HOSPITALS))


def test_counts_with_too_much_noise_to_compare_are_refused():
    axes = {name: tuple(f"{i}" for i in range(250)) for name in ("a", "b")}
    with pytest.raises(PlanError, match="comparisons, and at most"):
        NOISY_MARGINALS.check(Marginals(axes=axes, epsilon=0.5), terms_of(HOSPITALS, HOSPITALS))
    axes["c"] = axes["a"]
    with pytest.raises(PlanError, match="expected at most 65536 counts"):
        NOISY_MARGINALS.check(Marginals(axes=axes), terms_of(HOSPITALS, HOSPITALS))


def marginal_counts(parameters, tables):
    return np.array([count for _, count in NOISY_MARGINALS.pooled(parameters, tables)], float)


def split(parameters, counts):
    """Return counts by set of variables."""
    found, place = {}, 0
    for names in parameters.sets:
        size = math.prod(parameters.shape(names))
        found[names] = counts[place : place + size].reshape(parameters.shape(names))
        place += size
    return found


def workload_error(parameters, exact, table):
    """Return the mean total variation of all pairs of variables between a table and the exact counts."""
    places = {
        name: np.array([list(values).index(v) for v in table[name]])
        for name, values in parameters.axes.items()
    }
    errors = []
    for names, counts in split(parameters, exact).items():
        made = np.zeros_like(counts)
        np.add.at(made, tuple(places[name] for name in names), 1)
        errors.append(abs(made / made.sum() - counts / counts.sum()).sum() / 2)
    return float(np.mean(errors))


@pytest.mark.slow
def test_tables_made_jointly_are_as_good_as_those_of_a_trusted_curator_at_one_epsilon(tables):
    parameters = Marginals(axes=AXES, epsilon=0.5)
    exact = marginal_counts(parameters, tables)
    table = _noise(parameters.cells, 3, 0.5, 1e-6)
    curator = dp.DiscreteGaussian(table.variance)
    errors: dict[str, list[float]] = {"joint": [], "pooled": []}
    for seed in range(20):
        coins = [
            noise.coins(parameters.cells, stream(100 * seed + i)).reshape(-1, noise.WORD_BITS)
            for i in range(3)
        ]
        joint = table.count(noise.words(coins[0] ^ coins[1] ^ coins[2]))  # what shares give, see test_noise
        for name, drawn in (("joint", joint), ("pooled", curator.draw(parameters.cells, stream(seed)))):
            made = synthesize(
                parameters.axes, split(parameters, exact + drawn), noise_std=math.sqrt(table.variance), rows=1200,
                iterations=200,
            )  # fmt: skip
            errors[name].append(workload_error(parameters, exact, made))
    assert 0 < np.mean(errors["joint"]) < 0.1
    # Both have one distribution. The seeds are fixed, so that the same noise is drawn always.
    assert np.mean(errors["joint"]) <= 1.1 * np.mean(errors["pooled"])


@pytest.mark.slow
def test_a_synthetic_table_comes_out_of_a_job_s_result_with_its_epsilon(tmp_path, capsys):
    files = write_example("noisy_marginals", tmp_path, seed=2)
    exact = dict(marginals_of(files))
    result = tmp_path / "result.csv"
    rows = [["what", "patients"], *([name, count + 1] for name, count in exact.items())]
    with result.open("w", newline="") as file:
        csv.writer(file).writerows(rows)

    def run(*more, out="made.csv", result=result):
        with pytest.raises(SystemExit) as end:
            main(
                [
                    "synthesize",
                    str(files.job_file),
                    "--result",
                    str(result),
                    "--out",
                    str(tmp_path / out),
                    *more,
                ]
            )
        return end.value.code, capsys.readouterr()

    code, said = run("--rows", "600")
    assert code == 0, said
    assert "600 synthetic rows, differentially private with epsilon 4 at delta 1e-06" in " ".join(
        said.out.split()
    )
    about = json.loads((tmp_path / "made.json").read_text())
    assert (about["epsilon"], about["delta"], about["rows"]) == (4.0, 1e-6, 600)
    with (tmp_path / "made.csv").open() as file:
        made = list(csv.DictReader(file))
    assert list(made[0]) == ["sex", "smoker", "outcome"]
    sick = sum(row["outcome"] == "yes" for row in made if row["smoker"] == "yes")
    smokers = sum(row["smoker"] == "yes" for row in made)
    assert abs(sick / smokers - 0.6) < 0.1
    code, said = run()
    assert (code, "is there already" in said.err) == (2, True)
    result.write_text("what,patients\nsex: f,3\n")
    code, said = run(out="other.csv")
    assert (code, "is not the result of this job" in " ".join(said.err.split())) == (2, True)
    assert not (tmp_path / "other.csv").exists()


def marginals_of(files):
    """Return the counts of all hospitals' files together."""
    facts = []
    for own in files.tables.values():
        with own["facts"].open() as file:
            facts += list(csv.DictReader(file))
    columns = {column: np.array([row[column] for row in facts], object) for column in facts[0]}
    return NOISY_MARGINALS.pooled(files.job.parameters, {"all": {"facts": columns}})


def test_what_no_table_can_be_made_of_is_refused():
    usual: dict[str, Any] = {"marginals": {("sex",): [5.0, 6.0]}, "noise_std": 1.0}
    for options, error, says in (
        ({"noise_std": 0.0}, UsageError, "a positive noise_std"),
        ({"marginals": {}}, UsageError, "expected marginals"),
        ({"marginals": {("age",): [1.0]}}, UsageError, "expected sets of sex, smoker, outcome, got age"),
        (
            {"marginals": {("sex",): [1.0, 2.0, 3.0]}},
            ShapeError,
            r"sex: expected finite counts of shape \(2,\)",
        ),
        ({"marginals": {("sex",): [1.0, math.nan]}}, ShapeError, "finite counts"),
    ):
        with pytest.raises(error, match=says):
            synthesize(AXES, **{**usual, **options})
