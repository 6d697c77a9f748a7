"""A peer with the right key that breaks the rules is named: bank_a runs in a thread, and the test plays bank_b.

The module is long because one impostor speaks the whole protocol for every rule that can be broken.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from cast import PATIENCE_S, Cast, tls_client
from secagg import release, wire
from secagg.errors import PeerVanishedError, SecaggError
from secagg.network import callers
from secagg.network.hello import Abort, Hello, Nonce, Session, derive_session, nonce_commitment
from secagg.network.identity import certificate_pem
from secagg.network.meeting import Meeting
from secagg.network.tcp import Peer, Timeouts, run_party
from secagg.party import Party
from secagg.wire import FrameType
from tcp_programs import FOR_EVER_S, NAMES, Values

pytestmark = pytest.mark.slow

MAX_BYTES = 1 << 22


def halting(sock: socket.socket, between: Callable[[], None]) -> socket.socket:
    """Return a connection to the same peer that carries ten bytes, then calls `between`, then carries the rest."""
    near, far = socket.socketpair()
    near.settimeout(PATIENCE_S)

    def carry(source: socket.socket, sink: socket.socket, first: int) -> None:
        with source, sink, contextlib.suppress(OSError):
            if first:
                sink.sendall(source.recv(first))
                between()
            while data := source.recv(1 << 16):
                sink.sendall(data)

    for source, sink, first in ((far.dup(), sock.dup(), 10), (sock, far, 0)):
        threading.Thread(target=carry, args=(source, sink, first), daemon=True).start()
    return near


class Impostor:
    """bank_b's end of a connection to bank_a, by hand; bank_a runs in a thread of this process."""

    def __init__(
        self,
        cast: Cast,
        *,
        absent: str = "",
        connect_s: float = FOR_EVER_S,
        message_s: float = FOR_EVER_S,
        between: Callable[[], None] | None = None,
        **limits: Any,
    ) -> None:
        self.error: Any = None
        self.result: Any = None
        self.started = threading.Event()
        a, b = cast.load("bank_a"), cast.load("bank_b")
        at = ("127.0.0.1", cast.ports["bank_a"])
        peers = [Peer("bank_a", *at, a.certificate), Peer("bank_b", "127.0.0.1", 1, b.certificate)]
        peers += [Peer(absent, "127.0.0.1", 1, cast.load(absent).certificate)] if absent else []

        def run() -> None:
            try:
                self.result, _ = run_party(
                    self.program,
                    me="bank_a",
                    identity=a,
                    peers=peers,
                    listen=at,
                    agreement=bytes(32),
                    timeouts=Timeouts(connect_s, FOR_EVER_S, message_s),
                    keep_memory=False,
                    **limits,
                )
            except SecaggError as error:
                self.error = error

        self.thread = threading.Thread(target=run)
        self.thread.start()
        context = tls_client()
        b.load_into(context)
        for _ in range(3000):
            with contextlib.suppress(ConnectionRefusedError):
                plain = socket.create_connection(at, timeout=PATIENCE_S)
                break
            time.sleep(0.02)
        if between is not None:
            plain = halting(plain, between)
        self.secure = context.wrap_socket(plain)
        assert self.secure.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(
            certificate_pem(a.certificate).decode()
        )

    async def program(self, party: Party) -> int:
        self.started.set()
        return int((await party.receive(Values, "bank_b", max_bytes=MAX_BYTES)).x.sum())

    def ending(self) -> tuple[str, str, str]:
        """Return kind, culprit and text of the error with which bank_a ended."""
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()
        return type(self.error).__name__, getattr(self.error, "peer", ""), str(self.error)

    def __enter__(self) -> Impostor:
        return self

    def __exit__(self, *_: object) -> None:
        self.secure.close()

    def read(self) -> bytes:
        prefix = self.secure.recv(wire.PREFIX.size)
        size = wire.decode_prefix(prefix, peer="bank_a")[2]
        return prefix + self.secure.recv(size - len(prefix))

    def hello(self, **changes: Any) -> bytes:
        fields = {
            "release": release.RELEASE,
            "name": "bank_b",
            "roster": list(NAMES[:2]),
            "agreement": bytes(32),
            "commitment": nonce_commitment("bank_b", self.nonce),
            **changes,
        }
        return wire.encode_control(FrameType.HELLO, Hello(**fields))

    nonce = bytes(range(32))

    @staticmethod
    def told(nonce: bytes) -> bytes:
        return wire.encode_control(FrameType.HELLO, Nonce(nonce))

    def meet(self) -> bytes:
        """Do all that is right until the program runs; return the session."""
        self.secure.sendall(self.hello())
        hello = wire.decode_control(self.read(), Hello, peer="bank_a")
        theirs = wire.decode_control(self.read(), Nonce, peer="bank_a").nonce
        assert hello.commitment == nonce_commitment("bank_a", theirs)
        self.secure.sendall(self.told(self.nonce))
        session = derive_session(bytes(32), {"bank_a": theirs, "bank_b": self.nonce})
        assert wire.decode_control(self.read(), Session, peer="bank_a").session == session
        self.secure.sendall(wire.encode_control(FrameType.HELLO, Session(session)))
        assert self.started.wait(PATIENCE_S)
        return session


