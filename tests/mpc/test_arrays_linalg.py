"""Linear systems on shared arrays stay within the bounds that their module states."""

from __future__ import annotations

import numpy as np
import pytest

from clear import run_clear
from secagg.errors import ShapeError, UsageError
from secagg.mpc.arrays import linalg
from secagg.mpc.arrays.dtypes import fixed
from secagg.mpc.arrays.engine import Engine
from secagg.mpc.three.engine import ThreeEngine
from secagg.network.simulated import simulate


def opened(functions, *values, f=16):
    """Return what functions of shared arrays open to, in the clear."""

    async def program(primitives):
        engine = Engine(primitives)
        shared = [engine.share(v, owner="ada", shape=v.shape, dtype=fixed(f)) for v in values]
        return await engine.open(*(function(*shared) for function in functions))

    return run_clear(program)


def system(p, condition, *, f, seed, sizes):
    """Return a matrix, whose diagonal goes over 2**sizes, and a right-hand side, in fixed(f)."""
    made_up = np.random.default_rng(seed)
    basis = np.linalg.qr(made_up.normal(size=(p, p)))[0]
    values = np.array([1.0] + [condition] * (p - 1))
    roots = 2.0 ** made_up.uniform(sizes[0] / 2, sizes[1] / 2, p)
    a = (basis * values / values.mean()) @ basis.T
    a *= np.outer(roots, roots) / np.sqrt(np.outer(np.diag(a), np.diag(a)))
    b = made_up.normal(size=p) * roots
    return np.rint((a + a.T) / 2 * 2.0**f) / 2.0**f, np.rint(b * 2.0**f) / 2.0**f


@pytest.mark.parametrize("f", [8, 16, 24])
@pytest.mark.parametrize("condition", [2.0, 300.0])
@pytest.mark.slow
def test_solutions_inverses_and_factors_are_within_their_bounds(f, condition):
    a, b = system(6, condition, f=f, seed=f, sizes=(max(14 - f, -2 if f > 8 else 6), min(32 - f, 10)))
    got_x, got_inverse, got_lower = opened(
        [linalg.solve, lambda a, _: linalg.inv(a), lambda a, _: np.linalg.cholesky(a)], a, b, f=f
    )
    roots, ulp = np.sqrt(np.diag(a)), 2.0**-f
    sizes = np.outer(roots, roots)
    kappa = np.linalg.cond(a / sizes)
    x, inverse, lower = np.linalg.solve(a, b), np.linalg.inv(a), np.linalg.cholesky(a)
    error = 2.0**-22 * kappa * (2.0 ** (10 - f / 2) + np.abs(x * roots).max())
    assert (np.abs(got_x - x) <= error / roots + ulp).all()
    error = 2.0**-21 * kappa * (1 + np.abs(inverse * sizes).max())
    assert (np.abs(got_inverse - inverse) <= error / sizes + ulp).all()
    assert (np.abs(got_lower - lower) <= 2.0**-18 * kappa * roots[:, None] + 2 * ulp).all()
    assert (np.triu(got_lower, 1) == 0).all()


def test_a_variable_that_others_determine_counts_as_zero_and_is_not_divided_by():
    made_up = np.random.default_rng(0)
    columns = made_up.normal(size=(30, 3))
    columns = np.column_stack([columns, columns[:, 0] - columns[:, 2], np.zeros(30)])
    a, b = columns.T @ columns, columns.T @ made_up.normal(size=30)
    x, rank = opened([linalg.solve, lambda a, _: linalg.factor(a).rank], a, b, f=20)
    assert rank == 3
    assert (x[3:] == 0).all()
    assert np.allclose(x[:3], np.linalg.solve(a[:3, :3], b[:3]), rtol=0, atol=2.0**-14)


def test_several_right_hand_sides_are_solved_at_once_and_the_finer_dtype_is_taken():
    a, b = np.array([[4.0, 1.0], [1.0, 3.0]]), np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 8.0]])

    async def program(primitives):
        engine = Engine(primitives)
        x = linalg.solve(engine.public(a, dtype=fixed(16)), engine.public(b, dtype=fixed(20)))
        return x.dtype, await x.open()

    dtype, x = run_clear(program)
    assert dtype == fixed(20)
    assert np.allclose(x, np.linalg.solve(a, b), rtol=0, atol=2.0**-18)


@pytest.mark.parametrize(
    ("a", "b", "error"),
    [(np.ones((2, 3)), np.ones(2), "square"), (np.ones((2, 2)), np.ones(3), "2 rows")],
    ids=["not square", "rows differ"],
)
def test_shapes_that_are_no_system_are_refused(a, b, error):
    with pytest.raises(ShapeError, match=error):
        opened([linalg.solve], a, b)


def test_public_operands_are_refused_by_a_message_that_says_how_to_share_them():
    with pytest.raises(UsageError, match=r"engine\.public"):
        opened([lambda a: linalg.solve(np.eye(2), a)], np.ones(2))


@pytest.mark.slow
def test_three_parties_solve_a_system():
    a, b = np.array([[4.0, 1.0], [1.0, 3.0]]), np.array([1.0, 2.0])

    async def program(party):
        engine = Engine(await ThreeEngine.set_up(party, party.roster))
        shared = [
            engine.share(v if party.me == "bob" else None, owner="bob", shape=v.shape, dtype=fixed())
            for v in (a, b)
        ]
        return await linalg.solve(*shared).open()

    values = simulate(dict.fromkeys(("ada", "bob", "cleo"), program)).values()
    assert all(np.allclose(x, np.linalg.solve(a, b), rtol=0, atol=3 * 2.0**-16) for x in values)
