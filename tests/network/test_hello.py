"""What parties say before the program is checked field by field, and commitments and sessions bind all of it."""

from __future__ import annotations

import hashlib
import struct

import msgspec
import pytest

from secagg.errors import AuthenticationError, DataError, JobError, RemoteProtocolError, WireError
from secagg.network.hello import (
    MAX_REASON,
    Hello,
    Nonce,
    Session,
    State,
    abort_frame,
    check_hello,
    check_nonce,
    check_session,
    decode_greeting,
    derive_session,
    heard_digest,
    nonce_commitment,
    read_abort,
)
from secagg.wire import PREFIX, VERSION, FrameType, Message, encode_control

ROSTER = ("a", "b", "c")
MINE = Hello("1.0", "a", ["a", "b"], bytes(32), bytes(32), {"query": bytes(16)})
THEIRS = Hello("1.0", "b", ["a", "b"], bytes(32), b"\1" * 32, {"query": bytes(16)})


def test_a_hello_that_fits_is_accepted():
    check_hello(THEIRS, "b", MINE)


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        ({"release": "1.1"}, RemoteProtocolError, "b runs secagg 1.1, this party 1.0"),
        ({"name": "a"}, AuthenticationError, "b says that it is a, but its certificate is b's"),
        ({"commitment": bytes(31)}, WireError, "wrong length from b"),
        ({"commitment": bytes(33)}, WireError, "wrong length from b"),
        ({"agreement": bytes(31)}, WireError, "wrong length from b"),
        ({"fields": {"query": bytes(15)}}, WireError, "wrong length from b"),
        ({"agreement": b"\1" * 32}, JobError, "b's job differs from this one"),
        (
            {"agreement": b"\1" * 32, "fields": {"query": b"\1" * 16}},
            JobError,
            "differs from this one in query ",
        ),
        ({"roster": ["b", "a"]}, JobError, "b's list of parties differs"),
        ({"roster": ["a", "b", "c"]}, JobError, "b's list of parties differs"),
    ],
)
def test_a_hello_with_another_field_is_refused_and_its_sender_named(changed, error, says):
    with pytest.raises(error, match=says):
        check_hello(msgspec.structs.replace(THEIRS, **changed), "b", MINE)


class LaterHello(Message, frozen=True):
    """A hello as a later release may have it: only its first field is where it was."""

    release: str
    roster: list[str]


@pytest.mark.parametrize("kind", [Hello, State])
@pytest.mark.parametrize("said", ["1.1", "1." + 40 * "1"])
def test_a_greeting_of_another_release_says_so_whatever_else_it_holds(kind, said):
    frame = encode_control(FrameType.HELLO, LaterHello(said, ["a"]))
    with pytest.raises(
        RemoteProtocolError, match=f"b runs secagg {said[:30]}.*run the same release"
    ) as caught:
        decode_greeting(frame, kind, peer="b")
    assert caught.value.peer == "b"


@pytest.mark.parametrize(
    "first", [b"", b"\x90", b"\x91\x01", b"\x91\xa5ab", b"\x91\xd9", b"\x91\xa1\xff", b"\xc0"]
)
def test_a_greeting_that_begins_with_no_release_is_malformed(first):
    head = PREFIX.pack(b"SAG", VERSION, FrameType.HELLO, len(first), 32)
    frame = head + first + bytes(32 - len(head) - len(first))
    with pytest.raises(WireError, match=r"malformed .* from b"):
        decode_greeting(frame, Hello, peer="b")


def test_a_nonce_is_the_one_that_its_owner_committed_to_under_its_name():
    nonce = b"\7" * 32
    commitment = nonce_commitment("b", nonce)
    assert check_nonce(Nonce(nonce), "b", commitment) == nonce
    for other, name in ((b"\6" + nonce[1:], "b"), (nonce[:-1] + b"\6", "b"), (nonce, "c")):
        with pytest.raises(RemoteProtocolError, match="committed it to") as caught:
            check_nonce(Nonce(other), name, commitment)
        assert caught.value.peer == name