def message(session: bytes, x: NDArray[np.uint64], **changes: Any) -> bytes:
    envelope = {"session": session[:16], "sender": 1, "lane": (), "sequence": 0, "depth": 1, **changes}
    return b"".join(wire.encode_message(Values(x), **envelope)[0])


def test_the_impostor_gets_a_result_where_it_keeps_the_rules(cast: Cast) -> None:
    with Impostor(cast) as peer:
        session = peer.meet()
        peer.secure.sendall(message(session, np.arange(5, dtype=np.uint64)))
        peer.thread.join(PATIENCE_S)
        assert peer.result == 10


def test_a_nonce_is_told_only_when_everybody_is_committed(cast: Cast) -> None:
    """The last to come could choose its nonce so that the session, and a graph made from it, suits it."""
    with Impostor(cast, absent="bank_c", connect_s=4.0) as peer:
        peer.secure.sendall(peer.hello(roster=list(NAMES[:3])))
        frame = peer.read()
        assert peer.secure.recv(1) == b""  # bank_a gives up, and has said nothing else
        assert peer.ending()[0] == "PeerVanishedError"
    assert wire.decode_prefix(frame[: wire.PREFIX.size], peer="bank_a")[0] is FrameType.HELLO
    assert len(wire.decode_control(frame, Hello, peer="bank_a").commitment) == 32


@pytest.mark.parametrize(("others", "named"), [(NAMES[:2], "bank_b"), (NAMES[:3], "")])
def test_who_is_there_and_waits_for_others_is_named_only_where_there_are_no_others(
    cast: Cast, others: tuple[str, ...], named: str
) -> None:
    at = ("127.0.0.1", cast.ports["bank_a"])
    meeting = Meeting("bank_a", others, {}, at, agreement=bytes(32), tls=None, connect_s=1.0)
    meeting.links.update(dict.fromkeys(others[1:]))  # type: ignore[arg-type]  # only who is there matters
    error = meeting._nobody()
    meeting.close()
    assert isinstance(error, PeerVanishedError)
    assert error.peer == named
    assert "bank_b waits for others" in str(error)


def test_who_leaves_when_nonces_are_told_does_not_come_again_with_another(cast: Cast) -> None:
    peer = Impostor(cast)
    with peer:
        peer.secure.sendall(peer.hello())
        peer.read()
        wire.decode_control(peer.read(), Nonce, peer="bank_a")
    assert peer.ending()[:2] == ("PeerVanishedError", "bank_b")


class LaterHello(wire.Message, frozen=True):
    """A hello as a later release may have it: only its first field is where it was."""

    release: str
    roster: list[str]


