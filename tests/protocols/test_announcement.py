"""Everybody is told the same once, before anything depends on it; commitments can be opened to an auditor later."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

import numpy as np
import pytest

import transcripts
from blame import blamed
from secagg.errors import AbortedError, PlanError, RangeError, RemoteProtocolError, UsageError
from secagg.network.simulated import simulate
from secagg.protocols.group_by import (
    Field,
    Layout,
    Query,
    Rows,
    announce,
    commitment,
    find_groups,
    program,
)
from secagg.protocols.group_by.announcement import Announcement, Heard, _digest
from secagg.protocols.pseudonyms import HashKeyPart, agree_hash_key
from secagg.protocols.row_counts import MAX_ROWS

FIELDS = (Field("n", 5, at_least=2), Field("m", 2**40, opened=False))
SALT = bytes(range(32))
DIGEST = bytes(range(1, 33))


def table(names, value=1) -> Rows:
    listed = [*names]
    return Rows(np.array([*listed, None], object)[:-1], np.full((len(listed), 2), value, np.uint64))


def run(query: Query, tables: dict[str, Any], altered: dict[str, Any] | None = None, **options: Any):
    """Run `find_groups` everywhere but at the parties that `altered` gives programs of their own."""
    names = dict.fromkeys((*query.input_parties, *query.computing_parties))
    programs = {n: partial(find_groups, query=query, rows=tables.get(n)) for n in names}
    return simulate({n: (altered or {}).get(n, p) for n, p in programs.items()}, **options)


def query_of(banks="AB", computing="xyz", **options: Any) -> Query:
    a, b, c = computing
    return Query(tuple(banks), (a, b, c), FIELDS, **options)


def tells(query: Query, told: dict[str, tuple[int, bytes, bytes]], *, lies: bool = False):
    """Return the program of an input party that announces to each party what `told` says, and to "" all others.

    It tells each party that it heard what this party heard; if it lies, something else of everybody.
    """

    async def altered(party):
        mine = {}
        for peer in party.others:
            count, salt, contribution = told.get(peer, told[""])
            mine[peer] = Announcement(
                count, commitment(table("m"), salt, session=party.session, owner=party.me), contribution
            )
            party.send(peer, mine[peer])
        heard = await party.gather(Announcement, [p for p in query.input_parties if p != party.me])
        for peer in party.others:
            announced = heard | {party.me: mine[peer]}
            digests = [_digest(party.session, n, announced[n]) for n in query.input_parties]
            party.send(peer, Heard((bytes(32),) * len(digests) if lies else tuple(digests)))
        await party.gather(Heard, party.others)
        await party.gather(HashKeyPart, [p for p in query.input_parties if p != party.me])

    return altered


# Commitments.

SESSION = b"s" * 32


def committed(rows: Rows, salt: bytes = SALT, *, session: bytes = SESSION, owner: str = "bank") -> bytes:
    return commitment(rows, salt, session=session, owner=owner)


def test_a_commitment_is_the_hash_that_its_description_says():
    rows = Rows(
        np.array(["b", "", "ü"], object), np.arange(6, dtype=np.uint64).reshape(3, 2) << np.uint64(33)
    )
    parts = [b"secagg", b"secagg.protocols.group_by/rows", SESSION, b"bank", SALT, "b\0\0ü\0".encode()]
    parts.append(b"".join(int(v).to_bytes(8, "little") for v in rows.values.reshape(-1)))
    whole = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    assert committed(rows) == hashlib.sha256(whole).digest()


def test_a_commitment_depends_on_salt_identifiers_values_and_number_of_rows():
    variants = [
        (table("ab"), SALT), (table("ab"), bytes(32)), (table("ac"), SALT), (table("ba"), SALT), (table("ab", 2), SALT),
        (table("a"), SALT), (table(["ab"]), SALT), (table([]), SALT), (table([""]), SALT),
    ]  # fmt: skip
    digests = {committed(rows, salt) for rows, salt in variants}
    digests.add(committed(table("ab"), session=bytes(32)))
    digests.add(committed(table("ab"), owner="other"))
    assert len(digests) == len(variants) + 2


def test_rows_in_any_order_are_committed_to_alike_once_they_stand_by_identifier():
    names = ["b", "a", "Ä", "aa", "\U0001f600", "\uffee", ""]
    one = Rows(np.array(names, object), np.arange(14, dtype=np.uint64).reshape(7, 2))
    order = np.random.default_rng(1).permutation(7)
    other = Rows(one.identifiers[order], one.values[order])
    assert committed(one) != committed(other)
    assert committed(one.by_identifier()) == committed(other.by_identifier())
    assert one.by_identifier().identifiers.tolist() == sorted(names, key=str.encode)


def test_salts_of_another_length_and_texts_that_cannot_be_committed_to_are_refused():
    with pytest.raises(UsageError, match="salt of 32 bytes"):
        committed(table("a"), bytes(31))
    for text in ("a\0b", "\ud800"):
        with pytest.raises(UsageError):
            committed(table([text]))


def test_everybody_holds_the_same_and_each_owner_alone_its_salt():
    query = query_of("ABC", "Axy")
    tables = {"A": table("abc"), "B": table(""), "C": table("xy")}

    async def part(party):
        return party.session, await announce(party, query, tables.get(party.me))

    for _ in range(2):
        outcome = simulate(dict.fromkeys("ABCxy", part), record=True)
        session = outcome.values()[0][0]
        told = dict(zip("ABCxy", (announced for _, announced in outcome.values()), strict=True))
        frames = b"".join(frame for *_, frame in outcome.transcript)
        for name, announced in told.items():
            assert announced.counts == {"A": 3, "B": 0, "C": 2}
            assert announced.commitments == told["x"].commitments
            assert announced.contributions == told["x"].contributions
            assert bool(announced.salt) == bool(announced.contribution) == (name in tables)
        for name, rows in tables.items():
            assert told[name].rows is rows
            opened = commitment(rows, told[name].salt, session=session, owner=name)
            assert opened == told["x"].commitments[name]
            assert told[name].salt not in frames
            assert told[name].contribution not in frames
            assert told[name].salt.hex() not in repr(told[name])
        assert len({told[n].salt for n in "ABC"} | {told[n].contribution for n in "ABC"}) == 6


def test_an_input_party_announces_once_and_computes_on_what_it_announced():
    query = query_of()
    outcome = run(query, {"A": table("abc"), "B": table("cd")}, record=True)
    outcome.values()
    messages = [m for m in transcripts.sent(outcome.transcript) if isinstance(m.message, Announcement)]
    assert sorted((m.sender, m.receiver) for m in messages) == [
        (a, b) for a in "AB" for b in "ABxyz" if a != b
    ]


# What is refused.


@pytest.mark.parametrize(
    ("count", "options", "says"),
    [
        (10**9, {}, f"0 to {MAX_ROWS}"),
        (101, {"max_rows": 100}, "0 to 100 "),
        (-5, {}, "got -5"),
        (2**63, {}, "got 9223372036854775808"),
        (10, {"pad_rows_to": 64}, "a multiple of 64"),
    ],
)
def test_a_row_count_that_does_not_fit_is_refused_before_anything_is_made_of_it(
    monkeypatch, count, options, says
):
    def plan(*_):
        raise AssertionError("a layout was made of a count that does not fit")

    monkeypatch.setattr(Layout, "plan", plan)
    query = query_of(**options)
    outcome = run(query, {"A": table("a")}, {"B": tells(query, {"": (count, SALT, DIGEST)})})
    for name in "Axyz":
        error = outcome.errors[name]
        assert isinstance(error, RemoteProtocolError | AbortedError)
        assert blamed(error) == "B"
        assert "row count from B" in str(error)
        assert says in str(error)


@pytest.mark.parametrize("lengths", [(31, 32), (32, 0)])
def test_commitments_and_digests_of_another_length_name_their_sender(lengths):
    query = query_of()

    async def short(party):
        party.broadcast(Announcement(1, bytes(lengths[0]), bytes(lengths[1])))
        await party.gather(Heard, party.others)

    outcome = run(query, {"A": table("a")}, {"B": short})
    assert {blamed(outcome.errors[n]) for n in "Axyz"} == {"B"}


def test_ones_own_rows_above_max_rows_are_refused_without_telling_the_others_how_many():
    query = query_of(pad_rows_to=64, max_rows=100)
    outcome = run(query, {"A": table(f"n{i}" for i in range(65)), "B": table("b")})
    assert isinstance(outcome.errors["A"], RangeError)
    assert "65 rows, announced as 128, are more than the agreed max_rows of 100" in str(outcome.errors["A"])
    assert all("65" not in str(outcome.errors[n]) and "128" not in str(outcome.errors[n]) for n in "Bxyz")


def test_max_rows_leaves_room_for_one_announcement_and_bounds_the_whole_table():
    with pytest.raises(PlanError, match="max_rows of at least pad_rows_to, which is 64, got 63"):
        query_of(pad_rows_to=64, max_rows=63)
    many = Query(tuple(f"b{i}" for i in range(255)), ("x", "y", "z"), FIELDS)
    assert many.row_limit * 255 < 2**31 < MAX_ROWS * 255
    assert query_of(max_rows=2**40).row_limit == 2**30 - 1


# Who told different things.


@pytest.mark.parametrize(
    "other",
    [(5000, SALT, DIGEST), (10, bytes(32), DIGEST), (10, SALT, bytes(32))],
    ids=["another count", "another commitment", "another contribution"],
)
@pytest.mark.parametrize("whom", ["x", "z"])
def test_who_tells_different_things_to_two_is_named_where_it_stands_against_a_computing_party(whom, other):
    query = query_of()
    outcome = run(query, {"A": table("a")}, {"B": tells(query, {whom: other, "": (10, SALT, DIGEST)})})
    assert not outcome.results
    errors = {n: outcome.errors[n] for n in "Axyz"}
    assert {blamed(e) for e in errors.values()} == {"B"}
    assert all("announced something else" in str(e) for e in errors.values())


def test_an_input_party_that_was_told_something_else_than_all_computing_parties_names_who_told_it():
    query = query_of()
    outcome = run(
        query, {"A": table("a")}, {"B": tells(query, {"A": (5000, SALT, DIGEST), "": (10, SALT, DIGEST)})}
    )
    assert blamed(outcome.errors["A"]) == "B" or isinstance(outcome.errors["A"], AbortedError)
    # To the others A's word stands against B's.
    assert all("B" in str(outcome.errors[n]) and "A" in str(outcome.errors[n]) for n in "xyz")


def test_input_parties_that_lie_together_do_not_have_another_one_named():
    """A and B say that H announced something else to them; all else agrees, and one of the three lies."""
    query = query_of("ABHK")

    async def liar(party):
        mine = Announcement(1, commitment(table("m"), SALT, session=party.session, owner=party.me), DIGEST)
        party.broadcast(mine)
        heard = await party.gather(Announcement, [p for p in query.input_parties if p != party.me])
        heard[party.me] = mine
        digests = [_digest(party.session, name, heard[name]) for name in query.input_parties]
        digests[query.input_parties.index("H")] = bytes(32)
        party.broadcast(Heard(tuple(digests)))
        await party.gather(Heard, party.others)

    outcome = run(query, {"H": table("v"), "K": table("v")}, {"A": liar, "B": liar})
    for name in "HKxyz":
        error = outcome.errors[name]
        assert error.peer != "H"
        if type(error) is RemoteProtocolError and name != "H":
            assert (error.peer, "cannot know which" in str(error)) == ("", True)


def test_what_is_compared_depends_on_session_announcer_and_all_that_is_announced():
    one, other = bytes(32), bytes(31) + b"\1"
    digests = [
        _digest(one, "A", Announcement(1, one, one)),
        _digest(other, "A", Announcement(1, one, one)),
        _digest(one, "B", Announcement(1, one, one)),
        _digest(one, "A", Announcement(2, one, one)),
        _digest(one, "A", Announcement(1, other, one)),
        _digest(one, "A", Announcement(1, one, other)),
    ]
    assert len(set(digests)) == 6


def test_where_a_word_stands_against_a_word_both_are_named_and_nobody_is_blamed():
    query = query_of("AB", "ABx")
    outcome = run(
        query, {"A": table("a")}, {"B": tells(query, {"A": (5000, SALT, DIGEST), "": (10, SALT, DIGEST)})}
    )
    error = outcome.errors["x"]
    assert isinstance(error, RemoteProtocolError | AbortedError)
    first = next(e for e in outcome.errors.values() if type(e) is RemoteProtocolError)
    assert first.peer == ""
    assert "cannot know which" in str(first)
    assert "B told different things" in str(first)
    # Who was told is told of nobody but who ended the run.
    assert {e.accused if isinstance(e, AbortedError) else e.peer for e in outcome.errors.values()} == {""}


def test_who_says_to_have_been_told_something_else_than_everybody_is_named_by_the_announcer_and_the_others():
    query = query_of("ABC", "xyz")
    tables = {"A": table("a"), "B": table("b")}
    altered = {"C": tells(query, {"": (1, SALT, DIGEST)}, lies=True)}
    outcome = run(query, tables, altered)
    assert {blamed(outcome.errors[n]) for n in "ABxyz"} == {"C"}


def test_digests_for_another_number_of_parties_name_their_sender():
    query = query_of()

    async def helper(party):
        await party.gather(Announcement, query.input_parties)
        party.broadcast(Heard((bytes(32),)))
        await party.gather(Heard, party.others)

    outcome = run(query, {"A": table("a"), "B": table("b")}, {"z": helper})
    assert {blamed(outcome.errors[n]) for n in "ABxy"} == {"z"}


def test_two_contributions_to_the_hash_key_end_the_run_and_do_not_make_findings_vanish(monkeypatch):
    agree = agree_hash_key

    async def agree_differently(party, contribution, announced, **waiting):
        if party.me != "C":
            return await agree(party, contribution, announced, **waiting)
        party.send("A", HashKeyPart(contribution))
        party.send("B", HashKeyPart(bytes(32)))
        return (await party.gather(HashKeyPart, ["A", "B"])) and bytes(32)

    monkeypatch.setattr(program, "agree_hash_key", agree_differently)
    outcome = run(query_of("ABC"), {n: table("abc", 5) for n in "ABC"})
    assert not outcome.results
    assert outcome.errors["B"].peer == "C"
    assert all(isinstance(outcome.errors[name], AbortedError) for name in "Axyz")  # whoever told them first


def test_roles_and_rows_have_to_fit():
    query = query_of()
    for name, rows in (("A", None), ("x", table("a"))):
        outcome = run(query, {"A": table("a"), "B": table("b")} | {name: rows})
        assert isinstance(outcome.errors[name], UsageError)
        assert "expected rows from input parties and nobody else" in str(outcome.errors[name])
