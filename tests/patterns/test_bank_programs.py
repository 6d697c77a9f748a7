"""Programs for banks equal their references in the clear on tables that several banks hold parts of."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from bank_tables import terms_of
from program_runs import played, strings
from secagg.errors import DataError, PlanError, RangeError
from secagg.patterns.banking.joint_scoring import model_from_json
from secagg.patterns.pattern import Terms
from secagg.patterns.registry import find

pytestmark = pytest.mark.slow

BANKS = ("a", "b", "c", "d")
NAMES = [f"n{i}" for i in range(9)]


def customers(rng, i):
    return {
        "customers": {"customer": strings(rng.choice(NAMES, 5).tolist()), "amount": rng.integers(0, 100, 5)}
    }


def payments(rng, i):
    def side(kept):
        return {"reference": strings([NAMES[j] for j in kept]), "amount": rng.integers(1, 3, len(kept))}

    return {"sent": side(range(2 * i, 2 * i + 2)), "received": side([(2 * i + 3) % 9, (2 * i + 6) % 9])}


def features(rng, i):
    return {
        "features": {
            "customer": strings(rng.choice(NAMES, 6).tolist()),
            "feature": strings(rng.choice(["late", "cash"], 6).tolist()),
            "value": rng.integers(-5, 5, 6),
        }
    }


def figures(rng, i):
    kept = NAMES[: 3 + i]
    return {"figures": {"figure": strings(kept), "value": rng.integers(-4, 4, len(kept))}}


CASES = [
    ("intersection_sum", customers, {"min_organisations": 2, "min_customers": 2}),
    ("intersection_sum", customers, {"min_organisations": 2, "min_customers": 9}),
    ("payment_mismatch", payments, {}),
    ("payment_mismatch", payments, {"report_missing": True}),
    ("joint_scoring", features, {"weights": {"late": 300, "cash": -20}, "min_points": -100, "intercept": 5}),
    ("peer_benchmark", figures, {"min_peers": 3}),
]


@pytest.mark.parametrize(("name", "table", "parameters"), CASES)
def test_who_is_told_is_told_what_the_pooled_tables_say(name, table, parameters):
    pattern, rng = find(name).pattern, np.random.default_rng(4)
    tables = {bank: table(rng, i) for i, bank in enumerate(BANKS)}
    agreed = pattern.Parameters(**parameters)
    terms = terms_of(BANKS, BANKS[:3])
    pattern.check(agreed, terms)
    expected = pattern.reference(agreed, terms, tables)
    assert any(expected.values()) == (parameters.get("min_customers") != 9)
    outcome = played(pattern, agreed, tables, BANKS[:3])
    outcome.values()
    assert {bank: outcome.results[bank] for bank in BANKS} == expected


def risk_tables():
    """Three banks; n0 pays n1 twice and n2 once, a payer without a score pays n2, n1 pays n0."""
    rows = [("n0", "n1", 100), ("n0", "n1", 300), ("n0", "n2", 50), ("zz", "n2", 150), ("n1", "n0", 7)]
    tables = {}
    for i, bank in enumerate(BANKS[:3]):
        seen = [row for row in rows if f"n{i}" in row]
        tables[bank] = {
            "transfers": {
                "sender": strings([r[0] for r in seen]),
                "beneficiary": strings([r[1] for r in seen]),
                "amount": np.array([r[2] for r in seen], np.int64),
            },
            "accounts": {"account": strings([f"n{i}"]), "score": np.array([(i + 1) * 10**9])},
        }
    return tables


@pytest.mark.parametrize("computing", [("a", "b", "c"), ("a", "b", "c", "d")])
def test_risk_goes_from_payers_to_payees_by_tnos_rule(computing):
    pattern, tables = find("risk_propagation").pattern, risk_tables()
    outcome = played(pattern, pattern.Parameters(steps=1), tables, computing)
    outcome.values()
    by_hand = {"a": 0.5 * 0.1 + 0.5 * 0.2, "b": 0.5 * 0.2 + 0.5 * 0.1, "c": 0.5 * 0.3 + 0.5 * 0.1 * 50 / 200}
    for bank, score in by_hand.items():
        ((account, found),) = outcome.results[bank]
        assert account == f"n{BANKS.index(bank)}"
        assert float(found) == pytest.approx(score, abs=1e-8)


def test_several_steps_with_a_falling_share_equal_the_rule_in_the_clear():
    pattern, tables = find("risk_propagation").pattern, risk_tables()
    parameters = pattern.Parameters(steps=3, a=0.7, b=0.5)
    outcome = played(pattern, parameters, tables, BANKS[:3])
    outcome.values()
    for bank, rows in pattern.reference(parameters, terms_of(BANKS[:3], BANKS[:3]), tables).items():
        for (who, score), (account, found) in zip(rows, outcome.results[bank], strict=True):
            assert who == account
            assert float(found) == pytest.approx(float(score), abs=1e-8)


def test_an_account_of_two_banks_ends_the_run_at_all():
    pattern, tables = find("risk_propagation").pattern, risk_tables()
    tables["b"]["accounts"] = {"account": strings(["n1", "n0"]), "score": np.array([1, 1])}
    outcome = played(pattern, pattern.Parameters(), tables, BANKS[:3])
    assert all("stands in the tables accounts of two banks" in str(e) for e in outcome.errors.values())
    assert set(outcome.errors) == set(BANKS[:3])
    assert isinstance(outcome.errors["a"], PlanError)


def test_an_altered_program_does_not_hand_an_account_more_than_its_whole_income(monkeypatch):
    pattern, tables = find("risk_propagation").pattern, risk_tables()
    honest = vars(type(pattern))["local"]

    def thrice(self, parameters, own):
        made = honest(self, parameters, own)
        if own is not tables["b"]:
            return made
        part = made["transfers"]["part"] * 3
        return {
            **made,
            "transfers": {**made["transfers"], "part": np.minimum(part, 1.0)},
        }  # each in its range

    monkeypatch.setattr(type(pattern), "local", thrice)
    outcome = played(pattern, pattern.Parameters(), tables, BANKS[:3])
    assert all("more than all of it" in str(outcome.errors[bank]) for bank in BANKS[:3])


def test_figures_of_one_name_unknown_features_and_large_sums_are_refused():
    terms = terms_of(BANKS, BANKS[:3])
    twice = {"figures": {"figure": strings(["x", "x"]), "value": np.zeros(2, np.int64)}}
    pattern = find("peer_benchmark").pattern
    with pytest.raises(DataError, match="1 of 2 figures have a name that another has"):
        pattern.prepare(pattern.Parameters(), terms, twice)
    pattern = find("joint_scoring").pattern
    with pytest.raises(DataError, match="the feature late has no weight"):
        pattern.prepare(pattern.Parameters(weights={"cash": 1}), terms, features(np.random.default_rng(1), 0))
    pattern = find("intersection_sum").pattern
    with pytest.raises(RangeError, match="add up to more than max_amount_cents"):
        pattern.prepare(
            pattern.Parameters(max_amount_cents=10), terms, customers(np.random.default_rng(1), 0)
        )
    with pytest.raises(PlanError, match=r"customers\.amount: .* more than a sum has room for"):
        pattern.cost(pattern.Parameters(max_amount_cents=10**18), terms, dict.fromkeys(BANKS, 5))


@pytest.mark.parametrize("computing", [("a", "b", "x"), ("a", "b", "x", "y")])
def test_a_party_that_only_gets_the_result_gets_it_alone(computing):
    pattern, rng = find("intersection_sum").pattern, np.random.default_rng(4)
    tables = {bank: customers(rng, i) for i, bank in enumerate(BANKS)}
    terms = Terms((*BANKS, "x", "y", "z"), {"input": BANKS, "computing": computing, "result": ("z",)})
    parameters = pattern.Parameters(min_customers=1)
    outcome = played(pattern, parameters, tables, computing, terms)
    outcome.values()
    assert outcome.results["z"] == pattern.reference(parameters, terms, tables)["z"] != []
    assert all(outcome.results[name] is None for name in terms.parties if name != "z")


@pytest.mark.parametrize(
    ("name", "table", "parameters"),
    [
        ("intersection_sum", {"customers": {"customer": ["x", "x"], "amount": [0, 0]}}, {"min_customers": 1}),
        ("joint_scoring", {"customers": {"customer": ["x", "x"], "part": [0, 0]}}, {"weights": {"f": 1}}),
        ("peer_benchmark", {"figures": {"figure": ["x", "x"], "value": [0, 0]}}, {"min_peers": 3}),
    ],
)
def test_an_altered_program_does_not_reach_a_bound_on_organisations_by_rows_of_its_own(
    name, table, parameters, monkeypatch
):
    pattern = find(name).pattern
    honest = {
        n: {t: {c: strings([n, "y"]) if v[0] == "x" else np.array([1, 1]) for c, v in columns.items()}}
        for n in BANKS
        for t, columns in table.items()
    }
    honest["a"] = {
        t: {c: strings(v) if v[0] == "x" else np.array(v) for c, v in of.items()} for t, of in table.items()
    }
    monkeypatch.setattr(type(pattern), "local", lambda _, parameters, tables: tables)
    outcome = played(pattern, pattern.Parameters(**parameters), honest, BANKS)
    assert all("twice" in str(outcome.errors[n]) for n in BANKS)
    honest["a"] = honest["b"]
    assert not played(pattern, pattern.Parameters(**parameters), honest, BANKS).errors


def test_a_model_that_scikit_learn_fitted_becomes_parameters():
    x = np.array([[0, 1], [1, 0], [2, 2], [3, 1], [0, 0], [4, 3]])
    fitted = LogisticRegression().fit(x, [0, 0, 1, 1, 0, 1])
    kept = {"coef_": fitted.coef_.tolist(), "intercept_": fitted.intercept_.tolist(), "n_iter_": [7]}
    model = model_from_json(json.dumps({"feature_names_in_": ["defaults", "loans"], **kept}), min_points=3)
    points = x @ list(model.weights.values()) + model.intercept
    # Each weight is rounded by at most half a point, and so is the intercept.
    assert np.abs(points - 1000 * fitted.decision_function(x)).max() <= 0.5 * (1 + 4 + 3)
    assert (list(model.weights), model.min_points) == (["defaults", "loans"], 3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", "expected a JSON object with feature_names_in_"),
        ('{"feature_names_in_": ["a"], "coef_": [1, 2]}', "one coefficient for each of 1 different features"),
        ('{"feature_names_in_": ["a"], "coef_": [[1], [2]]}', "a model of several classes is not scored"),
        ('{"feature_names_in_": ["a"], "coef_": [1, [2]]}', "expected a JSON object"),
        ('{"feature_names_in_": ["a"], "coef_": [1e9]}', "take fewer points a unit"),
        ('{"feature_names_in_": ["a"], "coef_": [NaN]}', "expected a JSON object"),
    ],
)
def test_what_is_no_linear_model_is_refused(text, says):
    with pytest.raises(PlanError, match=says):
        model_from_json(text)
