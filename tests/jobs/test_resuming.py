"""A run that is interrupted goes on, opens nothing twice, and takes nothing that it did not keep itself.

The module is long because one way to crash parties serves every kind of run.
"""

from __future__ import annotations

import datetime
import functools
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from interrupted import Interrupted, make_job, make_tables
from program_runs import strings
from secagg.errors import RefusedError
from secagg.home import Home
from secagg.jobs.checkpoints import CheckpointFolder, Line, folder_key
from secagg.jobs.gates import _refusing
from secagg.jobs.job import Member
from secagg.jobs.plain import decode, encode
from secagg.jobs.resuming import MOST_RESUMED, HeardRuns, HeldRuns, Resuming, decide
from secagg.mpc.arrays import keeping
from secagg.mpc.engines import set_up
from secagg.mpc.groups import XOR
from secagg.network.simulated import Fault, simulate
from secagg.party import Party, Place
from secagg.patterns.counts import factorize
from secagg.patterns.registry import find
from secagg.query.schema import Identifier, Time
from secagg.signing import digest
from uniform import chi_square

COMPUTE = "three"
MOST_CHI_SQUARE = 450.0  # of 255 degrees of freedom: a false alarm in 10**12 arrays
FOUR = "four outside"
PARTLY = "five, three compute"


def interrupted(folder: Path, layout: str = COMPUTE) -> Interrupted:
    job = make_job(layout)
    return Interrupted(job, make_tables(job), folder)


def answer(run: Interrupted) -> Any:
    return run.job.pattern.reference(run.job.parameters, run.job.terms, run.tables)


def crash(victim: str, message: int) -> list[Fault]:
    return [Fault("crash", message, sender=victim)]