def test_a_nonce_of_another_length_is_refused_even_where_it_was_committed_to():
    for length in (0, 31, 33):
        with pytest.raises(RemoteProtocolError, match="committed it to"):
            check_nonce(Nonce(bytes(length)), "b", nonce_commitment("b", bytes(length)))


def length_and(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(struct.pack("<Q", len(p)) + p for p in parts)).digest()


def test_sessions_and_commitments_are_sha256_of_parts_after_their_lengths_under_labels_of_their_own():
    nonces = {"a": bytes(32), "b": b"\1" * 32}
    label = b"secagg network session v2"
    assert derive_session(b"\2" * 32, nonces) == length_and(
        label, b"\2" * 32, b"a", bytes(32), b"b", b"\1" * 32
    )
    assert nonce_commitment("a", bytes(32)) == length_and(b"secagg network nonce v1", b"a", bytes(32))


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (RemoteProtocolError("c lied", peer="c"), "c"),
        (RemoteProtocolError("a stranger lied", peer="z"), ""),  # b says so, and z is nobody here
        (RemoteProtocolError("c" * 2000, peer="c"), "c"),
        (RemoteProtocolError("x", peer="z" * 5000), ""),
        (ValueError("secret"), ""),
    ],
)
def test_the_reason_for_an_end_names_who_ended_and_whom_it_accuses_and_is_cut(error, named):
    ended = read_abort(memoryview(abort_frame(error)), "b", ROSTER)
    assert (ended.peer, ended.accused) == ("b", named)
    assert str(ended).startswith("b ended the run: ")
    assert len(str(ended)) <= MAX_REASON + 100


def test_the_reason_for_an_end_shows_of_foreign_errors_the_type_and_nothing_that_moves_a_cursor():
    assert str(read_abort(memoryview(abort_frame(ValueError("secret"))), "b", ROSTER)).endswith(
        ": ValueError"
    )
    told = str(read_abort(memoryview(abort_frame(RemoteProtocolError("up\x1b[3A", peer="c"))), "b", ROSTER))
    assert told.isprintable()
    assert "up" in told


def passed_on(error, *by):
    for name in by:
        error = read_abort(memoryview(abort_frame(error)), name, ROSTER)
    return error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)], ids=repr)
def test_who_was_stopped_is_named_once_however_many_pass_it_on_and_by_no_name_of_python(error):
    assert str(passed_on(error, "a")) == "a ended the run: it was stopped"
    word = "(nothing but the word of {} shows it)"
    second, third = passed_on(error, "a", "b"), passed_on(error, "a", "b", "c")
    assert str(second) == f"b: a was stopped {word.format('b')}"
    assert (second.peer, second.accused) == ("b", "a")
    assert str(third) == f"c: b: a was stopped {word.format('c')}"
    assert (third.peer, third.accused) == ("c", "b")


@pytest.mark.parametrize("error", [ValueError("secret"), DataError("row 3")], ids=repr)
def test_who_ended_is_named_once_where_others_end_for_it(error):
    assert str(passed_on(error, "a", "b", "c")).count("ended the run") == 1
    assert str(passed_on(error, "a", "b")).startswith("b: a ended the run: ")


HEARD = {name: heard_digest(name, bytes(32), bytes(32)) for name in ("a", "b", "c")}
OTHER = b"\1" * 32


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"c": OTHER}, ""),  # c told a and b different things, or b lies about it
        ({"b": OTHER}, "b"),
        ({"a": OTHER}, "b"),
        ({"a": OTHER, "c": OTHER}, "b"),
        ({}, "b"),  # another session from the same words
        (None, "b"),  # it does not say what it heard
    ],
)
def test_of_sessions_that_differ_a_peer_is_named_only_for_what_both_know(changed, named):
    heard = [] if changed is None else list({**HEARD, **changed}.values())
    with pytest.raises(RemoteProtocolError, match="b derived another session than this party") as caught:
        check_session(Session(OTHER, heard), Session(bytes(32), list(HEARD.values())), "b", "a", list(HEARD))
    assert caught.value.peer == named
    assert ("it heard something else from c" in str(caught.value)) == (named == "")


def test_equal_sessions_are_accepted():
    check_session(Session(bytes(32)), Session(bytes(32), list(HEARD.values())), "b", "a", list(HEARD))
