"""Debug mode names the line of the first operation that overflows or goes past its bound."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from secagg import mpc
from secagg.errors import UsageError
from secagg.mpc.arrays.dtypes import fixed, int8
from secagg.mpc.arrays.engine import Engine
from secagg.network.simulated import simulate
from secagg.party import SESSION_BYTES, Party

NAMES = ("ada", "bob", "cleo")


def debugged(expression, values, dtype):
    async def program(party):
        engine = await Engine.create(party, debug=True)
        x = engine.share(
            values if party.me == "ada" else None, owner="ada", shape=np.shape(values), dtype=dtype
        )
        return await expression(x).open()

    return simulate(dict.fromkeys(NAMES, program)).values()[0]


@pytest.mark.parametrize(
    ("expression", "values", "dtype", "text"),
    [
        (lambda x: (x + x) * 0 + 1, [100], int8, "add at .* overflows: a result does not fit int8"),
        (lambda x: (x - 1) * x, [2**40], int, "multiply at .* overflows: a product does not"),
        (lambda x: x * x, [2.0**16], fixed(16), "multiply at .* overflows: a product before 16 bits"),
        (lambda x: x * 3 // 2, [2**61], int, "shift at .* overflows"),
        (lambda x: x @ x, [2.0**15, 2.0**15], fixed(16), "matmul at .* overflows"),
        (lambda x: x.sum() * 0, [100, 100], int8, "sum at .* overflows"),
    ],
)
def test_the_first_operation_that_overflows_is_named_with_its_line(expression, values, dtype, text):
    with pytest.raises(UsageError, match=text) as raised:
        debugged(expression, values, dtype)
    assert f"{__file__}:{inspect.getsourcelines(expression)[1]}" in str(raised.value)


def test_a_program_within_its_bounds_runs_as_it_does_without():
    values = np.array([[1.5, -2.0], [0.25, 3.0]])
    got = debugged(lambda x: np.where(x > 1, x * x, x / 3).sum(0), values, fixed(16))
    assert np.allclose(got, np.where(values > 1, values * values, values / 3).sum(0), atol=1e-3)


@pytest.mark.slow
def test_elementary_functions_agree_with_their_twins_at_every_step():
    values = np.array([0.0, 2.0**-16, 0.75, 3.0, 40000.0])
    functions: list[Callable[..., Any]] = [mpc.reciprocal, np.sqrt, mpc.rsqrt, np.log, mpc.sigmoid]
    got = debugged(lambda x: np.stack([function(x) for function in functions]), values, fixed(16))
    assert np.allclose(got[1], np.sqrt(values), rtol=2.0**-20, atol=2.0**-15)


@pytest.mark.parametrize("function", [mpc.linalg.inv, np.linalg.cholesky])
@pytest.mark.parametrize("matrix", [[[0.0, 1.0], [1.0, 0.0]], [[2.0, 1.0], [0.0, 2.0]]])
def test_a_matrix_of_no_system_is_named_with_its_line(function, matrix):
    with pytest.raises(UsageError, match=r"test_arrays_debug\.py:\d+ is not symmetric positive definite"):
        debugged(function, matrix, fixed(16))


def test_debug_mode_is_refused_outside_the_simulator():
    party = Party("ada", NAMES, session=bytes(SESSION_BYTES))
    with pytest.raises(UsageError, match=r"secagg\.simulate alone"):
        Engine.create(party, debug=True).send(None)