@functools.cache
def messages_of(layout: str) -> dict[str, int]:
    """Return how many messages each party sends in a whole run."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = interrupted(Path(folder), layout).start()
    return {
        name: sum(sent.messages for sent in ledger.sent_to.values())
        for name, ledger in outcome.ledgers.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "victim"), [(COMPUTE, "bank_b"), (FOUR, "bank_w"), (PARTLY, "bank_c")])
def test_a_run_that_a_crash_ends_anywhere_goes_on_to_the_same_answer(
    tmp_path: Path, layout: str, victim: str
) -> None:
    sent = messages_of(layout)[victim]
    reached = set()
    for i, share in enumerate((0.0, 0.2, 0.7, 0.99)):
        message = int(share * (sent - 1))
        (tmp_path / str(i)).mkdir()
        run = interrupted(tmp_path / str(i), layout)
        first = run.start(crash(victim, message))
        assert len(first.results) < len(run.job.roster)
        assert run.told(run.start()) == answer(run)
        reached |= set(run.places().values())
        places = set(run.places().values())
        assert len(places) == 1
        # Who goes on from a checkpoint does not read its data again.
        assert message == 0 or len(run.reads) == (2 if places & {"new", "begin"} else 1) * len(run.tables)
    assert {"new", "shuffle"} <= reached or victim == "bank_c"


@pytest.mark.slow
def test_a_run_may_be_interrupted_again_and_again(tmp_path: Path) -> None:
    run = interrupted(tmp_path)
    sent = messages_of(COMPUTE)["bank_a"]
    for message in (sent // 2, sent // 3, 20, sent // 4):
        run.start(crash("bank_a", message))
    assert run.told(run.start()) == answer(run)
    assert run.parts["bank_a"]._resuming is not None
    decision = run.parts["bank_a"]._resuming.decision
    assert decision is not None
    assert decision.resumed == 4


@pytest.mark.slow
def test_a_run_that_begins_again_reads_its_data_anew_and_one_from_a_checkpoint_does_not(
    tmp_path: Path,
) -> None:
    seen = set()
    for message in (12, 18):  # before and after the first checkpoint
        run = interrupted(tmp_path / str(message))
        run.folder.mkdir()
        run.start(crash("bank_a", message))
        held = [run.checkpoints(name).lines()[0] for name in run.job.roster]
        before, kept = answer(run), all(line.places for line in held)
        seen.add(kept)
        run.tables = make_tables(run.job, 9)
        expected = before if kept else answer(run)
        assert before != answer(run)
        assert run.told(run.start()) == expected
        assert all(part.resumes == held[0].first for part in run.parts.values())
    assert seen == {False, True}


@pytest.mark.slow
def test_what_was_opened_is_opened_again_as_it_was_or_not_at_all(tmp_path: Path) -> None:
    """After an opening began, a party that claims to have lost its checkpoint ends the run."""
    run = interrupted(tmp_path)
    whole = messages_of(COMPUTE)["bank_a"]
    run.start(crash("bank_a", whole - 4))
    line = run.checkpoints("bank_a").lines()[0]
    assert line.opened == line.places[-1].step == 5
    folder = tmp_path / "bank_b" / run.job.digest.hex() / line.first.hex()
    lost = next(path for path in folder.iterdir() if path.name.startswith("000005"))
    kept = lost.read_bytes()
    lost.unlink()
    again = run.start()
    assert all(isinstance(error, RefusedError) for error in again.errors.values())
    assert "nothing is computed and opened twice" in str(again.errors["bank_a"])
    lost.parent.mkdir(parents=True, exist_ok=True)
    lost.write_bytes(kept)  # too late: the others have deleted the run
    assert run.told(run.start()) == answer(run)
    assert set(run.places().values()) == {"new"}


def alter(folder: Path, how: str, other: Path) -> None:
    """Alter every checkpoint of shares in a folder."""
    for path in folder.rglob("0*.checkpoint"):
        content = bytearray(path.read_bytes())
        if how == "a bit":
            content[-40] ^= 1
        elif how == "its end":
            del content[-40:]
        elif how == "its header":
            content[60] ^= 1
        elif how == "another party's":
            content = bytearray((other / path.relative_to(folder)).read_bytes())
        path.write_bytes(bytes(content))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["a bit", "its end", "its header", "another party's"])
def test_a_checkpoint_that_is_not_what_the_party_kept_is_passed_over(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = interrupted(tmp_path)
    run.start(crash("bank_a", messages_of(COMPUTE)["bank_a"] // 2))
    alter(tmp_path / "bank_b", how, tmp_path / "bank_c")
    assert run.told(run.start()) == answer(run)
    assert set(run.places().values()) == {"begin"}
    assert "a checkpoint is not used" in caplog.text


@pytest.mark.slow
def test_a_half_written_checkpoint_and_one_of_another_run_are_not_seen(tmp_path: Path) -> None:
    run = interrupted(tmp_path)
    run.start(crash("bank_a", messages_of(COMPUTE)["bank_a"] // 2))
    folder = run.checkpoints("bank_a")
    (line,) = folder.lines()
    at = tmp_path / "bank_a" / run.job.digest.hex() / line.first.hex()
    (at / ".000009-half.0123").write_bytes(b"secagg checkpoint 1\n")
    moved = at.with_name((b"x" * 32).hex())
    at.rename(moved)
    assert folder.lines() == []
    moved.rename(at)
    assert folder.lines() == [line]
    # The same key does not make another party's, or another job's, of it.
    home, key = tmp_path / "bank_a", folder_key(tmp_path / "bank_a")
    assert CheckpointFolder(home, key, job=run.job.digest, me="bank_b").lines() == []
    other = b"j" * 32
    at.parent.rename(home / other.hex())
    assert CheckpointFolder(home, key, job=other, me="bank_a").lines() == []


def test_parties_take_the_latest_checkpoint_of_one_session_that_all_who_compute_have() -> None:
    def place(step: int, session: bytes, root: bytes = b"r" * 32) -> Place:
        return Place(step, "m", session * 32, root)

    def line(*places: Place, opened: int = 0, resumed: int = 0, first: bytes = b"f" * 32) -> Line:
        return Line(first, places, opened, resumed)

    outside = line(Place(1, "share", b"r" * 32, b"r" * 32))
    held = {
        "a": [line(place(2, b"s"), place(3, b"s"))],
        "b": [line(place(2, b"s"), place(3, b"t"))],
        "out": [outside],
    }
    assert decide(held, ("a", "b")).place == place(2, b"s")
    # An owner outside that shared in another session has other data there.
    held["out"] = [line(Place(1, "share", b"q" * 32, b"q" * 32))]
    assert decide(held, ("a", "b")).place is None
    assert decide({**held, "out": []}, ("a", "b")).first is None
    held = {"a": [line(place(2, b"s"))], "b": [line(place(2, b"s"), resumed=7)]}
    assert decide(held, ("a", "b")).resumed == 8


@pytest.mark.slow
def test_a_party_that_tells_two_others_different_checkpoints_ends_the_run(tmp_path: Path) -> None:
    run = interrupted(tmp_path)
    run.start(crash("bank_a", messages_of(COMPUTE)["bank_a"] // 2))

    async def lies(party: Party) -> Any:
        told = {}
        for peer in party.others:
            lines = run.checkpoints("bank_b").lines() if peer == "bank_a" else []
            mine = [[x.first, [[p.step, p.mark, p.session, p.root] for p in x.places], 0, 0] for x in lines]
            told[peer] = HeldRuns(msgspec.msgpack.encode(mine))
            party.send(peer, told[peer])
        theirs = await party.gather(HeldRuns, party.others)
        for peer in party.others:
            said = {**theirs, "bank_b": told[peer]}
            words = [part for name in party.roster for part in (name.encode(), said[name].lines)]
            party.send(peer, HeardRuns(digest("secagg.jobs.resuming", [party.session, *words])))
        await party.gather(HeardRuns, party.others)

    outcome = run.start(altered={"bank_b": lies})
    assert any("was told of other checkpoints" in str(outcome.errors[name]) for name in ("bank_a", "bank_c"))


@pytest.mark.slow
def test_a_run_goes_on_no_more_often_than_allowed(tmp_path: Path) -> None:
    run = interrupted(tmp_path)
    run.start(crash("bank_a", messages_of(COMPUTE)["bank_a"] // 2))
    folder = run.checkpoints("bank_c")
    folder.resume(folder.lines()[0].first, 99, MOST_RESUMED)
    outcome = run.start()
    assert all("times already" in str(error) for error in outcome.errors.values())
    assert folder.lines() == []
    assert run.checkpoints("bank_a").lines()  # by its own count alone does a party delete


@pytest.mark.slow
def test_a_peer_s_claims_about_its_notes_delete_nobody_else_s_checkpoints(tmp_path: Path) -> None:
    run = interrupted(tmp_path)
    run.start(crash("bank_a", messages_of(COMPUTE)["bank_a"] // 2))
    folder = run.checkpoints("bank_b")
    place = folder.lines()[0].places[-1]
    folder.note_opening(folder.lines()[0].first, replace(place, step=99))
    outcome = run.start()
    assert isinstance(outcome.errors["bank_b"], RefusedError)
    assert folder.lines() == []
    assert run.checkpoints("bank_a").lines()
    assert run.told(run.start()) == answer(run)


def test_an_error_that_comes_again_deletes_the_checkpoints_and_a_missing_peer_does_not(
    tmp_path: Path,
) -> None:
    run = interrupted(tmp_path)
    run.start(crash("bank_a", messages_of(COMPUTE)["bank_a"] // 2))
    resuming = Resuming(run.checkpoints("bank_b"), run.job)
    assert resuming.holds
    resuming.failed(KeyboardInterrupt())
    assert resuming.kept
    assert Resuming(run.checkpoints("bank_b"), run.job).holds
    home = Home.create(tmp_path / "home")
    at_hand: Any = SimpleNamespace(me="bank_b")
    with (
        pytest.raises(RefusedError, match="nothing was done") as refused,
        _refusing(at_hand, resuming),
        home.transaction() as connection,
    ):
        connection.execute("INSERT INTO nowhere VALUES (1)")
    resuming.failed(refused.value)
    assert resuming.kept
    resuming.failed(RefusedError("no"))
    assert not resuming.kept
    assert not Resuming(run.checkpoints("bank_b"), run.job).holds


@pytest.mark.slow
def test_no_name_or_amount_stands_in_a_checkpoint(tmp_path: Path) -> None:
    run = interrupted(tmp_path)
    run.start(crash("bank_a", messages_of(COMPUTE)["bank_a"] // 2))
    files = list(tmp_path.rglob("*.checkpoint"))
    assert len(files) >= 6
    names = {name.encode() for held in run.tables.values() for name in held["transfers"]["sender"]}
    for path in files:
        assert path.stat().st_mode & 0o077 == 0
        content = path.read_bytes()
        assert not [name for name in names if name in content]


@pytest.mark.slow
def test_a_pattern_that_keeps_no_checkpoints_never_runs_twice_under_one_approval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it opened could otherwise be opened again, for other data of a party that lies."""
    run = interrupted(tmp_path)
    monkeypatch.setattr(type(run.job.pattern), "keeps_checkpoints", False)
    run.start(crash("bank_a", messages_of(COMPUTE)["bank_a"] // 2))
    assert run.checkpoints("bank_b").lines() == []
    assert run.told(run.start()) == answer(run)
    assert set(run.places().values()) == {"new"}


@pytest.mark.parametrize("parties", [3, 4])
def test_fresh_shares_are_of_the_same_secret_and_independent_of_the_old_ones(parties: int) -> None:
    names = tuple("abcd"[:parties])
    secret = np.arange(4096, dtype=np.uint64)
    old: dict[str, Any] = {}

    async def share(party: Party) -> Any:
        engine = await set_up(party, names)
        old[party.me] = (
            await engine.input(XOR, "a", secret.shape, secret if party.me == "a" else None)
        ).parts

    async def go_on(party: Party) -> Any:
        engine = await set_up(party, names)
        (fresh,) = await engine.refresh([(XOR, old[party.me])])  # type: ignore[attr-defined]
        return fresh.parts, await engine.open(fresh)

    simulate(dict.fromkeys(names, share)).values()
    for name, (parts, opened) in zip(names, simulate(dict.fromkeys(names, go_on)).values(), strict=True):
        np.testing.assert_array_equal(opened, secret)
        # Seen together, old and new shares of one party are uniform: what is added is uniform, given the old ones.
        for seen in (*parts, *(before ^ after for before, after in zip(old[name], parts, strict=True))):
            assert chi_square(seen) < MOST_CHI_SQUARE


def test_one_of_four_that_goes_on_with_other_shares_is_named() -> None:
    names = tuple("abcd")
    kept: dict[str, Any] = {}

    async def share(party: Party) -> Any:
        engine = await set_up(party, names)
        x = await engine.input(XOR, "a", (8,), np.arange(8, dtype=np.uint64) if party.me == "a" else None)
        kept[party.me] = [part.copy() for part in x.parts]

    async def go_on(party: Party) -> Any:
        engine = await set_up(party, names)
        await engine.refresh([(XOR, kept[party.me])])  # type: ignore[attr-defined]

    simulate(dict.fromkeys(names, share)).values()
    kept["c"][0] ^= np.uint64(1)
    outcome = simulate(dict.fromkeys(names, go_on))
    assert any("c lied: it goes on with other shares" in str(error) for error in outcome.errors.values())
    assert not any("b lied" in str(error) for name, error in outcome.errors.items() if name != "c")


def test_tables_and_results_come_back_from_bytes_as_they_were() -> None:
    names = np.array(["a", "b\0", "a"], object)
    content: Mapping[str, Any] = {
        "names": names,
        "numbered": factorize(names),
        "some": np.ma.MaskedArray([1, 2], [True, False]),
        "rows": [("x", Decimal("1.50"), datetime.date(2026, 1, 1), None, 1 << 70)],
        "at": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        "words": np.arange(6, dtype="<u8").reshape(2, 3),
    }
    found = decode(encode(content))
    assert found["rows"] == content["rows"]
    assert found["at"] == content["at"]
    assert found["names"].tolist() == names.tolist()
    assert list(found["numbered"]) == names.tolist()
    assert found["some"].mask.tolist() == [True, False]
    np.testing.assert_array_equal(found["words"], content["words"])
    with pytest.raises(ValueError, match="expected plain data"):
        encode({"x": object()})


VELOCITY_ROWS = 4


def programs(folder: Path, computing: str) -> Interrupted:
    """Return a job of a pattern that sorts: bursts of payments over all banks."""
    banks, outside = ("bank_a", "bank_b"), tuple(f"bank_{letter}" for letter in computing)
    installed = find("velocity")
    job = replace(
        make_job(COMPUTE),
        installed=installed,
        parameters=installed.pattern.Parameters(),
        max_rows=VELOCITY_ROWS,
        roles={"input": banks, "computing": outside},
        members=tuple(Member(name, ("127.0.0.1", 1), None) for name in dict.fromkeys((*banks, *outside))),
    )
    rng = np.random.default_rng(3)
    columns = {
        name: {
            table: {
                column: strings([f"c{i}" for i in rng.integers(0, 3, VELOCITY_ROWS)])
                if isinstance(kind, Identifier)
                else np.sort(rng.integers(0, 9, VELOCITY_ROWS)).astype(float)
                if isinstance(kind, Time)
                else rng.integers(1, 10**6, VELOCITY_ROWS)
                for column, kind in schema.items()
            }
            for table, schema in installed.pattern.inputs.items()
        }
        for name in banks
    }
    return Interrupted(job, columns, folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("computing", "shares"),
    [
        ("abx", (0.15, 0.4, 0.7, 0.97)),
        (
            "wxyz",
            (0.15, 0.97),
        ),  # where four compute, a run takes four times as long; both kinds of checkpoint are reached
    ],
)
def test_programs_on_shared_arrays_go_on_between_their_openings_and_after_large_steps(
    tmp_path: Path, computing: str, shares: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(keeping.Stages.__init__.__kwdefaults__, "many", 40)  # type: ignore[arg-type]
    whole = programs(tmp_path, computing)
    outcome = whole.start()
    expected = whole.told(outcome)
    victim = f"bank_{computing[-1]}"
    sent = sum(x.messages for x in outcome.ledgers[victim].sent_to.values())
    reached = set()
    for i, share in enumerate(shares):
        (tmp_path / str(i)).mkdir()
        run = programs(tmp_path / str(i), computing)
        run.start(crash(victim, int(share * sent)))
        assert run.told(run.start()) == expected
        resuming = run.parts[victim]._resuming
        assert resuming is not None
        assert resuming.decision is not None
        if resuming.decision.place is not None:
            reached.add((resuming.decision.place.mark, resuming.decision.place.step > 2))
    assert {"share", "compute"} <= {mark for mark, _ in reached}
    assert any(behind_a_large_step for _, behind_a_large_step in reached)
