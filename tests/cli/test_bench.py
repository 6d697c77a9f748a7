"""`secagg bench` on the command line."""

from __future__ import annotations

import json

import pytest

from ended import Ended


@pytest.mark.slow
def test_a_campaign_prints_a_line_a_case_and_writes_three_files(capsys, tmp_path):
    chosen = "--protocols additive --operations multiply --sizes 5,10 --parties 3 --repeat 2 --networks lan"
    command = ["bench", *chosen.split(), "--out", str(tmp_path)]
    first = Ended(capsys, *command)
    assert first.status == 0
    assert sum(line.endswith("  equal") for line in first.out.splitlines()) == 4
    assert "Predicted times on networks" in first.out
    assert "4 cases in" in first.out
    assert {path.name for path in tmp_path.iterdir()} == {
        f"results.{e}" for e in ("jsonl", "csv", "json", "parquet")
    }
    again = Ended(capsys, *command)
    assert again.out.count("(from before)") == 4
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert len(lines) == 4
    kept = [json.loads(line) for line in lines]
    (tmp_path / "results.jsonl").write_text(
        "".join(json.dumps({**one, "where": "else"}) + "\n" for one in kept)
    )
    elsewhere = Ended(capsys, *command)
    assert "holds 4 results of another machine or of other versions" in elsewhere.err
    assert "(from before)" not in elsewhere.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--protocols", "nothing"), "expected protocols among masked"),
        (
            ("--parties", "many", "--protocols", "masked"),
            "expected whole numbers from 1 on with commas between them for --parties, got 'many'",
        ),
        (("--protocols", "masked", "--parties", "10,-3"), "for --parties, got '10,-3'"),
        (("--protocols", "masked", "--sizes", "0"), "for --sizes, got '0'"),
        # The last case is refused before the first one runs.
        (("--protocols", "masked", "--parties", "10,1"), "at least 2 clients"),
        (("--operations", "less", "--engines", "3,5"), "expected 3 or 4 computing parties, got 5"),
        (("--repeat", "0"), "expected repeat from 1 to 1000, got 0"),
        (("--seed", "-1"), "got -1"),
        (("--protocols", "masked", "--frac-bits", "8,99"), "expected frac-bits from 0 to 40, got 99"),
        (("growth", "--protocols", "masked", "--parties", "5,10", "--sizes", "9"), "got 5, 10"),
        (("utility", "--epsilons", "1,0"), "expected epsilons above 0, got 0"),
        (("--networks", "moon"), "expected a network among loopback"),
        (("--patterns", "cox", "--sizes", "100"), "--sizes means nothing to cox; leave it out"),
        (("--protocols", "masked", "--engines", "4"), "--engines means nothing to masked; leave it out"),
        (("--operations", "less", "--parties", "5"), "--parties means nothing to less; leave it out"),
        (("--operations", "less", "--frac-bits", "5"), "--frac-bits means nothing to less; leave it out"),
    ],
)
def test_mistakes_are_told(arguments, says, capsys, tmp_path):
    ended = Ended(capsys, "bench", *arguments, "--out", tmp_path / "new")
    assert ended.status == 2
    assert says in ended.err
    assert ended.out == ""
    assert not (tmp_path / "new").exists()


def test_the_list_names_protocols_operations_patterns_and_networks(capsys):
    shown = Ended(capsys, "bench", "list").out
    assert all(name in shown for name in ("masked", "less", "collectors", "loopback, lan, wan, mobile"))


def test_help_says_that_no_real_data_belong_in_a_benchmark(capsys):
    assert "never give real data to a benchmark" in " ".join(Ended(capsys, "bench", "--help").out.split())
