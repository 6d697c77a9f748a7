"""What carries one party's frames over its connections while its program runs.

While the program waits, one loop under poll writes what is unsent and reads from all peers. So no two parties block on
sending to each other. The program goes on only when everything before has been handed to the kernel, so arrays need not be
copied. While the program computes, a second thread writes heartbeats and turns callers away; one lock says whose the
connections are.

Longer than most modules: carrying, missing and losing all act on the same links and are best read together.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from secagg import wire
from secagg.errors import AbortedError, PeerVanishedError, SecaggError, WireError
from secagg.ledger import Ledger
from secagg.link_digests import LinkDigests
from secagg.mailbox import Room
from secagg.network.hello import abort_frame, read_abort
from secagg.network.link import Link, leave
from secagg.network.meeting import Meeting
from secagg.network.waiting import (
    COMPUTING_TIMES,
    Says,
    Timeouts,
    excused,
    heartbeat_frame,
    reached,
    read_heartbeat,
    word_of,
)
from secagg.party import Party, PartyId, Program, Run
from secagg.prg import check_process
from secagg.wire import Buffer, FrameType

T = TypeVar("T")
_log = logging.getLogger(__name__)

_MAX_TURN: Final = 256  # frames read from one peer before the others have their turn
_TICK_S: Final = 0.25  # how often timers are looked at while waiting
_SPIN_S: Final = 300e-6  # a core that slept takes as long to wake as an answer does to come
_LINGER_S: Final = 2.0  # how long the reason for an abort may take to leave
_HURRY_S: Final = 1.0  # the same where somebody waits at the keyboard
_HEARSAY_S: Final = _LINGER_S  # how long what another party says of a third one may take to show here
_PREPARING_TURN_S: Final = 0.02
PREPARING: Final = "secagg preparing"  # the name of the thread in which a party is prepared
_HEARTBEAT: Final = wire.encode_control(FrameType.HEARTBEAT)
_BYE: Final = wire.encode_control(FrameType.BYE)


class Driver(Generic[T]):
    """Carries one party's frames.

    The links belong to whoever holds the lock. That is the calling thread while the program waits, and for an instant now
    and then the attendant while it computes.
    """

    def __init__(
        self,
        meeting: Meeting,
        timeouts: Timeouts,
        max_frame_bytes: int,
        max_unread_bytes: int,
        on_progress: Callable[[Party], None] | None,
    ) -> None:
        self._meeting = meeting
        self._timeouts = timeouts
        self._max_frame_bytes = max_frame_bytes
        self._max_unread_bytes = max_unread_bytes
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._stopping = False
        self._poll = select.poll()
        self._open: dict[PartyId, Link] = {}  # connections that have neither ended nor failed
        self._by_fd: dict[int, Link] = {}
        self._unsent: set[Link] = set()  # not everything written
        self._lent: set[Link] = set()  # of these, with bytes in the program's own arrays
        self._paused: set[Link] = set()  # peers that are too far ahead
        self._buffered: set[Link] = set()  # with bytes that poll cannot see
        self._check_at = 0.0
        self._began = 0.0  # what the program now waits for
        self._report_at = 0.0
        self._reported = ""
        self._tick_s = min(_TICK_S, timeouts.silence_s / 8)
        self._spin_s = _SPIN_S if (os.cpu_count() or 1) > 1 else 0.0
        self._steps = 0  # how often the program has gone on
        self._waiting = False  # whether it waits; else it computes
        self._ended = False  # the program has
        self._fatal: SecaggError | None = None
        # Who was lost, why, and whether the program bears it, while whom they accuse is looked at.
        self._losses: list[tuple[Link, SecaggError, bool]] = []
        self._accusers: set[PartyId] = set()  # whose words about others are being looked into

    def run(self, program: Program[T], prepare: Callable[[Party], None] | None = None) -> tuple[T, Ledger]:
        linger_s = _LINGER_S
        try:
            session = self._meeting.meet()
            self._open = dict(self._meeting.links)
            for link in self._open.values():
                link.max_frame_bytes = self._max_frame_bytes
                self._by_fd[link.fileno()] = link
                self._buffered.add(link)
                self._poll.register(link, select.POLLIN)
            # TLS keeps the order: a number that leaves others out is not early but wrong.
            room = Room(self._max_unread_bytes, early=0)
            self.party = Party(self._meeting.me, self._meeting.roster, session=session, room=room)
            self.party.ledger.links = LinkDigests(
                self.party.me, {peer: link.secret for peer, link in self._open.items()}
            )
            for link in self._open.values():
                link.admits = self.party.admits
            result = self._attended(program, prepare)
            linger_s = self._timeouts.message_s
            return result, self.party.ledger
        except BaseException as error:
            if os.getpid() != self._pid:
                raise
            # Also KeyboardInterrupt: the others must not wait for somebody who will not come back.
            interrupted = not isinstance(error, Exception)
            if interrupted:
                linger_s = _HURRY_S
                for link in self._meeting.links.values():
                    link.cut_off()
            told = self._meeting.tell(error)
            if interrupted:
                error.add_note(_told(told))
            raise
        finally:
            self._meeting.close()
            limits_s = {
                link: linger_s if peer in self._open else min(linger_s, _LINGER_S)
                for peer, link in self._meeting.links.items()
            }
            if os.getpid() != self._pid:
                limits_s = dict.fromkeys(limits_s, 0.0)  # the connections go on without this copy of them
            leave(limits_s, self._timeouts.silence_s)

    def _attended(self, program: Program[T], prepare: Callable[[Party], None] | None) -> T:
        stop, wake = socket.socketpair()
        with stop, wake:
            attendant = threading.Thread(
                target=self._attend, args=(wake,), name="secagg network", daemon=True
            )
            attendant.start()
            try:
                if prepare is not None:
                    self._prepare(prepare)
                return self._drive(Run(self.party, program(self.party)))
            finally:
                if (
                    os.getpid() == self._pid
                ):  # a forked child has no attendant, and must not wake its parent's
                    self._stopping = True
                    stop.send(b"\0")
                    attendant.join()

    def _prepare(self, prepare: Callable[[Party], None]) -> None:
        """Let a thread prepare this party, and meanwhile see whether another one ends the run."""
        failures: list[BaseException] = []

        def work() -> None:
            self.party.ledger.resume()
            try:
                prepare(self.party)
            except BaseException as error:  # noqa: BLE001  # raised in the thread that waits
                failures.append(error)
            finally:
                self.party.ledger.pause()

        thread = threading.Thread(target=work, name=PREPARING, daemon=True)
        thread.start()
        while thread.is_alive() and self._fatal is None:
            self._report()
            thread.join(_PREPARING_TURN_S)
            with self._lock:
                now = time.monotonic()
                self._beat(now)
                self._exchange(now, now, now, lambda: False)
        if self._fatal is not None:
            raise self._fatal
        if failures:
            raise failures[0]

    def _attend(self, wake: socket.socket) -> None:
        """While the program computes: show the peers that this party lives, and turn callers away."""
        while not self._stopping:
            self._meeting.serve(self._timeouts.heartbeat_s / 2, wake)
            if self._lock.acquire(blocking=False):  # else the other thread sees to it
                try:
                    self._beat(time.monotonic())
                finally:
                    self._lock.release()

    def _drive(self, run: Run[T]) -> T:
        run.start()
        while not run.done:
            late = self._wait(lambda: not self._lent and self.party.ready)
            if self._fatal is None:
                self._steps += run.step(late=late)
            else:
                run.abort(self._fatal)
                run.result()
                raise self._fatal
            self._report()
        result = run.result()
        check_process(self._pid, "a connection")
        with self._lock:
            self._take_outbox()
            for link in list(self._open.values()):
                self._send(link, [_BYE])
        self._ended = True
        self._wait(lambda: not self._unsent)
        return result

    def _wait(self, enough: Callable[[], bool]) -> bool:
        """Carry frames until it is enough, somebody failed, or it took too long; return whether it did."""
        # A copy of a TLS connection encrypts other bytes with the nonces that the first one uses.
        check_process(self._pid, "a connection")
        now = time.monotonic()
        began = self._began = self._began if self.party.continued else now
        limit_s = self.party.timeout_s
        # Those who are late are then left out, or the protocol set a time of its own.
        strict = limit_s is not None or any(gather.quorum is not None for gather in self.party._wait)
        if limit_s is None:
            limit_s = self._timeouts.message_s
        entered, late, ends = now, False, began + limit_s
        with self._lock:
            self._waiting = True
            self._take_outbox()
            if self._paused:
                self._unpause()
        while not enough() and self._fatal is None:
            with self._lock:
                if now >= self._check_at:
                    self._check_at = now + self._tick_s
                    self._beat(now)
                    self._miss_the_silent(now, entered)
                if now >= ends:
                    self._exchange(now, now, now, enough)  # what came while the program computed was in time
                    if enough() or self._fatal is not None:
                        break
                    if strict or now >= (ends := self._ends(began)):
                        late = True
                        self._miss_the_late(limit_s)
                        self._give_up_sending(limit_s)
                        break
                self._exchange(now, min(self._check_at, ends), entered + self._spin_s, enough)
            now = time.monotonic()
            self._report()
        with self._lock:
            self._waiting = False
        self.party.ledger.waited(now - entered)
        return late

    def _take_outbox(self) -> None:
        outbox = self.party.outbox
        while outbox:
            to, frame, _ = outbox.popleft()
            if (link := self._open.get(to)) is not None:  # else it needs no messages any more
                self._send(link, frame)
                if link.unsent:
                    self._lent.add(link)

    def _send(self, link: Link, frame: Sequence[Buffer]) -> None:
        link.send(frame)
        if not link.flush() and link not in self._unsent:
            self._unsent.add(link)
            self._listen_to(link)

    def _listen_to(self, link: Link) -> None:
        """Tell poll what a link waits for."""
        events = select.POLLIN * (link not in self._paused) | select.POLLOUT * (link in self._unsent)
        with contextlib.suppress(KeyError):
            self._poll.unregister(link)
        if events:  # with none poll would still report a connection that ended
            self._poll.register(link, events)

    def _exchange(self, now: float, until: float, spin_until: float, enough: Callable[[], bool]) -> None:
        """Write and read wherever possible, once something is."""
        for link in list(self._buffered):
            if link in self._buffered:  # else it was lost while another one was read
                self._read(link, enough)
            until = now
        poll = self._poll.poll
        ready = poll(0)
        while not ready and now < until:
            if now < spin_until:
                # Answers often come within microseconds, and a core that slept is slow for as long again.
                os.sched_yield()
                ready = poll(0)
            else:
                ready = poll(1000 * (until - now))
            now = time.monotonic()
        for fd, events in ready:
            if fd not in self._by_fd:
                continue  # it was lost while another one was read, which accused it
            link = self._by_fd[fd]
            paused = link in self._paused  # of which poll tells the end alone, and whether it takes more
            if (paused or events & select.POLLOUT) and link.flush():
                self._unsent.discard(link)
                self._lent.discard(link)
                self._listen_to(link)
            if events & ~select.POLLOUT and not paused:
                self._read(link, enough)

    def _read(self, link: Link, enough: Callable[[], bool]) -> None:
        self._buffered.discard(link)
        try:
            for _ in range(_MAX_TURN):
                if (got := link.read()) is not None:
                    self._take(link, *got)
                if self._too_far_ahead(link):
                    bound = self.party.overfull(link.peer) or f"{self._max_unread_bytes} bytes of messages"
                    _log.info("%s lets %s wait, who is more than %s ahead", self.party.me, link.peer, bound)
                    self._paused.add(link)
                    self._listen_to(link)
                    return
                if got is None:
                    return
                if not link.pending:
                    return
                if enough():
                    break
            self._buffered.add(link)
        except SecaggError as error:
            self._lose(link, error)

    def _take(self, link: Link, frame_type: FrameType, frame: memoryview) -> None:
        peer = link.peer
        if frame_type is FrameType.MESSAGE:
            link.moved = link.stepped = time.monotonic()
            link.awaits = 0  # it said so before it sent this
            self.party.deliver(frame, peer)
            if peer in self.party.failed:
                raise self.party.failed[peer]
        elif frame_type is FrameType.ABORT:
            raise read_abort(frame, peer, self.party.roster)
        elif frame_type is FrameType.BYE:
            link.finished = True
            self.party.fail(
                peer,
                PeerVanishedError(
                    f"{peer} has ended its part and sends nothing more; do both run the same job?", peer=peer
                ),
            )
        elif frame_type is FrameType.HEARTBEAT:
            self._take_heartbeat(link, frame)
        else:
            raise WireError(f"expected a message from {peer}, got another frame", peer=peer)

    def _take_heartbeat(self, link: Link, frame: memoryview) -> None:
        if frame == _HEARTBEAT:  # a sign of life that says nothing else
            return
        beat, now = read_heartbeat(frame, link.peer, self.party.roster), time.monotonic()
        if beat.steps > link.steps:
            link.steps, link.moved, link.stepped = beat.steps, now, now
        elif not beat.waits_for and now - link.stepped < COMPUTING_TIMES * self._timeouts.message_s:
            link.moved = now
        link.waits_for = tuple(self.party.roster[i] for i in beat.waits_for)
        link.awaits = beat.awaits

    @property
    def _awaited(self) -> list[PartyId]:
        """Whose messages are missing, and who has not taken what was sent to it."""
        return list(dict.fromkeys([*self.party.waiting_for, *(link.peer for link in self._unsent)]))

    @property
    def _says(self) -> dict[PartyId, tuple[PartyId, ...]]:
        return {peer: link.waits_for for peer, link in self._open.items() if link.waits_for}

    def _ends(self, began: float) -> float:
        """Return when a wait that began at a time ends, unless somebody shows progress."""
        missing, says, moved = self._awaited, self._says, began
        for peer in reached(missing, says):
            if (link := self._open.get(peer)) is not None:
                moved = max(moved, link.moved, link.heard if link.receiving else began)
                moved = max(moved, link.wrote if link in self._unsent else began)
        # Who waits for somebody that waits for another gives that one the time to say so first.
        grace = all(self._excused(peer, says) for peer in missing)
        return moved + self._timeouts.message_s + grace * 2 * self._timeouts.heartbeat_s

    def _miss_the_late(self, limit_s: float) -> None:
        """Let the program meet who is late: first those who do not say that they wait for others."""
        party, says = self.party, self._says
        needed = {p for g in party._wait if g.quorum is None and g.timeout_s is None for p in g.peers}
        late = [peer for peer in party.waiting_for if peer in needed]
        late.sort(key=lambda peer: self._excused(peer, says))
        kinds = {peer: g.kind.__name__ for g in party._wait for peer in g.peers if peer in g.missing}
        for peer in late:
            text = f"{party.me} waited for {kinds[peer]} from {peer} and nothing came in time ({limit_s:g} s)"
            party.fail(peer, self._late(peer, text, says))

    def _late(self, peer: PartyId, text: str, says: Mapping[PartyId, Sequence[PartyId]]) -> PeerVanishedError:
        word = word_of(peer, self.party.me, says)
        if self._excused(peer, says):
            return PeerVanishedError(
                f"{text}; {word}. Either {peer} keeps it back, or whoever is at the end of this keeps something from "
                f"{peer}. This party cannot know whose doing it is; ask them all"
            )
        more = f" ({word})" if word else ""
        if excused(peer, self.party.me, says):
            more = f"; {word}. {peer} also says that it waits for what comes later than this in the protocol"
        return PeerVanishedError(f"{text}{more}; check that {peer} is running and can be reached", peer=peer)

    def _excused(self, peer: PartyId, says: Says) -> bool:
        """Whether a peer says that it waits for third parties, and for nothing that shows it to have left out a message."""
        link = self._open.get(peer)
        owes = link is not None and self.party.owes(peer, link.awaits)
        return excused(peer, self.party.me, says) and not owes

    def _too_far_ahead(self, link: Link) -> bool:
        ahead = link.held or bool(self.party.overfull(link.peer))
        return ahead and link.peer not in self.party.waiting_for

    def _unpause(self) -> None:
        for link in [link for link in self._paused if not self._too_far_ahead(link)]:
            self._paused.discard(link)
            self._buffered.add(link)
            self._listen_to(link)

    def _bears_loss_of(self, peer: PartyId) -> bool:
        """Whether the program can go on without a peer."""
        party = self.party
        if self._ended or any(gather.quorum is not None for gather in party._wait):
            return True
        return peer in party.optional and peer not in party.waiting_for

    def _lose(self, link: Link, error: SecaggError) -> None:
        """Go on without a peer, or end the run."""
        for links in (self._unsent, self._lent, self._paused, self._buffered):
            links.discard(link)
        with contextlib.suppress(KeyError):
            self._poll.unregister(link)
        del self._by_fd[link.fileno()], self._open[link.peer]
        if link.finished:
            return
        self._losses.append((link, error, self._bears_loss_of(link.peer)))
        if len(self._losses) == 1:  # else the call that looks at this one goes on with it
            self._settle_losses()

    def _settle_losses(self) -> None:
        """Settle each loss behind that of whom the lost one accuses, if that one has left too.

        A list and no recursion, because each of any number of peers may accuse the next.
        """
        while self._losses:
            link, error, bears = loss = self._losses[-1]
            if isinstance(error, AbortedError) and link.peer not in self._accusers:
                self._accusers.add(link.peer)
                self._look_at(error.accused, 0.0 if bears or self._fatal else _HEARSAY_S)
            if self._losses[-1] is loss:
                self._accusers.discard(link.peer)
                self._settle(link, error, bears)
                self._losses.pop()

    def _settle(self, link: Link, error: SecaggError, bears: bool) -> None:
        self.party.fail(link.peer, error)
        if not bears:
            if not self._is_hearsay(error):
                self._fatal = self._fatal or error
        elif not isinstance(error, AbortedError):
            _log.warning("%s goes on without %s: %s", self.party.me, link.peer, error)
            link.send([abort_frame(error, link.peer)])
            link.leave()

    def _is_hearsay(self, error: SecaggError) -> bool:
        """Whether something nearer than what a peer says of another one ends this run.

        What the accused did here is nearer. So is the reason that it gives for its own end, unless all it says is that
        its accuser ended the run. Of two that accuse each other the first one read is believed.
        """
        if not isinstance(error, AbortedError):
            return False
        unsettled = {link.peer: other for link, other, _ in self._losses}
        own = unsettled.get(error.accused) or self.party.failed.get(error.accused)
        if isinstance(own, AbortedError) and own.accused == error.peer:
            if own.passed_on > error.passed_on:
                return False
            if own.passed_on == error.passed_on:
                return error.accused in self._accusers
        return error.accused in self._accusers or self.party.is_lost_without(error.accused)

    def _look_at(self, accused: PartyId, patience_s: float) -> None:
        """See whether a party that another one accuses has left this party too: then it is named for what it did here.

        Args:
          patience_s: how long that may take. Who accuses it may have heard of it first.
        """
        until, poll = time.monotonic() + patience_s, select.poll()
        while (link := self._open.get(accused)) is not None and link not in self._paused:
            self._read(
                link, lambda: False
            )  # what came while this party computed says that the other one lives
            left_s = until - time.monotonic()
            if link.finished or left_s <= 0 or accused not in self._open:
                break
            poll.register(link, select.POLLIN)
            poll.poll(1000 * left_s)
        if (link := self._open.get(accused)) is None or link in self._paused:
            return
        silent_s = time.monotonic() - link.heard
        if silent_s >= self._timeouts.silence_s / 2:
            text = f"nothing came from {accused} for {silent_s:.0f} s, not even a sign of life; check that it is running"
            self._lose(link, PeerVanishedError(text, peer=accused))

    def _beat(self, now: float) -> None:
        idle = [
            link
            for link in self._open.values()
            if not link.unsent and now - link.wrote >= self._timeouts.heartbeat_s
        ]
        if idle:
            awaited = self._awaited if self._waiting else []
            # While somebody does not take what was sent, it is not for a message that the program waits.
            awaits = self.party.awaited_tag if self._waiting and not self._lent else 0
            frame = heartbeat_frame(self._steps, awaited, self.party.roster, awaits)
            for link in idle:
                self._send(link, [frame])

    def _miss_the_silent(self, now: float, began: float) -> None:
        awaited = {self._open[peer] for peer in self.party.waiting_for if peer in self._open}
        # Whoever is made to wait for this party is not heard.
        for link in (awaited | self._unsent) - self._paused:
            if now - max(link.heard, began) >= self._timeouts.silence_s:
                text = (
                    f"nothing came from {link.peer} for {self._timeouts.silence_s:g} s, not even a sign of life; "
                    f"check that it is running and can be reached"
                )
                self._lose(link, PeerVanishedError(text, peer=link.peer))

    def _give_up_sending(self, limit_s: float) -> None:
        for link in list(self._unsent):
            bears = self._bears_loss_of(link.peer) and not self._ended
            if bears and link.unsent <= self._max_unread_bytes:
                link.detach()
            else:
                if bears:
                    link.cut_off()  # nobody waits for it to take the rest
                text = f"{link.peer} lives but took no more of what was sent to it for {limit_s:g} s"
                # Who was found late has been named, or not, by what it owed then.
                self._lose(link, self.party.failed.get(link.peer) or self._late(link.peer, text, self._says))
        self._lent.clear()

    def _report(self) -> None:
        if self._on_progress is None:
            return
        now, phase = time.monotonic(), self.party.ledger.phase
        if now >= self._report_at or phase != self._reported:
            self._report_at, self._reported = now + _TICK_S, phase
            self._on_progress(self.party)


def _told(names: Sequence[PartyId]) -> str:
    if not names:
        return "no other party was connected"
    return f"{', '.join(names)} {'was' if len(names) == 1 else 'were'} told"
