"""The decryption log: once for each key and round, whatever dies, races or is restored in between."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from secagg.errors import UsageError
from secagg.he.rlwe.decryption_log import DecryptionLog, Release

KEY = bytes(range(32))


def release(number: int = 0, uploads: int = 5, *, name: bytes = b"set") -> Release:
    hashes = tuple(name + bytes([number, i]) for i in range(uploads))
    return Release(KEY, number, name * 4, 2, hashes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "releases.db"
    with DecryptionLog(file, expected_epoch=0) as record:
        assert record.add_key(KEY, releases=3, blocks=2) == 1
    return file


def reopened(path: Path) -> DecryptionLog:
    return DecryptionLog(path, expected_epoch=0)


def test_the_same_release_again_is_allowed_and_keeps_its_epoch(path: Path) -> None:
    with reopened(path) as record:
        assert [record.record(release(0)), record.record(release(1)), record.record(release(0))] == [2, 3, 2]
    with reopened(path) as record:
        assert record.record(release(1)) == 3
        assert record.epoch == 3


@pytest.mark.parametrize(
    "other",
    [release(uploads=6), release(uploads=4), release(name=b"new")],
    ids=["more uploads", "fewer uploads", "other uploads"],
)
def test_a_round_is_not_decrypted_for_another_set(path: Path, other: Release) -> None:
    other = replace(other, transcript=b"another set")
    with reopened(path) as record:
        record.record(release())
    with reopened(path) as record:
        with pytest.raises(UsageError, match=r"another set: 5 uploads then, \d now"):
            record.record(other)
        assert record.epoch == 2


def test_an_upload_enters_one_opened_sum(path: Path) -> None:
    with reopened(path) as record:
        record.record(release(0))
        again = replace(release(1), uploads=(*release(1).uploads, release(0).uploads[3]))
        with pytest.raises(UsageError, match="decrypted before"):
            record.record(again)
        with pytest.raises(UsageError, match="there twice"):
            record.record(replace(release(1), uploads=release(1).uploads * 2))
        assert record.epoch == 2
        assert record.record(release(1)) == 3


def test_a_key_has_its_agreed_number_of_releases(path: Path) -> None:
    with reopened(path) as record:
        for number in range(3):
            record.record(release(number))
        with pytest.raises(UsageError, match="all 3 agreed releases"):
            record.record(release(3))
        assert record.record(release(2)) == 4  # a resend is no release


def test_a_release_has_at_most_the_agreed_blocks(path: Path) -> None:
    with reopened(path) as record, pytest.raises(UsageError, match="sums of 2 blocks, not 3"):
        record.record(replace(release(), blocks=3))


def test_a_lost_log_opens_nothing(path: Path) -> None:
    path.unlink()
    with reopened(path) as record, pytest.raises(UsageError, match="knows nothing of key"):
        record.record(release())


def test_a_key_is_entered_once(path: Path) -> None:
    with reopened(path) as record:
        before = record.epoch
        assert record.add_key(KEY, releases=3, blocks=2) == before
        with pytest.raises(UsageError, match="for 3 releases of 2 blocks, not 100 of 100"):
            record.add_key(KEY, releases=100, blocks=100)
        with pytest.raises(UsageError, match="at least 1"):
            record.add_key(b"other", releases=0, blocks=1)


def test_an_older_copy_of_the_log_is_refused(path: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup.db"
    shutil.copy(path, backup)
    with reopened(path) as record:
        epoch = record.record(release())
    shutil.copy(backup, path)
    with pytest.raises(UsageError, match="at epoch 1, and 2 was reached"):
        DecryptionLog(path, expected_epoch=epoch)
    path.unlink()
    with pytest.raises(UsageError, match="at epoch 0, and 2 was reached"):
        DecryptionLog(path, expected_epoch=epoch)


def test_an_entry_is_on_the_disk_with_its_directory_before_it_counts(path: Path) -> None:
    # SQLite's own names: 3 is EXTRA, which flushes file and directory within COMMIT; DELETE keeps one journal a commit.
    with DecryptionLog(path, expected_epoch=0) as record:
        asked = ("synchronous", "journal_mode", "fullfsync")
        set_to = [record._db.execute(f"PRAGMA {what}").fetchone()[0] for what in asked]
    assert set_to == [3, "delete", 1]


def test_the_file_is_its_owners_alone(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        reopened(path)


def test_another_file_is_no_log(path: Path, tmp_path: Path) -> None:
    path.write_bytes(b"no database at all, and long enough to have a header" * 10)
    with pytest.raises(UsageError, match="cannot be opened"):
        reopened(path)
    other = tmp_path / "other.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    other.chmod(0o600)
    with pytest.raises(UsageError, match="no decryption log"):
        reopened(other)
    with pytest.raises(UsageError, match="No such file"):
        reopened(tmp_path / "missing" / "releases.db")


def test_nothing_is_released_where_nothing_can_be_written(path: Path) -> None:
    with reopened(path) as record:
        record._db.execute("PRAGMA query_only = ON")
        with pytest.raises(UsageError, match="nothing was released"):
            record.record(release())


KILLED = """
import os, signal, sys
from pathlib import Path
from secagg.he.rlwe.decryption_log import Release, DecryptionLog

path, when = sys.argv[1:]
record = DecryptionLog(Path(path), expected_epoch=0)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

if when == "before":
    record._db.set_trace_callback(lambda statement: die() if statement == "COMMIT" else None)
hashes = tuple(b"set" + bytes([0, i]) for i in range(5))
record.record(Release(bytes(range(32)), 0, b"set" * 4, 2, hashes))
die()
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_around_the_commit_a_holder_has_answered_for_one_set_at_most(path: Path, when: str) -> None:
    child = subprocess.run([sys.executable, "-c", KILLED, str(path), when], check=False)
    assert child.returncode == -signal.SIGKILL
    other = replace(release(uploads=4), transcript=b"another set")
    with reopened(path) as record:
        if when == "before":  # nothing was sent, so any set may still be the one
            assert record.epoch == 1
            assert record.record(other) == 2
        else:
            assert record.epoch == 2
            with pytest.raises(UsageError, match="another set"):
                record.record(other)
            assert record.record(release()) == 2


RACER = """
import sys
from pathlib import Path
from secagg.errors import UsageError
from secagg.he.rlwe.decryption_log import Release, DecryptionLog

path, me = Path(sys.argv[1]), sys.argv[2].encode()
record = DecryptionLog(path, expected_epoch=0)
print("ready", flush=True)
sys.stdin.readline()
won = []
for number in range(40):
    try:
        record.record(Release(b"raced", number, me, 1, (me + bytes([number]),)))
        won.append(number)
    except UsageError as error:
        assert "another set" in str(error), error
print(*won)
"""


@pytest.mark.slow
def test_two_processes_that_race_never_both_win_a_round(tmp_path: Path) -> None:
    path = tmp_path / "raced.db"
    with DecryptionLog(path, expected_epoch=0) as record:
        record.add_key(b"raced", releases=40, blocks=1)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        for name in ("one", "two")
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    won = [racer.communicate("go\n", timeout=60)[0].split() for racer in racers]
    assert all(racer.returncode == 0 for racer in racers)
    assert sorted(int(number) for numbers in won for number in numbers) == list(range(40))
    with reopened(path) as record:
        assert record.epoch == 41