@pytest.mark.parametrize(
    ("sent", "error", "text"),
    [
        (lambda p: p.hello(name="bank_a"), "AuthenticationError", "says that it is bank_a"),
        (
            lambda p: p.hello(name="\x1b[2Jbank"),
            "AuthenticationError",
            re.escape("says that it is \\x1b[2Jbank"),
        ),
        (lambda p: p.hello(commitment=b"short"), "WireError", "fields of a wrong length"),
        (
            lambda p: wire.PREFIX.pack(b"SAG", wire.VERSION, 2, 1 << 21, 1 << 22),
            "WireError",
            "the limits are",
        ),
        (lambda p: wire.encode_control(FrameType.BYE), "WireError", "expected a hello from bank_b"),
        (lambda p: wire.encode_control(FrameType.HELLO, Session(bytes(32))), "WireError", "malformed"),
        (
            lambda p: wire.encode_control(FrameType.HELLO, LaterHello("9.9", ["bank_a"])),
            "RemoteProtocolError",
            "bank_b runs secagg 9.9, this party",
        ),
        (lambda p: b"\0" * 4096, "WireError", "is it running secagg"),
        (
            lambda p: p.hello() + p.told(p.nonce) + wire.encode_control(FrameType.HELLO, Session(bytes(32))),
            "RemoteProtocolError",
            "bank_b derived another session",
        ),
        (lambda p: p.hello() + p.told(bytes(32)), "RemoteProtocolError", "its hello committed it to"),
        (lambda p: p.hello() + p.told(b""), "RemoteProtocolError", "its hello committed it to"),
        (
            lambda p: p.hello(commitment=nonce_commitment("bank_a", p.nonce)) + p.told(p.nonce),
            "RemoteProtocolError",
            "its hello committed it to",
        ),
        (lambda p: p.hello() + wire.encode_control(FrameType.BYE), "WireError", "expected nonce and session"),
    ],
)
def test_whoever_breaks_the_rules_of_the_meeting_is_named(
    cast: Cast, sent: Callable[[Impostor], bytes], error: str, text: str
) -> None:
    with Impostor(cast) as peer:
        peer.secure.sendall(sent(peer))
        kind, culprit, told = peer.ending()
    assert (kind, culprit) == (error, "bank_b")
    assert re.search(text, told)


@pytest.mark.parametrize(
    ("sent", "error", "text"),
    [
        (lambda s: b"x" * 5000, "WireError", "expected a secagg frame from bank_b"),
        (lambda s: message(s, np.zeros(1 << 18, np.uint64)), "WireError", "limits are 1000000"),
        (lambda s: message(bytes(16), np.zeros(1, np.uint64)), "RemoteProtocolError", "another session"),
        (
            lambda s: message(s, np.zeros(1, np.uint64), sender=0),
            "RemoteProtocolError",
            "another party's name",
        ),
        (lambda s: wire.encode_control(FrameType.HELLO, Session(s)), "WireError", "expected a message"),
        (
            lambda s: b"".join(wire.encode_control(FrameType.HEARTBEAT) for _ in range(9)),
            "PeerVanishedError",
            "ended",
        ),
        (lambda s: message(s, np.zeros(9, np.uint64))[:-10], "PeerVanishedError", "its connection ended"),
        (
            lambda s: wire.encode_control(FrameType.ABORT, Abort("nobody", "no\r\x1b[31mroom" + 5000 * "!")),
            "AbortedError",
            r"^bank_b ended the run: no\\r\\x1b\[31mroom!{1,999}\.\.\.$",
        ),
    ],
)
def test_whoever_breaks_the_rules_of_the_run_is_named(
    cast: Cast, sent: Callable[[bytes], bytes], error: str, text: str
) -> None:
    with Impostor(cast, max_frame_bytes=1_000_000) as peer:
        session = peer.meet()
        with contextlib.suppress(OSError):  # it may hang up before it has all
            peer.secure.sendall(sent(session))
        peer.secure.close()
        kind, culprit, told = peer.ending()
    assert (kind, culprit) == (error, "bank_b")
    assert re.search(text, told)


def unasked(session: bytes, number: int, words: int, **changes: Any) -> bytes:
    return b"".join(
        message(session, np.zeros(words, np.uint64), sequence=i, **changes) for i in range(number)
    )


def beginning(session: bytes, words: int, kind: str = Values.KIND, **changes: Any) -> bytes:
    """Return what comes before the arrays of a message."""
    envelope = {"session": session[:16], "sender": 1, "lane": (), "sequence": 0, "depth": 1, **changes}
    frame, _ = wire.encode_message(Values(np.zeros(words, np.uint64)), **envelope)
    assert len(kind) == len(Values.KIND)  # what comes before the arrays has its length in front
    return bytes(frame[0]).replace(Values.KIND.encode(), kind.encode())


