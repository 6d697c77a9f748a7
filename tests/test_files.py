"""Files that people exchange: bounded when read, whole and new when written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from secagg.errors import UsageError
from secagg.files import read_file, write_file


def test_a_file_up_to_the_bound_is_read_and_a_longer_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_file(tmp_path / "file", what="it", max_bytes=5) == b"12345"
    with pytest.raises(UsageError, match=r"cannot read it .*file: expected at most 4 bytes"):
        read_file(tmp_path / "file", what="it", max_bytes=4)


def test_of_a_long_file_no_more_is_read_than_the_bound(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 42)  # more than any memory
    with pytest.raises(UsageError, match="expected at most 10 bytes"):
        read_file(tmp_path / "sparse", what="it", max_bytes=10)


def test_devices_pipes_and_directories_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, says in (
        (Path("/dev/zero"), "a device or a pipe"),
        (tmp_path / "pipe", "a device or a pipe"),
        (tmp_path, "a directory"),
        (tmp_path / "none", "No such file"),
        (tmp_path / "a\0b", "cannot be the name of a file"),
    ):
        with pytest.raises(UsageError, match=says):
            read_file(path, what="it", max_bytes=10)


def test_a_file_is_written_for_its_owner_alone_and_never_over_another(tmp_path: Path) -> None:
    write_file(tmp_path / "new", b"content", mode=0o600)
    assert (tmp_path / "new").read_bytes() == b"content"
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        write_file(tmp_path / "new", b"other", mode=0o600)
    assert (tmp_path / "new").read_bytes() == b"content"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_where_links_are_not_to_be_had_nothing_is_overwritten_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    write_file(tmp_path / "new", b"content", mode=0o640)
    with pytest.raises(FileExistsError):
        write_file(tmp_path / "new", b"other", mode=0o600)
    assert (tmp_path / "new").read_bytes() == b"content"
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_nothing_is_left_of_a_file_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_file(tmp_path / "new", b"content", mode=0o600)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fails", ["rename", "fsync of the directory"])
def test_a_name_that_was_claimed_is_given_back_where_the_file_cannot_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            full()

    if fails == "rename":
        monkeypatch.setattr(os, "link", full)
        monkeypatch.setattr(os, "rename", full)
    else:
        monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output error"):
        write_file(tmp_path / "new", b"content", mode=0o600)
    assert list(tmp_path.iterdir()) == []
