"""Whatever would need a secret value while nothing is opened raises an error that says what to do."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from clear import run_clear
from secagg import mpc
from secagg.errors import UsageError
from secagg.mpc.arrays.engine import Engine

MISTAKES: dict[str, tuple[Any, str]] = {
    "bool": (lambda x: bool(x > 1), "mpc.where"),
    "and": (lambda x: x and x, "mpc.where"),
    "chained comparison": (lambda x: 0 < x < 3, "mpc.where"),
    "len": (len, "shape"),
    "iteration": (list, "range"),
    "unpacking": (lambda x: (lambda a, b: a)(*x), "range"),
    "in": (lambda x: 3 in x, "any"),
    "== in a container": (lambda x: x + 1 in [x], "mpc.where"),
    "float": (float, "open"),
    "int": (int, "open"),
    "complex": (complex, "open"),
    "round": (round, "mpc.rint"),
    "format": (lambda x: f"{x:.2f}", "open"),
    "asarray": (np.asarray, "open"),
    "array of arrays": (lambda x: np.array([x, x]), "open"),
    "index": (lambda x: [1, 2, 3][x], "mpc.where"),
    "numpy index": (lambda x: np.arange(3)[x], "open"),
    "shared index": (lambda x: x[x], "public numbers alone"),
    "range": (lambda x: range(x), "mpc.where"),
    "hash": (lambda x: {x: 1}, "public name"),
    "change": (lambda x: x.__setitem__(0, 1), "mpc.concat"),
    "pickle": (pickle.dumps, "pickled"),
    "copy": (copy.deepcopy, "copied"),
    "opening not awaited": (lambda x: bool(x.open()), "await"),
    "opening compared": (lambda x: x.open() == 3, "await"),
    "opening unequal": (lambda x: x.open() != 3, "await"),
    "opening added": (lambda x: 1 + x.open(), "await"),
    "opening added to numpy's": (lambda x: np.arange(3) + x.open(), "await"),
    "opening indexed": (lambda x: x.open()[0], "await"),
    "opening formatted": (lambda x: f"{x.open()}", "await"),
    "opening as float": (lambda x: float(x.open()), "await"),
    "shared divisor": (lambda x: x // x, "right of //.*mpc.floor"),
    "shared divisor of a number": (lambda x: 5 // x, "right of //.*mpc.floor"),
    "shared divisor of numpy's": (lambda x: np.arange(3) % x, "right of %"),
    "shared exponent": (lambda x: 2**x, "right of .*mpc.exp"),
    "both shared in a power": (lambda x: x**x, "right of .*mpc.exp"),
    "masked": (lambda x: x + np.ma.masked_array([1, 2, 3], [False, True, False]), "mask"),
    "masked input": (
        lambda x: x.engine.share(np.ma.masked_array([1, 2], [False, True]), owner="ada", shape=2),
        "mask",
    ),
    "k": (lambda x: mpc.top_k(x, 1.5), "public integer"),  # type: ignore[arg-type]
    "k missing": (lambda x: mpc.top_k(x, None), "public integer"),  # type: ignore[arg-type]
    "descending": (lambda x: x.sort(descending="no"), "descending"),
    "descending keys": (lambda x: mpc.sort_by([x], [x], descending=[1]), "descending"),  # type: ignore[list-item]
    "shape": (lambda x: x.engine.share([1, 2], owner="ada", shape=2.0), "shape of integers"),
    "shape missing": (lambda x: x.engine.share([1, 2], owner="ada", shape=None), "shape of integers"),
    "max": (lambda x: max(x, x + 1), "mpc.where"),
    "reduce": (np.add.reduce, "sum"),
    "in place": (lambda x: np.add(x, 1, out=np.zeros(3)), "in place"),
    "dtype": (lambda x: np.sum(x, dtype=float), "dtype"),
    "missing": (lambda x: np.isclose(x, 1), "shared arrays have no 'isclose'"),
    "near": (lambda x: np.nanmin(x), "near: .*min"),
    "list": (lambda x: np.concatenate([x, np.zeros(3)]), "engine.public"),
    "text": (lambda x: x + "1", "public numbers"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_that_python_would_take_for_a_value_is_an_error(name):
    mistake, hint = MISTAKES[name]

    async def program(primitives):
        x = Engine(primitives).public([1, 2, 3])
        with pytest.raises(UsageError, match=hint):
            mistake(x)

    run_clear(program)


def test_awaiting_an_array_says_that_only_opening_is_awaited():
    async def program(primitives):
        await (Engine(primitives).public([1]) + 1)

    with pytest.raises(UsageError, match="operators need no await"):
        run_clear(program)


def test_a_missing_method_names_what_is_near_and_repr_shows_no_value():
    async def program(primitives):
        x = Engine(primitives).public([123456])
        with pytest.raises(AttributeError, match=r"near: .*argmax"):
            x.argmaxx  # noqa: B018
        assert not hasattr(x, "nothing")
        assert f"{x}" == repr(x) == "<SharedArray (1,) of int64>"

    run_clear(program)
