"""Tables, moments, correlations and associations on shares are those of scipy, numpy and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from clear import run_clear
from secagg import mpc
from secagg.errors import PlanError, RangeError, ShapeError
from secagg.statistics.contingency import (
    cell_counts,
    chi_square,
    chi_square_test,
    fisher_exact,
    released_cells,
)
from secagg.statistics.exact import fisher_p_value
from secagg.statistics.moments import (
    correlation,
    correlation_test,
    group_sums,
    mean_and_variance,
    moved_sums,
    quantiles,
    student_tail,
    value_counts,
)
from secagg.statistics.variants import association, t_test, trait_sums, variant_sums

FINEST = mpc.fixed(30)


def opened(program):
    async def start(primitives):
        engine = mpc.Engine(primitives)
        return await engine.open(*program(engine))

    return run_clear(start)


def shared(engine, values, dtype=mpc.int64):
    values = np.asarray(values)
    return engine.share(values, owner="ada", shape=values.shape, dtype=dtype)


@pytest.mark.parametrize("table", [[[1000, 2003], [1500, 2900]], [[12, 5, 0], [0, 0, 0], [3, 8, 0]]])
def test_a_chi_square_of_a_table_that_stays_shared_is_scipy_s(table):
    table = np.array(table)
    statistic, degrees = opened(lambda engine: chi_square(shared(engine, table), most=8000))
    kept = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    reference = stats.chi2_contingency(kept, correction=False)
    assert statistic == pytest.approx(reference.statistic, rel=1e-6, abs=1e-6)
    assert degrees == reference.dof
    assert chi_square_test(table) == pytest.approx((reference.statistic, reference.dof, reference.pvalue))


@pytest.mark.parametrize(
    "table", [[[8, 2], [1, 5]], [[100, 20], [80, 50]], [[0, 3], [4, 0]], [[5, 0], [7, 0]]]
)
def test_fisher_s_exact_test_is_scipy_s(table):
    assert fisher_exact(np.array(table)) == pytest.approx(stats.fisher_exact(table).pvalue, rel=1e-9)


@pytest.mark.parametrize(
    "table",
    [
        [[8, 2], [1, 5]],
        [[30, 20], [25, 45]],
        [[0, 3], [4, 0]],
        [[5, 0], [7, 0]],
        [[0, 0], [0, 0]],
        [[2, 3], [6, 9]],
        [[9, 1], [1, 9]],
    ],
)
def test_fisher_s_exact_test_of_a_table_that_stays_shared_is_scipy_s(table):
    (p,) = opened(lambda engine: (fisher_p_value(shared(engine, table), most=120),))
    expected = stats.fisher_exact(table).pvalue if np.sum(table) else 1.0
    assert float(p) == pytest.approx(expected, rel=3e-6, abs=1e-6)


def test_fisher_s_exact_test_on_shares_refuses_other_tables_and_too_many_persons():
    with pytest.raises(ShapeError, match="two rows and two columns"):
        opened(lambda engine: (fisher_p_value(shared(engine, np.ones((2, 3), int)), most=9),))
    with pytest.raises(RangeError, match="1 to 2048 persons"):
        opened(lambda engine: (fisher_p_value(shared(engine, np.ones((2, 2), int)), most=4096),))


def test_small_cells_are_not_told_and_rows_outside_the_table_are_refused():
    counts = cell_counts([np.array([0, 1, 1, 1]), np.array([0, 0, 0, 1])], [2, 2])
    assert counts.tolist() == [[1, 0], [2, 1]]
    (told,) = opened(lambda engine: [released_cells(shared(engine, counts), 2)])
    assert told.tolist() == [[False, False], [True, False]]
    with pytest.raises(RangeError, match="1 of 2 rows lie outside the table; nothing was shared"):
        cell_counts([np.array([0, 2])], [2])
    with pytest.raises(ShapeError, match="two rows and two columns"):
        fisher_exact(np.ones((2, 3), int))


VALUES = np.random.default_rng(1).integers(0, 100, 61)
GROUP = (VALUES % 7 > 2).astype(int)


def test_means_and_variances_by_group_are_exact():
    sums = group_sums(VALUES, GROUP, groups=2, low=0, high=101)
    means, variances, half = mean_and_variance(sums, low=0, high=101)
    for g in (0, 1):
        of = VALUES[g == GROUP]
        assert means[g] == pytest.approx(of.mean(), abs=1e-12)
        assert variances[g] == pytest.approx(of.var(ddof=1), abs=1e-9)
        low, _ = stats.norm.interval(0.95, of.mean(), of.std(ddof=1) / np.sqrt(len(of)))
        assert means[g] - half[g] == pytest.approx(low, abs=1e-9)
    with pytest.raises(RangeError, match="nothing was shared"):
        group_sums(VALUES, GROUP, groups=1, low=0, high=101)
    with pytest.raises(PlanError, match="use fewer decimals"):
        value_counts(VALUES, GROUP, groups=2, low=0, high=10**6)


def test_quantiles_by_group_are_numpy_s_and_told_where_enough_rows_lie_on_either_side():
    counts = value_counts(VALUES, GROUP, groups=2, low=0, high=100)
    shares = [0.03, 0.5, 0.75]
    found, told = opened(lambda engine: quantiles(shared(engine, counts), shares, low=0, smallest=3))
    for g in (0, 1):
        of = VALUES[g == GROUP]
        assert found[g].tolist() == np.quantile(of, shares, method="inverted_cdf").tolist()
        assert told[g].tolist() == [len(of) * q > 2 and len(of) * (1 - q) >= 2 for q in shares]
    assert not told[:, 0].all()


def test_correlations_and_their_p_values_are_scipy_s():
    rng = np.random.default_rng(2)
    x = np.clip(rng.normal(size=(200, 3)) @ rng.normal(size=(3, 3)), -20, 20)
    sums, products, n = moved_sums(x, [-20] * 3, [20] * 3)
    (r,) = opened(
        lambda engine: [
            correlation(shared(engine, sums, FINEST), shared(engine, products, FINEST), shared(engine, n)).r
        ]
    )
    assert np.allclose(r, np.corrcoef(x.T), rtol=0, atol=1e-6)
    assert correlation_test(r[0, 1], n) == pytest.approx(stats.pearsonr(x[:, 0], x[:, 1]).pvalue, abs=1e-6)
    for freedom in (1, 2, 3, 8, 57):
        assert student_tail(1.7, freedom) == pytest.approx(2 * stats.t.sf(1.7, freedom), abs=1e-12)


def test_the_variants_that_explain_most_have_the_effects_of_statsmodels():
    rng = np.random.default_rng(3)
    n, m = 400, 40
    covariates = np.clip(rng.normal(size=(n, 2)) / 4, -1, 1)
    g = rng.binomial(2, rng.uniform(0.05, 0.5, m), (n, m))
    g[:, 9] = 1  # constant
    y = np.clip(0.2 * covariates[:, 0] + 0.1 * g[:, 5] - 0.06 * g[:, 17] + rng.normal(size=n) / 5, -1, 1)
    halves = [slice(0, 1), slice(1, None)]  # one hospital has a single patient
    squares, products = (
        sum(parts) for parts in zip(*(variant_sums(g[h], covariates[h], y[h]) for h in halves), strict=True)
    )
    moments = sum(trait_sums(covariates[h], y[h]) for h in halves)

    def program(engine):
        hits = association(
            shared(engine, squares), shared(engine, products, FINEST), shared(engine, moments, FINEST), top=3
        )
        return hits.variant, hits.effect, hits.r2

    variants, effects, r2 = opened(program)
    varied = [i for i in range(m) if np.ptp(g[:, i])]
    fits = {i: sm.OLS(y, np.column_stack([np.ones(n), covariates, g[:, i]])).fit() for i in varied}
    ranked = sorted(varied, key=lambda i: -abs(fits[i].tvalues[-1]))
    assert varied != list(range(m))
    assert variants.tolist() == ranked[:3]
    for variant, effect, share in zip(variants, effects, r2, strict=True):
        error, p = t_test(effect, share, n - 4)
        assert effect == pytest.approx(fits[variant].params[-1], abs=1e-6)
        assert error == pytest.approx(fits[variant].bse[-1], abs=1e-6)
        assert p == pytest.approx(fits[variant].pvalues[-1], abs=1e-6)


def test_dosages_and_covariates_outside_their_ranges_are_refused():
    with pytest.raises(RangeError, match="dosages 0 to 2"):
        variant_sums(np.array([[3]]), np.zeros((1, 1)), np.zeros(1))
    with pytest.raises(RangeError, match=r"moved into -1\.\.1"):
        trait_sums(np.array([[2.0]]), np.zeros(1))
    with pytest.raises(RangeError, match="1 of 1 rows lie outside"):
        moved_sums(np.array([[np.nan]]), [0], [1])


def test_tables_as_probable_as_the_found_one_count_in_fisher_s_test():
    table = [[1, 1], [2, 6]]
    assert fisher_exact(np.array(table)) == pytest.approx(stats.fisher_exact(table).pvalue, rel=1e-9)


def test_an_effect_without_degrees_of_freedom_has_no_p_value():
    assert t_test(0.5, 0.3, 0) == (float("inf"), 1.0)
