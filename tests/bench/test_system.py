"""What is measured of a machine besides: other work on its processors."""

from __future__ import annotations

import os

import pytest

from secagg.bench import system
from secagg.bench.system import OtherWork


def test_other_work_is_what_the_processors_did_beside_this_and_the_parties_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """3 s of two processors in 10 s, 1 s of it for the run itself; then an idle 10 s."""
    for name, readings in (
        ("busy_s", [10.0, 13.0, 13.0, 13.0]),
        ("_own_s", [5.0, 6.0, 6.0, 6.0]),
        ("perf_counter", [0.0, 10.0, 10.0, 20.0]),
    ):
        monkeypatch.setattr(system, name, iter(readings).__next__)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    beside = OtherWork()
    assert beside.share == 0
    with beside.watched():
        pass
    assert (beside.others_s, beside.could_s, beside.share) == (2.0, 20.0, 0.1)
    with beside.watched():
        pass
    assert (beside.others_s, beside.could_s, beside.share) == (2.0, 40.0, 0.05)