def in_lanes_of_their_own(session: bytes, number: int) -> bytes:
    return b"".join(message(session, np.zeros(0, np.uint64), sequence=i, lane=(i,)) for i in range(number))


def claiming_depth(session: bytes, depth: int) -> bytes:
    honest = wire.decode_envelope(message(session, np.zeros(0, np.uint64)), peer="bank_b").envelope
    header = msgspec.msgpack.encode(msgspec.structs.replace(honest, depth=depth))
    return b"".join(wire._frame("test", FrameType.MESSAGE, header, [])[0])


def prefix_of(frame_type: FrameType, size: int) -> bytes:
    return wire.PREFIX.pack(b"SAG", wire.VERSION, frame_type, 0, size) + bytes(1 << 16)


@pytest.mark.parametrize(
    ("sent", "error", "text"),
    [
        (
            lambda s: unasked(s, 20, 1 << 14, lane=(5,)),
            "RemoteProtocolError",
            "more than 1048576 bytes of messages that bank_a has not asked for",
        ),
        (
            lambda s: beginning(s, 1 << 20),
            "RemoteProtocolError",
            "expected test.Values of at most 4259840 bytes from bank_b, got one of 83886",
        ),
        (
            lambda s: beginning(s, 1 << 18, kind="test.Others"),
            "RemoteProtocolError",
            "expected test.Values from bank_b, got 'test.Others'",
        ),
        (
            lambda s: beginning(s, 1 << 18, lane=(5,)),
            "RemoteProtocolError",
            "more than 1048576 bytes of messages that bank_a has not asked for",
        ),
        (
            lambda s: in_lanes_of_their_own(s, 5000),
            "RemoteProtocolError",
            "more than (4096 lanes|1048576 bytes)",
        ),
        (
            lambda s: message(s, np.zeros(1 << 14, np.uint64), sequence=1),
            "RemoteProtocolError",
            "message 1 .* too early",
        ),
        (lambda s: prefix_of(FrameType.HEARTBEAT, 4187593113), "WireError", "HEARTBEAT frame of 4187593113"),
        (lambda s: prefix_of(FrameType.BYE, 1 << 31), "WireError", "BYE frame of 2147483648"),
        (lambda s: prefix_of(FrameType.ABORT, 1 << 31), "WireError", "ABORT frame of 2147483648"),
        (lambda s: prefix_of(FrameType.HELLO, 1 << 31), "WireError", "HELLO frame of 2147483648"),
        (lambda s: prefix_of(FrameType.STORED, 1 << 31), "WireError", "got a frame for files"),
        (lambda s: claiming_depth(s, 2**48 - 1), "WireError", "malformed envelope from bank_b"),
    ],
    ids=[
        "lane",
        "asked",
        "kind",
        "unasked",
        "lanes",
        "early",
        "heartbeat",
        "bye",
        "abort",
        "hello",
        "stored",
        "depth",
    ],
)
def test_whoever_would_fill_memory_is_named_before_it_does(
    cast: Cast, sent: Callable[[bytes], bytes], error: str, text: str
) -> None:
    with Impostor(cast, max_unread_bytes=1 << 20) as peer:
        session = peer.meet()
        with contextlib.suppress(OSError):  # it may hang up before it has all
            peer.secure.sendall(sent(session))
        kind, culprit, told = peer.ending()  # while the connection stands: not because it ended
    assert (kind, culprit) == (error, "bank_b")
    assert re.search(text, told)


