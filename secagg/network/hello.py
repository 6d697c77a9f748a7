"""What parties say before and after the program: hello, session, and why a run ends."""

from __future__ import annotations

import enum
import hashlib
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from secagg import release
from secagg.errors import (
    AbortedError,
    AuthenticationError,
    JobError,
    RemoteProtocolError,
    SecaggError,
    WireError,
)
from secagg.party import STOPPED, UNKNOWN, PartyId, aborted
from secagg.printable import printable
from secagg.wire import Buffer, FrameType, Message, decode_control, encode_control, first_text

G = TypeVar("G", "Hello", "State")

AGREEMENT_BYTES: Final = 32
NONCE_BYTES: Final = 32
COMMITMENT_BYTES: Final = 32
FIELD_DIGEST_BYTES: Final = 16
_MAX_FIELDS: Final = 1000  # a job has some 20, and one for each party
_SHOWN_FIELDS: Final = 5
_SESSION_LABEL: Final = b"secagg network session v2"
_HEARD_LABEL: Final = b"secagg network heard v1"
_COMMITMENT_LABEL: Final = b"secagg network nonce v1"
MAX_REASON: Final = 1000
_MAX_NAME_BYTES: Final = 1000


class Hello(Message, frozen=True):
    """What each party says first.

    Attributes:
      release: stays the first field, so that parties of any two releases can tell each other which they run.
      commitment: `nonce_commitment` of its nonce.
      fields: digests of the parts of what was agreed, by name.
    """

    release: str
    name: str
    roster: list[str]
    agreement: bytes
    commitment: bytes
    fields: dict[str, bytes] = msgspec.field(default_factory=dict)


class Nonce(Message, frozen=True):
    """The sender's nonce; told when the sender has the commitments of all."""

    nonce: bytes


class Session(Message, frozen=True):
    """The session that the sender derived, and what it heard of each party.

    Attributes:
      heard: `heard_digest` of each party, in roster order, the sender's own among them.
    """

    session: bytes
    heard: list[bytes] = msgspec.field(default_factory=list)


class Abort(Message, frozen=True):
    """Why the sender ends the run, and whose doing it was by its word.

    Attributes:
      session: the first bytes of the session, where the caller carries messages. A connection is of one session.
    """

    about: str
    reason: str
    session: bytes = b""


class Probe(Message, frozen=True):
    """Asks what the other end runs and what time it has there, in place of a hello; the connection leads to no run."""


class Cause(enum.StrEnum):
    """Of what kind it is that keeps a party from taking part; what it is, its own output says alone."""

    DATA = "data"
    CHECKS = "checks"
    RESULTS = "results"
    WORKER = "worker"

    @property
    def reason(self) -> str:
        """The cause in words that follow "ended the run"."""
        return _CAUSES[self]


_CAUSES: Final = {
    Cause.DATA: "it cannot use its own input",
    Cause.CHECKS: "its own checks do not allow the run",
    Cause.RESULTS: "it has no place for its results",
    Cause.WORKER: "its worker was lost",
}


class Unable(Message, frozen=True):
    """Says that the sender cannot take part, in place of a hello; the connection leads to no run.

    Attributes:
      agreement: of the run, as in `Hello`; a run of something else goes on.
    """

    agreement: bytes
    cause: Cause


class State(Message, frozen=True):
    """What a party runs, told to whoever of the run's parties asks.

    Attributes:
      release: as in `Hello`.
      clock_s: seconds since 1970 UTC by the sender's clock, when it was sent.
      agreement, fields: as in `Hello`.
    """

    release: str
    agreement: bytes
    clock_s: float
    fields: dict[str, bytes] = msgspec.field(default_factory=dict)


def state_frame(agreement: bytes, fields: Mapping[str, bytes]) -> bytes:
    """Return the answer to a probe."""
    state = State(release.RELEASE, agreement, time.time(), dict(fields))
    return encode_control(FrameType.STATE, state)


def reason_for_peers(error: BaseException, about: PartyId = "") -> tuple[PartyId, str]:
    """Return whose doing an error was and why this party ends, as its peers are told, fit for a frame.

    Of foreign errors only the type is told, for they may hold data.
    """
    if not about:
        # An error about what happened between parties that names none says that nobody can be named.
        named = getattr(error, "peer", None)
        about = "" if named is None else named or UNKNOWN
    if isinstance(error, SecaggError):
        reason = error.for_peers()
    else:
        reason = type(error).__name__ if isinstance(error, Exception) else STOPPED
    if len(about.encode(errors="replace")) > _MAX_NAME_BYTES:
        about = ""
    return _encodable(about), _encodable(reason[:MAX_REASON])


def _encodable(text: str) -> str:
    """Replace what UTF-8 has no bytes for, such as parts of file names that are not UTF-8."""
    return text.encode(errors="replace").decode()


def abort_frame(error: BaseException, about: PartyId = "", session: bytes = b"") -> bytes:
    """Return the frame that tells a peer why this party ends."""
    return encode_control(FrameType.ABORT, Abort(*reason_for_peers(error, about), session))


def read_abort(frame: Buffer, peer: PartyId, roster: Sequence[PartyId], session: bytes = b"") -> AbortedError:
    """Return the error that an ABORT frame from `peer` means here.

    Raises:
      WireError: not such a frame.
      RemoteProtocolError: it is of another session.
    """
    abort = decode_control(frame, Abort, peer=peer)
    if abort.session != session:
        raise RemoteProtocolError(f"the end of another session from {peer}", peer=peer)
    about = abort.about if abort.about in roster else UNKNOWN
    return aborted(peer, about, printable(abort.reason, MAX_REASON))


