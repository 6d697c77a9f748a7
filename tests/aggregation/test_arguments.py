"""Mistakes of callers end in errors that say what was expected and what to do."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import secagg
from secagg.aggregation import Additive, Ckks, Masked, Paillier, Rlwe
from secagg.errors import PlanError, RangeError, ShapeError, UsageError

XS = {"al": np.ones(3), "bo": np.ones(3), "cy": np.ones(3)}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"clip": None}, "give clip, .*agreed on without looking.*tells it to everybody"),
        ({"clip": "most"}, "expected a number as clip, got the text 'most'"),
        ({"clip": {"weight": 1.0}}, "there is a clip for 'weight', where the updates have nothing"),
        ({"clip": 0}, "a clip is a positive number"),
        (
            {"protocol": "shamir"},
            '"masked", "additive", "bounded", "paillier", "ckks", "rlwe".*got \'shamir\'',
        ),
        (
            {"protocol": Masked},
            r"one of Masked, Additive, Bounded, Paillier, Ckks, Rlwe with settings; got .*: call it, Masked\(\)",
        ),
        ({"simulate_dropouts": "al"}, "collection of names"),
        ({"simulate_dropouts": ["dy"]}, "'dy' cannot drop out: it is not among the clients"),
        ({"simulate_dropouts": {"al": "lunch"}}, "'lunch': masked has keys, shares, input, unmask"),
        ({"names": ["a", "b", "c"]}, "have their names already"),
        ({"protocol": Additive(aggregators=1)}, "one would see all updates"),
        ({"protocol": Rlwe(key_holders=0)}, "at least 1 key holder"),
        ({"protocol": Rlwe(max_dropout=0.9)}, "the sum of one is its update"),
        ({"protocol": Rlwe(max_dropout=1.5)}, "as a fraction"),
        ({"protocol": Masked(max_corrupt=0.7)}, "allow fewer dropouts or fewer corrupt"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        secagg.sum(XS, **{"clip": 1.0, **options})


@pytest.mark.parametrize(
    ("updates", "options", "said"),
    [
        ({}, {}, "at least 2 clients, got none"),
        ([], {}, "at least 2 clients, got none"),
        ({"al": np.ones(3)}, {}, "at least 2 clients, got 1: the sum of one is its update"),
        (np.float64(3), {}, "expected updates by client in a mapping, or in order in a list, got a float64"),
        ("ab", {}, "got a str"),
        ((x for x in XS.values()), {}, "got a generator"),
        (list(XS.values()), {"names": ["a", "b"]}, "as many names as updates, got 2 and 3"),
        (list(XS.values()), {"names": ["a", "b", "a"]}, "distinct names, got more than once: a"),
        ({1: np.ones(3), 2: np.ones(3)}, {}, "a client's name is text that is not empty, not 1"),
        ({"": np.ones(3), "a": np.ones(3)}, {}, "text that is not empty"),
    ],
)
def test_updates_have_to_have_owners(updates: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        secagg.sum(updates, clip=1.0, **options)


def test_nan_and_infinity_are_refused_with_client_and_place() -> None:
    xs = {"al": {"w": np.ones((2, 2))}, "bo": {"w": np.array([[1.0, 2.0], [np.nan, np.inf]])}}
    with pytest.raises(RangeError, match=r"bo's update at w: 2 of 4 numbers are NaN or infinite.*\[1, 0\]"):
        secagg.sum(xs, clip=1.0)


def test_another_shape_is_refused_with_client_and_path() -> None:
    with pytest.raises(ShapeError, match=r"at w/1: bo's update differs from al's"):
        secagg.sum({"al": {"w": [1.0, 2.0]}, "bo": {"w": [1.0, [2.0]]}}, clip=1.0)


@pytest.mark.parametrize(
    ("weights", "max_weight", "kind", "said"),
    [
        ([1, 2, 3], None, UsageError, "give max_weight.*an int if weights are integers"),
        (None, 3, UsageError, "there are none"),
        ([1, 2], 3, UsageError, "weights for 3 clients, got 2"),
        ({"al": 1, "bo": 2}, 3, UsageError, "for each client and nobody else"),
        ([1, 2, "3"], 3, UsageError, "a number as cy's weight, got the text"),
        ([1, 2, True], 3, UsageError, "a number as cy's weight, got bool"),
        ([1, 0, 3], 3, RangeError, "bo's weight is not a positive number"),
        ([1, 2, float("nan")], 3.0, RangeError, "cy's weight is not a positive number"),
        ([1, 2, 3], 2, RangeError, "cy's weight is above max_weight=2"),
        ([1, 1.5, 2], 3, UsageError, "bo's weight is no integer.*give max_weight=3.0"),
        ([1, 2, 3], "some", UsageError, "a number as max_weight"),
        ([1, 2, 3], 1 << 62, PlanError, "weights up to"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(
    weights: Any, max_weight: Any, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        secagg.mean(XS, weights, clip=1.0, max_weight=max_weight)


def test_the_largest_of_all_may_be_taken() -> None:
    xs = {"al": {"w": np.array([3.0, -7.5]), "n": 12}, "bo": {"w": np.zeros(2), "n": 2**60 + 1}}
    total = secagg.sum(xs, clip="max")
    assert total.report.clips["w"] == 7.5
    assert total.report.clipped == {"al": 0, "bo": 0}
    assert total.value["n"] == 2**60 + 13
    average = secagg.mean({"al": 1.0, "bo": 4.0}, [2, 6], clip="max", max_weight="max")
    assert average.value == pytest.approx(3.25, abs=average.report.error)
    assert average.report.error < 1e-5


def test_numbers_may_be_numpys_and_come_in_rows() -> None:
    rows = np.arange(6.0).reshape(3, 2)
    numbers: dict[str, Any] = {"clip": np.float32(8), "max_weight": np.int64(4)}
    result = secagg.mean(rows, np.array([1, 2, 1]), **numbers)
    assert result.report.contributors == ("client0", "client1", "client2")
    assert np.max(np.abs(result.value - [2, 3])) <= result.report.error


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (Paillier(key_holders=3, threshold=4), "a threshold of 2 to 3, got 4"),
        (Paillier(key_holders=0), "for one key holder, or key shares for several"),
    ],
)
def test_settings_of_paillier_that_do_not_go_together_are_refused(choice: Paillier, said: str) -> None:
    pytest.importorskip("gmpy2", reason="Paillier needs gmpy2")
    with pytest.raises(UsageError, match=said):
        secagg.sum(XS, protocol=choice, clip=1.0)


@pytest.mark.parametrize(
    ("choice", "said"),
    [(Ckks(context="huge"), "one of 4096"), (Ckks(context="4096/symmetric"), "clients need the secret key")],
)
def test_contexts_of_ckks_that_do_not_do_are_refused(choice: Ckks, said: str) -> None:
    pytest.importorskip("tenseal", reason="CKKS needs TenSEAL")
    with pytest.raises(UsageError, match=said):
        secagg.sum(XS, protocol=choice, clip=1.0)


def test_a_plan_that_a_protocol_has_no_room_for_is_refused() -> None:
    with pytest.raises(PlanError, match="64"):
        secagg.sum(XS, protocol=Rlwe(key_holders=1, modulus_bits=64), clip=1.0, precision=2.0**-58)


@pytest.mark.slow
def test_what_is_not_installed_is_named() -> None:
    code = (
        "import sys; sys.modules['gmpy2'] = sys.modules['tenseal'] = None\n"
        "import secagg\n"
        "for name in ('paillier', 'ckks'):\n"
        "    try:\n"
        "        secagg.sum([1.0, 2.0], protocol=name, clip=1.0)\n"
        "    except ImportError as error:\n"
        "        print(error)\n"
        "for name in ('masked', 'additive', 'rlwe'):\n"
        "    print(secagg.sum([1.0, 2.0], protocol=name, clip=2.0).value)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert 'pip install "secagg[paillier]"' in lines[0]
    assert 'pip install "secagg[ckks]"' in lines[1]
    assert lines[2:] == ["3.0"] * 3


@pytest.mark.slow
def test_the_package_gives_both_and_imports_them_when_they_are_asked_for() -> None:
    code = (
        "import sys, secagg\n"
        "print('secagg.aggregation' in sys.modules, {'sum', 'mean'} <= set(dir(secagg)))\n"
        "from secagg import mean, sum\n"
        "print('secagg.aggregation' in sys.modules, 'tenseal' in sys.modules, 'gmpy2' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True", "False", "False"]
    with pytest.raises(AttributeError, match="no attribute 'median'"):
        secagg.median  # type: ignore[attr-defined]  # noqa: B018
