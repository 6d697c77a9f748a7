"""Curves are those that the points were made of, and what is extrapolated is labelled."""

from __future__ import annotations

import math

import pytest

from ended import Ended
from secagg.bench import growth
from secagg.bench.case import Case
from secagg.bench.measure import measure
from secagg.bench.subjects import declared_operation
from secagg.bench.table import Table
from secagg.cli.bench_shown import print_growths
from secagg.cli.show import stdout
from secagg.errors import UsageError

SIZES = (100, 200, 400, 800, 1600)


@pytest.mark.parametrize(
    ("terms", "law"),
    [
        (("n",), lambda n: 5 + 3 * n),
        (("n", "n log2 n"), lambda n: 7 + 2 * n * math.log2(n)),
        (("n", "n^2"), lambda n: 40 * n + 0.5 * n * n),
        (("log2 n",), lambda n: 4 + 6 * math.log2(n)),
    ],
    ids=["n", "n log n", "n^2", "log n"],
)
def test_a_curve_follows_the_law_of_its_points_far_beyond_them(terms, law):
    curve = growth.fit(SIZES, [law(n) for n in SIZES])
    assert curve.terms == terms
    assert curve.residual < 1e-9
    assert curve.at(10**9) == pytest.approx(law(10**9), rel=1e-6)


def test_the_residual_is_the_largest_relative_difference():
    values = [10.0 * n for n in SIZES]
    values[2] *= 1.3
    curve = growth.fit(SIZES, values)
    differences = [abs(curve.at(n) / value - 1) for n, value in zip(SIZES, values, strict=True)]
    assert curve.residual == pytest.approx(max(differences))
    assert 0.05 < curve.residual < 0.3


def test_a_curve_is_written_with_three_digits_and_without_powers_of_ten_where_people_read_none():
    assert (
        str(growth.Curve(("n", "n^2"), (49_152.0, 147_456.0, 0.396), 0.0, 9.0))
        == "49,200 + 147,000 n + 0.396 n^2"
    )
    assert str(growth.Curve(("n",), (0.0, 2.5e-5), 0.0, 9.0)) == "2.5e-05 n"


def test_coefficients_are_not_negative():
    curve = growth.fit(SIZES, [3 * n - 250 for n in SIZES])
    assert min(curve.coefficients) >= 0


@pytest.mark.parametrize(
    ("sizes", "values"), [((1, 2), (1, 2)), ((1, 2, 2), (1, 2, 2)), ((0, 1, 2), (1, 2, 3))]
)
def test_points_through_which_no_curve_is_found_are_refused(sizes, values):
    with pytest.raises(UsageError, match="expected"):
        growth.fit(sizes, values)


@pytest.mark.slow
def test_the_measured_bytes_of_a_masked_sum_grow_as_its_clients_and_neighbours_do():
    results = [measure(Case("protocol", "masked", n, 4, repeat=1, networks=())) for n in (4, 8, 12, 16)]
    grown = {one.figure: one for one in growth.growths(Table.of(results), "parties")}
    assert grown["rounds"].curve.at(1e6) == pytest.approx(7)
    assert grown["bytes of a client"].verdict == grown["rounds"].verdict == "equal"
    assert grown["bytes of a client"].curve.residual < 0.01
    assert grown["time of a client"].verdict is None
    assert grown["bytes of a server"].points[0][0] == 4
    declared = results[-1]["declared"]
    for changed, of_rounds, of_bytes in (  # of one run
        ({**declared, "bytes_equal": False}, "equal", "differs"),
        ({**declared, "rounds": declared["rounds"] - 1}, "differs", "equal"),
        ({**declared, "rounds": declared["rounds"] + 1}, "fewer", "equal"),
        ({**declared, "bytes_equal": False, "expected": True}, "equal", "expected"),
        ({}, None, None),
    ):
        others = Table.of([*results[:-1], {**results[-1], "declared": changed}])
        found = {one.figure: one.verdict for one in growth.growths(others, "parties")}
        assert found["rounds"] == of_rounds
        assert found["bytes of a client"] == of_bytes


@pytest.mark.slow
def test_far_sizes_of_an_operation_are_declared_and_not_extrapolated():
    results = [measure(Case("operation", "less", 3, n, 3, repeat=1, networks=())) for n in (100, 200, 300)]
    grown = {one.figure: one for one in growth.growths(Table.of(results), "size")}
    declared = declared_operation("less", 10**9, 3)
    assert grown["rounds"].declared[10**9] == declared.rounds == 9
    assert grown["bytes of a computing party"].declared[10**9] == max(declared.payload_bytes.values())
    assert not grown["time of a computing party"].declared


@pytest.mark.slow
def test_the_command_labels_what_is_extrapolated(capsys, tmp_path):
    command = "bench growth --protocols additive --parties 3,4,6 --sizes 5 --repeat 1 --out"
    page = tmp_path / "costs.md"
    page.write_text("<!-- growth by parties: written by hand -->\n<!-- growth by parties: end -->\n")
    ended = Ended(capsys, *command.split(), tmp_path, "--write", page)
    assert ended.status == 0
    rows = [line.split(" | ") for line in page.read_text().splitlines() if line.startswith("| additive")]
    assert "| additive, size 5: bytes of a client" in [row[0] for row in rows]
    assert all(row[4].startswith("~") or row[4] == "no curve" for row in rows)
    assert "not measured: ~ is extrapolated" in " ".join(ended.out.split())
    assert (
        "~" in next(line for line in ended.out.splitlines() if line.startswith("bytes of a client"))[30:]
        or "~" in ended.out
    )
    few = Ended(capsys, *command.replace("3,4,6", "3,4").split(), tmp_path / "few")
    assert few.status == 2
    assert "expected 3 different numbers or more, through which a curve leads, got 3, 4" in few.err
    assert not (tmp_path / "few").exists()
    refused = Ended(capsys, "bench", "growth", "--protocols", "additive", "--parties", "3", "--out", tmp_path)
    assert refused.status == 2
    assert "three or more numbers for one of --parties and --sizes" in refused.err
    for line in (
        "--operations add --sizes 1,2,3 --parties 7",
        "--protocols additive --parties 3,4,6 --engines 4",
    ):
        refused = Ended(capsys, "bench", "growth", *line.split(), "--out", tmp_path / "few")
        assert refused.status == 2
        assert "means nothing to" in refused.err


@pytest.mark.parametrize(
    ("unit", "residual", "says"), [("B", 0.04, "~"), ("B", 0.06, "no curve"), ("s", 0.4, "~")]
)
def test_a_curve_that_does_not_fit_is_not_extrapolated(capsys, unit, residual, says):
    curve = growth.Curve(("n",), (1.0, 2.0), residual, 20.0)
    one = growth.Growth(
        "sum", "parties", "bytes of an aggregator", unit, ((5, 11.0), (20, 41.0)), curve, "equal", {}
    )
    print_growths(stdout(), [one])
    shown = capsys.readouterr().out
    assert says in shown.split("is extrapolated")[1]
    # On one line of more than 80 characters, though this is no terminal.
    assert shown.splitlines()[-1].startswith("bytes of an aggregator  ")
