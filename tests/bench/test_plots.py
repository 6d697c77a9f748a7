"""The same results give the same files, every line is named, and noise costs what the data set is small for."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn import datasets

from ended import Ended
from secagg.bench import gallery, plots, utility
from secagg.bench.case import Case
from secagg.bench.measure import measure
from secagg.bench.subjects import names
from secagg.bench.table import Table
from secagg.errors import UsageError

LATENCIES = ("1ms/100mbit", "10ms/100mbit", "100ms/100mbit")


@pytest.fixture(scope="module")
def table() -> Table:
    """Results of one real case, with other sizes written over it."""
    real = measure(Case("protocol", "masked", 3, 5, repeat=1, networks=LATENCIES))

    def like(**changes: Any) -> dict[str, Any]:
        case = {**real["case"], **changes}
        seconds = [case["size"] * part for part in (1.0, 2.0, 3.0)]
        return {**real, "case": case, "key": json.dumps(case, sort_keys=True), "seconds": seconds}

    grown = [like(size=size) for size in (10, 100, 1000)]
    grown += [like(parties=parties) for parties in (4, 8, 16)]
    return Table.of([*grown, *(like(frac_bits=bits) for bits in (4, 8, 12))])


@pytest.mark.slow
def test_the_same_results_give_the_same_files_and_each_line_is_named(table, tmp_path):
    first, again = (plots.draw(table, tmp_path / str(i)) for i in (1, 2))
    assert [path.name for path in first] == [
        f"{name}.{ending}"
        for name in ("time-size", "bytes-parties", "time-latency", "error-bits")
        for ending in ("svg", "png")
    ]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    svg = {path.stem: path.read_text() for path in first if path.suffix == ".svg"}
    assert "masked, 3 clients" in svg["time-size"]
    assert "masked, 5 numbers" in svg["bytes-parties"]
    assert all("<dc:date>" not in text for text in svg.values())
    assert max(map(len, svg.values())) < 60_000


@pytest.mark.slow
def test_an_axis_of_less_than_two_decades_has_more_ticks_than_powers_of_ten(table, tmp_path):
    def like(size: int, seconds: float) -> dict[str, Any]:
        case = {**table.results[0]["case"], "size": size}
        return {**table.results[0], "case": case, "key": str(size), "seconds": [seconds] * 3, "networks": {}}

    for slow, ticks in ((0.03, ("5 ms", "10 ms", "20 ms")), (3.0, ("10 ms", "100 ms", "1 s"))):
        drawn = plots.draw(Table.of([like(10, 0.004), like(100, slow)]), tmp_path / str(slow))
        text = drawn[0].read_text()
        assert all(f">{tick}<" in text for tick in ticks), ticks
        assert (">20 ms<" in text) == (slow < 1)


@pytest.mark.slow
def test_results_at_one_size_alone_are_no_plot(table, tmp_path):
    alone = Table.of([{**table.results[0], "networks": {}}])
    with pytest.raises(UsageError, match="there is nothing to draw"):
        plots.draw(alone, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_utility_is_drawn_with_what_is_lost(tmp_path, capsys):
    made = [utility.Utility("wine", 124, None, 1, 0.9), utility.Utility("digits", 1257, None, 1, 0.8)]
    made += [
        utility.Utility(one.data_set, one.rows, eps, 1, one.accuracy - 0.1 / eps)
        for one in made
        for eps in (1.0, 4.0)
    ]
    lines = [json.dumps({"format": 1, **asdict(one)}) for one in made]
    (tmp_path / "utility.jsonl").write_text("\n".join(lines))
    ended = Ended(capsys, "bench", "plot", tmp_path, "--out", tmp_path / "plots")
    assert ended.status == 0
    svg = (tmp_path / "plots" / "utility-epsilon.svg").read_text()
    assert "wine, 124 persons" in svg
    (tmp_path / "utility.jsonl").write_text(json.dumps(asdict(made[0])))
    assert "line 1 has no format" in Ended(capsys, "bench", "plot", tmp_path).err
    (tmp_path / "utility.jsonl").write_text('{"format": 1, "data_set": "wine"}')
    ended = Ended(capsys, "bench", "plot", tmp_path)
    assert ended.status == 2
    assert "expected what secagg bench utility writes" in ended.err
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "found neither" in Ended(capsys, "bench", "plot", empty).err


@pytest.mark.slow
@pytest.mark.parametrize("name", utility.DATA_SETS)
def test_no_person_s_contribution_is_longer_than_the_norm_that_noise_is_made_for(name):
    x, classes = utility.load(name)
    squares = np.einsum("ni,nj->nij", x, x)
    upper = np.triu_indices(x.shape[1])
    lengths = np.linalg.norm(np.concatenate([squares[:, upper[0], upper[1]], x], axis=1), axis=1)
    assert lengths.max() <= 1.5
    assert len(set(classes.tolist())) >= 2


@pytest.mark.parametrize("name", utility.DATA_SETS)
def test_features_are_scaled_by_the_ranges_that_the_description_prints(name, monkeypatch):
    found = getattr(datasets, f"load_{name}")()
    whole, _ = utility.load(name)
    alone = SimpleNamespace(data=found.data[7:8], target=found.target[7:8])
    monkeypatch.setattr(datasets, f"load_{name}", lambda: alone)
    np.testing.assert_array_equal(utility.load(name)[0], whole[7:8])  # no row of the others is read
    if name == "digits":
        assert "pixels in the range 0..16" in found.DESCR
        assert set(utility._RANGES[name]) == {(0, 4 * 16)}
    else:
        printed = re.findall(r"^[^:\n]+: +([\d.]+) +([\d.]+)\b", found.DESCR, re.MULTILINE)
        assert [(float(low), float(high)) for low, high in printed] == [*utility._RANGES[name]]


@pytest.mark.slow
def test_much_epsilon_trains_as_without_noise_and_little_does_not():
    x, classes = utility.load("wine")
    x, classes = x[::2], classes[::2]
    exact, hardly, much = (utility.fitted(x, classes, epsilon) for epsilon in (None, 1e6, 0.1))
    assert np.abs(hardly - exact).max() < 0.1 * np.abs(exact).max()
    assert np.abs(much - exact).max() > 0.5 * np.abs(exact).max()
    with pytest.raises(UsageError, match="expected a data set among"):
        utility.load("mine")


def test_the_gallery_s_cases_are_of_subjects_that_there_are_and_each_once():
    for tiny in (True, False):
        cases = list(gallery.cases(tiny=tiny))
        assert len({case.key for case in cases}) == len(cases)
        assert all(case.name in names()[case.kind] for case in cases)