def test_a_frame_for_which_there_is_no_memory_is_blamed_on_its_sender(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Impostor(cast) as peer:
        session = peer.meet()
        real = np.empty

        def small(size: int, dtype: Any) -> NDArray[Any]:
            if size > 1 << 20:
                raise MemoryError
            return real(size, dtype)

        x = np.zeros(1 << 18, np.uint64)
        monkeypatch.setattr("secagg.network.link.np.empty", small)
        with contextlib.suppress(OSError):
            peer.secure.sendall(message(session, x))
        kind, culprit, told = peer.ending()
    assert (kind, culprit) == ("WireError", "bank_b")
    assert "for which there is no memory" in told


def test_heartbeats_without_end_do_not_keep_a_party_from_looking_at_the_time(cast: Cast) -> None:
    with Impostor(cast, message_s=1.0) as peer:
        peer.meet()
        beats = wire.encode_control(FrameType.HEARTBEAT) * 4096

        def flood() -> None:
            with contextlib.suppress(OSError):
                peer.secure.sendall(beats[:7])  # so that no record ends where a frame does
                while peer.thread.is_alive():
                    peer.secure.sendall(beats[7:] + beats[:7])

        flooding = threading.Thread(target=flood)
        flooding.start()
        kind, culprit, _ = peer.ending()
        flooding.join(PATIENCE_S)
    assert (kind, culprit) == ("PeerVanishedError", "bank_b")


class TakesNothing(Impostor):
    failed = ""

    async def program(self, party: Party) -> int:
        self.started.set()
        party.send("bank_b", Values(np.zeros(1 << 23, np.uint64)))
        await party.gather(Values, ["bank_b"], quorum=0, timeout_s=0.5)
        self.failed = str(party.failed.get("bank_b"))
        return 1


def test_what_is_kept_for_a_peer_that_takes_nothing_is_bounded(cast: Cast) -> None:
    taking = TakesNothing(cast, max_unread_bytes=1 << 20)
    with taking as peer:
        peer.meet()
        peer.thread.join(PATIENCE_S)
        assert peer.result == 1
    assert "took no more of what was sent to it" in taking.failed


def test_idle_callers_keep_nobody_from_meeting(
    cast: Cast, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(callers, "_MAX_CONNECTED", 16)
    with contextlib.ExitStack() as stack:

        def flood() -> None:
            at = ("127.0.0.1", cast.ports["bank_a"])
            idle = [stack.enter_context(socket.create_connection(at, timeout=PATIENCE_S)) for _ in range(200)]
            with contextlib.suppress(ConnectionError):
                assert not idle[100].recv(1)  # until it had to make room

        with caplog.at_level(logging.WARNING), Impostor(cast, between=flood) as peer:
            session = peer.meet()
            peer.secure.sendall(message(session, np.arange(5, dtype=np.uint64)))
            peer.thread.join(PATIENCE_S)
            assert peer.result == 10
    dropped = [record for record in caplog.records if "dropped" in record.getMessage()]
    assert 1 <= len(dropped) <= 15


def test_a_party_with_a_certificate_cannot_take_others_places_before_it_says_hello(cast: Cast) -> None:
    context = tls_client()
    cast.load("bank_b").load_into(context)
    with contextlib.ExitStack() as stack:

        def flood() -> None:
            at = ("127.0.0.1", cast.ports["bank_a"])
            shaken = []
            for _ in range(12):
                plain = socket.create_connection(at, timeout=PATIENCE_S)
                shaken.append(stack.enter_context(context.wrap_socket(plain)))
            with contextlib.suppress(OSError):
                while shaken[0].recv(1 << 12):  # a hello, until it had to make room
                    pass

        with Impostor(cast, between=flood) as peer:
            session = peer.meet()
            peer.secure.sendall(message(session, np.arange(5, dtype=np.uint64)))
            peer.thread.join(PATIENCE_S)
            assert peer.result == 10


def test_bytes_altered_on_the_way_are_an_authentication_error(cast: Cast) -> None:
    with Impostor(cast) as peer:
        peer.meet()
        forged = socket.socket(fileno=peer.secure.detach())  # below TLS, as somebody on the way would write
        with forged:
            forged.sendall(b"\x17\x03\x03\x00\x40" + bytes(64))
            kind, culprit, told = peer.ending()
    assert (kind, culprit) == ("AuthenticationError", "bank_b")
    assert "is not what bank_b sent" in told


def test_whoever_is_turned_down_is_told_why(cast: Cast) -> None:
    with Impostor(cast) as peer:
        peer.secure.sendall(peer.hello(agreement=bytes(31) + b"\1"))
        wire.decode_control(peer.read(), Hello, peer="bank_a")
        abort = wire.decode_control(peer.read(), Abort, peer="bank_a")
        assert peer.ending()[0] == "JobError"
    assert abort.about == "bank_b"
    assert "bank_b's job differs from this one" in abort.reason