def unable(message: Unable, peer: PartyId) -> AbortedError:
    """Return the error with which a party ends that hears from a peer that it cannot take part."""
    return aborted(
        peer,
        peer,
        f"{message.cause.reason}, so it never began; its own output says why. Start again when it does",
    )


def nonce_commitment(name: PartyId, nonce: bytes) -> bytes:
    """Return what binds a party to its nonce before it knows those of others, 32 bytes."""
    return _digest([_COMMITMENT_LABEL, name.encode(), nonce])


def derive_session(agreement: bytes, nonces: Mapping[PartyId, bytes]) -> bytes:
    """Return the session identifier, 32 bytes; `nonces` in roster order."""
    parts = [part for name, nonce in nonces.items() for part in (name.encode(), nonce)]
    return _digest([_SESSION_LABEL, agreement, *parts])


def heard_digest(name: PartyId, commitment: bytes, nonce: bytes) -> bytes:
    """Return what a party heard from another one before the session, as 32 bytes to be compared."""
    return _digest([_HEARD_LABEL, name.encode(), commitment, nonce])


def check_session(
    theirs: Session, mine: Session, peer: PartyId, me: PartyId, roster: Sequence[PartyId]
) -> None:
    """Check that a peer derived the same session.

    What this party and the peer said to each other both know: who states it otherwise lies. Where a third party's
    words differ, that one told two things or the peer lies about it, and nobody is named.

    Raises:
      RemoteProtocolError: it derived another.
    """
    if theirs.session == mine.session:
        return
    differ = []
    if len(theirs.heard) == len(roster):
        differ = [name for name, its, own in zip(roster, theirs.heard, mine.heard, strict=True) if its != own]
    text = f"{peer} derived another session than this party"
    if not differ or {me, peer} & set(differ):
        raise RemoteProtocolError(
            f"{text}, and does not state what the two of them told each other as it was; start again without {peer}",
            peer=peer,
        )
    others = ", ".join(differ[:_SHOWN_FIELDS])
    raise RemoteProtocolError(
        f"{text}, for it heard something else from {others}. Either {others} told different things to different "
        f"parties, or {peer} does not say what it heard; this party cannot know which. Start again, and ask both"
    )


def check_nonce(message: Nonce, peer: PartyId, commitment: bytes) -> bytes:
    """Return a peer's nonce if it is the one that its hello committed it to.

    Raises:
      RemoteProtocolError: it is another one.
    """
    if len(message.nonce) != NONCE_BYTES or nonce_commitment(peer, message.nonce) != commitment:
        raise RemoteProtocolError(
            f"expected from {peer} the nonce that its hello committed it to, got another one", peer=peer
        )
    return message.nonce


def _digest(parts: Iterable[bytes]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(struct.pack("<Q", len(part)))
        digest.update(part)
    return digest.digest()


def decode_greeting(frame: Buffer, kind: type[G], *, peer: PartyId) -> G:
    """Return a hello or a state.

    Raises:
      RemoteProtocolError: it cannot be read, and begins with another release than this party's.
      WireError: it is none.
    """
    try:
        return decode_control(frame, kind, peer=peer)
    except WireError:
        if theirs := first_text(frame):
            check_release(theirs, release.RELEASE, peer)
        raise


def check_release(theirs: str, mine: str, peer: PartyId) -> None:
    """Refuse a peer of another release.

    Raises:
      RemoteProtocolError: it runs another.
    """
    if theirs != mine:
        raise RemoteProtocolError(
            f"{peer} runs secagg {printable(theirs, 40)}, this party {mine}; run the same release", peer=peer
        )


def check_hello(hello: Hello, peer: PartyId, mine: Hello) -> None:
    """Check that a peer, known by its certificate, is about to run what this party runs.

    Raises:
      RemoteProtocolError: it runs another release, or its hello is malformed.
      AuthenticationError: it says that it is somebody else.
      JobError: it agreed to something else, or with others.
    """
    check_release(hello.release, mine.release, peer)
    if hello.name != peer:
        raise AuthenticationError(
            f"{peer} says that it is {printable(hello.name, 80)}, but its certificate is {peer}'s", peer=peer
        )
    lengths = (len(hello.commitment), len(hello.agreement), *map(len, hello.fields.values()))
    if lengths != (COMMITMENT_BYTES, AGREEMENT_BYTES, *[FIELD_DIGEST_BYTES] * len(hello.fields)):
        raise WireError(f"hello with fields of a wrong length from {peer}", peer=peer)
    if hello.agreement != mine.agreement:
        raise JobError(
            f"{peer}'s job differs from this one{differences(hello.fields, mine.fields)} (fingerprint "
            f"{hello.agreement[:8].hex()} against {mine.agreement[:8].hex()}); compare the files"
        )
    if hello.roster != mine.roster:
        raise JobError(
            f"{peer}'s list of parties differs from this one ({printable(', '.join(hello.roster), MAX_REASON)} against "
            f"{', '.join(mine.roster)}); compare the files"
        )


def differences(theirs: Mapping[str, bytes], mine: Mapping[str, bytes]) -> str:
    """Return in which fields two parties' agreements differ, as part of a sentence; "" where they do not say."""
    if not mine or not theirs or len(theirs) > _MAX_FIELDS:
        return ""
    names = [name for name in dict.fromkeys([*mine, *theirs]) if mine.get(name) != theirs.get(name)]
    shown = [printable(name, 100) for name in names[:_SHOWN_FIELDS]]
    more = f" and {len(names) - _SHOWN_FIELDS} more fields" if len(names) > _SHOWN_FIELDS else ""
    return f" in {', '.join(shown)}{more}" if names else ""
