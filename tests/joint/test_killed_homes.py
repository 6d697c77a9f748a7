"""Four organisations with homes run an approved job as processes; one is killed or has no room, and all start again."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ended import Ended
from killed import Organisations
from members import Members
from ports import reserved_ports
from secagg.jobs.job_file import load_job
from secagg.joint.budget.book import ALL, Book, Grant

pytestmark = pytest.mark.slow

NAMES = ("north", "south", "east", "west")
TAIL = (
    """
[agreement]
author = "south/carl"
until = 2999-12-31
[timeouts]
connect_s = 60
silence_s = 30
message_s = 30
"""
    + "".join(f'[[parties]]\nname = "{name}"\n' for name in NAMES)
    + """
[roles]
input = ["north", "south"]
computing = ["north", "south", "east", "west"]
"""
)
QUERY = (
    'name = "moved"\nsql = "query.sql"\ntables = "tables.toml"\npad_rows_to = 4\n'
    + TAIL
    + ('result = ["west"]\n[rules]\nnorth = "north.toml"\nsouth = "south.toml"\n')
)
TABLES = """
[tables.moves]
holders = ["north", "south"]
max_rows = 30
keys = [["id"]]
[tables.moves.columns]
id = "identifier"
who = "identifier"
channel = {type = "category", values = ["card", "wire"]}
amount = {type = "money", max = 1000}
"""
RULES = """
owner = "{}"
[tables.moves]
smallest_group = 2
[tables.moves.columns]
id = {{uses = ["join"]}}
who = {{uses = ["join"]}}
channel = {{uses = ["group"]}}
amount = {{uses = ["aggregate"]}}
"""
SQL = "SELECT channel, SUM(amount) AS total FROM moves GROUP BY channel"
PROGRAM = 'name = "fast"\npattern = "velocity"\nmax_rows = 10\n' + TAIL
MOVES = {
    "north": ["n1,a,card,1.50", "n2,b,card,2.25", "n3,c,wire,9.00"],
    "south": ["s1,a,card,10.00", "s2,d,card,20.00", "s3,e,wire,1.00", "s4,b,card,3.00"],
}
USES = {"north": ["d1,10", "d2,20", "d3,30"], "south": ["d1,15", "d2,9000000", "d4,1"]}


def organised(folder: Path, ports: list[int], what: str) -> Organisations:
    """Return four organisations that have approved one run of a query under rules, or of a program."""
    members = Members.made(folder, NAMES, ports=ports)
    rows, header = (MOVES, "id,who,channel,amount") if what == "query" else (USES, "instrument,time")
    (folder / "job.toml").write_text(QUERY if what == "query" else PROGRAM)
    (folder / "query.sql").write_text(SQL)
    (folder / "tables.toml").write_text(TABLES)
    for name in rows:
        (folder / f"{name}.toml").write_text(RULES.format(name))
        (folder / f"{name}.csv").write_text("\n".join([header, *rows[name], ""]))
    job = load_job(folder / "job.toml", known=members.consortium("north").directory())
    for name in ("north", "south"):
        members.approve(job, name, "anna", "carl")
        with members.homes[name].transaction() as connection:
            Book.read(connection, members.homes[name]).grant(Grant(ALL, ALL, runs=1))
    return Organisations(
        members, folder / "job.toml", job, {name: [str(folder / f"{name}.csv")] for name in rows}
    )


@pytest.fixture
def ports() -> Iterator[list[int]]:
    with reserved_ports(len(NAMES)) as found:
        yield found


def check_once(organisations: Organisations, results: dict[str, str]) -> None:
    """Check that all have what a run that nothing disturbed gives, and that it counts as one run everywhere."""
    told = {name: "\n".join(sorted(text.splitlines())) for name, text in organisations.results().items()}
    assert told == results
    for name in NAMES:
        assert organisations.counts(name) == (1, int(name in organisations.tables))
        assert organisations.complete(name) == 1
        assert not list(organisations.members.homes[name].path.rglob("*.checkpoint"))


TOTALS = {"west": "card,36.75\nchannel,total\nwire,10.00"}
FLAGGED = dict.fromkeys(("north", "south"), "d1,2\ninstrument,organisations")


@pytest.mark.parametrize(
    ("what", "kills", "results"),
    [
        ("query", {"south": "begun", "north": "opened"}, TOTALS),
        ("program", {"west": "2"}, FLAGGED),
    ],
)
def test_whoever_is_killed_in_whatever_phase_the_run_ends_as_one_run(
    tmp_path: Path, ports: list[int], what: str, kills: dict[str, str], results: dict[str, str]
) -> None:
    organisations = organised(tmp_path, ports, what)
    for name, at in kills.items():
        organisations.start()
        assert organisations.kill_when(name, at)
        assert all(
            f"{name} " in said for other, said in organisations.said_at_last().items() if other != name
        )
    organisations.start()
    assert set(organisations.ended().values()) == {0}, organisations.said_at_last()
    check_once(organisations, results)


def test_a_disk_that_fills_during_a_run_costs_nothing_but_another_start(
    tmp_path: Path, ports: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    organisations = organised(tmp_path, ports, "query")
    disk = organisations.members.homes["west"].checkpoints
    disk.mkdir(exist_ok=True)
    with small_disk(disk) as resize:
        organisations.start()
        assert set(organisations.ended().values()) == {1, 2}, organisations.said_at_last()
        said = organisations.said_at_last()
        assert "No space left on device; make room, and start again: the run goes on" in said["west"]
        assert "west ended the run: it cannot write what it must to its disk" in said["north"]
        assert organisations.counts("north") == (1, 1)
        resize("10m")
        organisations.start()
        assert set(organisations.ended().values()) == {0}, organisations.said_at_last()
        check_once(organisations, TOTALS)
    # Another start is refused for what cannot be mended, and not for the results that are there.
    home, out = organisations.members.homes["west"].path, organisations.out("west")
    ended = Ended(capsys, "run", organisations.file, "--home", home, "--out", out)
    assert (ended.status, "moved has run 1 times and was approved for 1" in ended.err) == (2, True), ended.err


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[Callable[[str], None]]:
    """Put a disk of five pages at a place; yield what makes it larger."""
    options = ["-t", "tmpfs", "-o", "size=20k,mode=700", "tmpfs", str(place)]
    made = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"a small disk needs the right to mount one: {made.stderr.strip()}")

    def resize(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", str(place)], check=True)
