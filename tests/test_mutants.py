"""The tool that changes modules makes the changes it says, and those made by hand still fit the code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from hand_made import HAND_MADE
from mutations import mutants
from targets import TARGETS, noticed_by

ROOT = Path(__file__).parents[1]

SAMPLE = '''
LIMIT = 3


def f(x, mask):
    """Say 1 < 2."""
    if x < LIMIT and not mask:
        raise ValueError(f"{x + 1} is small")
    x ^= mask
    send(mask, x, True)
    return x + 2 if x else -x
'''


def test_every_kind_of_change_is_made_once_and_words_are_left_alone():
    made = list(mutants(SAMPLE))
    assert [m.name for m in made] == [
        "2: 3 -> 4",
        "2: 3 -> 2",
        '7: if x < LIMIT and not mask: raise ValueError(f"{x + 1} is small") -> pass',
        "7: x < LIMIT and not mask -> (x < LIMIT or not mask)",
        "7: x < LIMIT -> (x <= LIMIT)",
        "7: not mask -> mask",
        "9: x ^= mask -> pass",
        "10: send(mask, x, True) -> pass",
        "10: send(mask, x, True) -> (send(x, mask, True))",
        "10: True -> False",
        "11: x + 2 if x else -x -> (-x if x else x + 2)",
        "11: x + 2 -> (x - 2)",
        "11: 2 -> 3",
        "11: 2 -> 1",
        "11: -x -> x",
    ]
    assert len({m.source for m in made}) == len(made)
    assert all(ast.parse(m.source) for m in made)


@pytest.mark.parametrize("change", HAND_MADE, ids=lambda change: change.name)
def test_the_change_fits_the_code(change):
    ast.parse(change.apply(ROOT))
    assert change.tests or noticed_by(change.module)


def test_every_mutant_of_a_real_module_can_be_read():
    made = list(mutants((ROOT / "secagg" / "mpc" / "three" / "shuffle.py").read_text("utf-8")))
    assert len(made) > 30
    assert all(ast.parse(m.source) for m in made)


def test_the_tests_that_have_to_notice_are_there():
    for pattern, tests in TARGETS.items():
        assert list(ROOT.glob(pattern)), pattern
        for test in tests:
            assert list(ROOT.glob(test)), test
