"""One party stepped by hand: the caller carries the messages and can store the state between steps.

For frameworks, queues and e-mail. `Stepwise.step` takes the frames that came and returns those to be sent.
`Stepwise.state` returns bytes. From these `Stepwise.restore` makes the same party again, in another process or a week
later. The caller vouches for who sent a frame, and keeps frames secret on the way: both are what an authenticated,
encrypted channel does. Each frame must be delivered once; one that comes twice is an error that names its sender, as on
every network.

A coroutine cannot be stored, so the state is what the party did: the key of its random stream and the log of
what came. `restore` runs the protocol anew on the same input and replays the log. Everything random comes from
`party.rng`, so it sends the same bytes again; a digest of what was sent proves it.

**The state is a secret key.** Whoever reads it learns the party's masks, and with its messages its input.

**One state goes on once.** To restore a state and let it take other messages than the first time is a
rollback: the same masks then cover two different messages, which shows their difference. Nothing inside a
state can tell that a newer one exists. So the caller stores the state before it sends what the step returned. It keeps
`steps` in a counter that cannot be turned back, and restores only the state with that number. A process forked off is a
copy too: there a party refuses to be stepped, and only one restored from the newest state goes on.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Sequence
from typing import Final, Generic, Self, TypeVar

import msgspec

from secagg import wire
from secagg.errors import SecaggError, UsageError
from secagg.files import check_format
from secagg.ledger import Ledger
from secagg.mailbox import DEFAULT_ROOM, Room
from secagg.network.hello import abort_frame, read_abort
from secagg.party import Party, PartyId, Program, Run
from secagg.prg import KEY_BYTES, Stream, check_process
from secagg.wire import Buffer, FrameType

T = TypeVar("T")

_MAGIC: Final = b"SAGSTATE\x01"  # the last byte is the version
_ABORT_SESSION_BYTES: Final = 16


class _Call(msgspec.Struct, frozen=True, array_like=True):
    """One call: the frames that came, or that the time was over."""

    frames: list[tuple[PartyId, bytes]]
    expired: bool = False


class _State(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    me: PartyId
    roster: list[PartyId]
    session: bytes
    key: bytes
    max_unread_bytes: int
    log: list[_Call]
    sent: bytes

    def __repr__(self) -> str:
        return f"<_State of {self.me}>"


class Stepwise(Generic[T]):
    """One party of a run whose messages the caller carries.

    Args:
      program: what the party runs. To restore it needs the same input again, and it must draw
        everything random from `party.rng`.
      me, roster, session: as for `Party`.
      key: 32 bytes that the party's random stream starts from; by default from the operating system. Never
        the same for two runs.
      max_unread_bytes: how much each peer may send that the protocol does not ask for yet. A peer that sends more has
        broken the rules, so keep frames back from a party that is far behind their sender.

    Raises:
      UsageError: a roster, session or key that cannot be used.
    """

    __slots__ = ("_digest", "_key", "_log", "_party", "_pid", "_program", "_room", "_run")

    def __init__(
        self,
        program: Program[T],
        *,
        me: PartyId,
        roster: Sequence[PartyId],
        session: bytes,
        key: bytes | None = None,
        max_unread_bytes: int = DEFAULT_ROOM.nbytes,
    ) -> None:
        self._key = secrets.token_bytes(KEY_BYTES) if key is None else bytes(key)
        self._pid = os.getpid()
        self._room = Room(max_unread_bytes)
        self._party = Party(me, roster, session=session, rng=Stream(self._key), room=self._room)
        self._program = program
        self._run: Run[T] | None = None
        self._log: list[_Call] = []
        self._digest = hashlib.sha256()

    def __repr__(self) -> str:
        doing = "done" if self.done else f"waiting for {', '.join(self.waiting_for) or 'its first step'}"
        return (
            f"<Stepwise {self._party.me!r}, {len(self._party.roster)} parties, {self.steps} steps, {doing}>"
        )

    @property
    def steps(self) -> int:
        """How often the party was stepped or its time was over: grows by one with each call that counts."""
        return len(self._log)

    @property
    def done(self) -> bool:
        """Whether the protocol has ended, well or with an error."""
        return self._run is not None and self._run.done

    @property
    def waiting_for(self) -> tuple[PartyId, ...]:
        """The peers whose messages are missing; empty before the first step and after the end."""
        return () if self.done else self._party.waiting_for

    @property
    def timeout_s(self) -> float | None:
        """The time after which the protocol wants `expire` to be called, if it set one."""
        return None if self.done else self._party.timeout_s

    @property
    def ledger(self) -> Ledger:
        """What the run cost this party; after `restore`, the seconds are those of the replay."""
        return self._party.ledger

    def result(self) -> T:
        """Return what the protocol returned, or raise what it raised.

        Raises:
          UsageError: the protocol has not ended.
        """
        if self._run is None:
            raise UsageError(f"{self._party.me} has not taken its first step")
        return self._run.result()

    def step(self, incoming: Iterable[tuple[PartyId, Buffer]] = ()) -> list[tuple[PartyId, bytes]]:
        """Take in frames, go on as far as they allow, and return the frames to be sent, in order.

        The first step starts the protocol. A frame that breaks the rules marks its sender as misbehaving; the
        protocol meets the error where it waits for that sender. When the protocol ends with an error, the
        frames returned tell the others. After the end nothing is taken in and nothing is sent.

        Args:
          incoming: (sender, frame) in the order of arrival; copied.

        Raises:
          UsageError: a sender who is not one of the other parties; then nothing has happened.
        """
        frames = [(peer, bytes(frame)) for peer, frame in incoming]
        for peer, _ in frames:
            if peer == self._party.me or peer not in self._party.roster.position:
                raise UsageError(
                    f"{self._party.me} cannot take a frame from {peer!r}; the other parties are "
                    f"{', '.join(self._party.others)}"
                )
        return self._do(_Call(frames))

    def expire(self) -> list[tuple[PartyId, bytes]]:
        """Let the time be over: the protocol goes on with a quorum or fails; return the frames to be sent.

        Raises:
          UsageError: before the first step.
        """
        if self._run is None:
            raise UsageError(f"{self._party.me} has not taken its first step, so no time of its can be over")
        return self._do(_Call([], expired=True))

    def resend(self, since: int = 0) -> list[tuple[PartyId, bytes]]:
        """Return again, byte for byte, what the calls numbered `since` and up returned (the first is 0).

        For frames that were lost between storing the state and sending. Runs the protocol anew on its input.

        Raises:
          UsageError: a number outside 0..steps, or the protocol does not send the same again.
        """
        if not 0 <= since <= self.steps:
            raise UsageError(f"expected a step from 0 to {self.steps}, got {since}")
        replayed = self._fresh(self._program)
        returned = [replayed._do(call) for call in self._log]
        replayed._check_sent(self._digest.digest())
        return [frame for frames in returned[since:] for frame in frames]

    def state(self) -> bytes:
        """Return the party as bytes, to be kept as secret as a key; see the top of this module."""
        party = self._party
        state = _State(
            party.me,
            list(party.roster),
            party.session,
            self._key,
            self._room.nbytes,
            self._log,
            self._digest.digest(),
        )
        return _MAGIC + msgspec.msgpack.encode(state)

    @classmethod
    def restore(cls, program: Program[T], state: bytes) -> Self:
        """Return the party that a state was taken from; what it sent already is not returned again.

        Args:
          program: the same program on the same input.

        Raises:
          UsageError: not a state of this version, or the protocol does not send what it sent before.
        """
        if state[: len(_MAGIC)] != _MAGIC:
            if len(state) >= len(_MAGIC) and state.startswith(_MAGIC[:-1]):
                check_format(state[len(_MAGIC) - 1], _MAGIC[-1], what="the state of a stepwise party")
            raise UsageError("expected the state of a stepwise party of this version, got other bytes")
        try:
            known = msgspec.msgpack.decode(state[len(_MAGIC) :], type=_State)
        except msgspec.MsgspecError:  # its message could quote the state
            raise UsageError("the state of a stepwise party is cut off or damaged") from None
        party = cls(
            program,
            me=known.me,
            roster=known.roster,
            session=known.session,
            key=known.key,
            max_unread_bytes=known.max_unread_bytes,
        )
        for call in known.log:
            party._do(call)
        party._check_sent(known.sent)
        return party

    def _fresh(self, program: Program[T]) -> Stepwise[T]:
        party = self._party
        return Stepwise(
            program,
            me=party.me,
            roster=party.roster,
            session=party.session,
            key=self._key,
            max_unread_bytes=self._room.nbytes,
        )

    def _check_sent(self, digest: bytes) -> None:
        # To go on would cover other messages with masks that are already out.
        if self._digest.digest() != digest:
            raise UsageError(
                f"{self._party.me} replayed its log and did not send what it sent before; restore it with the same "
                "input and the same release, and let the protocol draw from party.rng alone"
            )

    def _do(self, call: _Call) -> list[tuple[PartyId, bytes]]:
        if self.done:
            return []
        check_process(self._pid, "a stepwise party")
        if self._run is None:
            self._run = Run(self._party, self._program(self._party))
            self._run.start()
        taken: list[tuple[PartyId, bytes]] = []
        self._log.append(_Call(taken, call.expired))
        for peer, frame in call.frames:
            if (
                peer not in self._party.failed
            ):  # nothing more is taken from those: a log of it would only grow
                taken.append((peer, frame))
                self._take(peer, frame)
        outgoing = self._flush()
        late = call.expired
        while self._run.step(late=late):
            late = False
            outgoing += self._flush()
        if self._run.error is not None:
            outgoing += self._abort(self._run.error)
        return outgoing

    def _take(self, peer: PartyId, frame: bytes) -> None:
        party = self._party
        try:
            frame_type, _, _ = wire.decode_prefix(frame[: wire.PREFIX.size], peer=peer)
            if frame_type is FrameType.ABORT:
                raise read_abort(frame, peer, party.roster, party.session[:_ABORT_SESSION_BYTES])
        except SecaggError as error:
            party.fail(peer, error)
        else:
            party.deliver(bytearray(frame), peer)  # a copy of its own: the protocol may write into its arrays

    def _flush(self) -> list[tuple[PartyId, bytes]]:
        frames = []
        while self._party.outbox:
            to, parts, _ = self._party.outbox.popleft()
            frame = b"".join(parts)
            self._digest.update(self._party.roster.position[to].to_bytes(8, "big"))
            self._digest.update(frame)  # which holds its own length
            frames.append((to, frame))
        return frames

    def _abort(self, error: BaseException) -> list[tuple[PartyId, bytes]]:
        party = self._party
        frame = abort_frame(error, session=party.session[:_ABORT_SESSION_BYTES])
        return [(peer, frame) for peer in party.others]
