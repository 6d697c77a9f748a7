"""Steps of shards, each in a session of the parties' workers, and again where a worker was lost.

In the main session, for as many shards at a time as each party has workers:

  certificates   each party makes a key and a certificate for each of its workers, for this attempt alone, and tells all
                 others the certificates
  heard          each party tells all others the digests of what it was told; before a worker starts, all compare them
  (work)         each party starts its workers, which meet as the parties of an ordinary session; what they compare when they
                 meet are main session, step, shard, attempt, all that is public of the work, and all certificates
  ended          each party tells all others which of its workers ended well; a shard is done where all of them did
  heard          as above, of those words

A shard that is not done is done again, in at most `MOST_ATTEMPTS` attempts a step, with new keys, and so with new masks. It
is computed at any place, and opened at the place that computed it. A worker that ends with an error that would come again
ends the run, with that error.

Threat model: that of the step. A certificate is vouched for by who told it, in an authenticated session. A party that tells
a certificate that is none, or not its own, is named. One that tells two others different things ends the run. Nothing is
signed, so an honest party names it together with the party whose word stands against its own. A party that says that a
worker was lost has a step repeated; docs/soundness-shards.md says why that tells nothing.

Learns: everybody, which parties lost workers. Cost, n parties: 4 rounds a turn, 4 (n - 1) messages from each, no arrays.

The module is long because a step, its attempts and what is told of them are one conversation.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization

from secagg.errors import PeerMissingError, RemoteProtocolError, UsageError
from secagg.jobs.checkpoints import UnwritableError
from secagg.jobs.job import Address
from secagg.jobs.plain import decode, encode
from secagg.jobs.shards import worker
from secagg.jobs.shards.gathering import gathered
from secagg.jobs.shards.sharded import COMPUTE, Plain, Sharded
from secagg.jobs.shards.worker import raised
from secagg.jobs.shards.workers import Workers
from secagg.network.identity import (
    Identity,
    certificate_pem,
    check_certificate,
    create_identity,
    load_certificate,
)
from secagg.network.tcp import Timeouts
from secagg.party import Party, PartyId
from secagg.prg import KEY_BYTES
from secagg.protocols.announcements import check_heard
from secagg.release import RELEASE
from secagg.signing import digest
from secagg.wire import Message

MOST_ATTEMPTS: Final = 5
_LABEL: Final = "secagg.jobs.shards"
_PEM_BYTES: Final = 4096
_VALID_DAYS: Final = 30  # longer than any step may take
# How a worker ended. Lost is also one that its own machine kept from its work.
_WELL, _BY_ANOTHER, _LOST = range(3)


class WorkerCertificates(Message, frozen=True):
    """Everybody -> everybody: the certificates of the sender's workers in a turn, in PEM, by place."""

    turn: int
    certificates: list[bytes]


class WorkersEnded(Message, frozen=True):
    """Everybody -> everybody: how each of the sender's workers ended in a turn, by place."""

    turn: int
    ended: list[int]


class WordsHeard(Message, frozen=True):
    """Everybody -> everybody: digests of what each party told the sender in a turn, in the order of parties."""

    turn: int
    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Workplace:
    """What a party has for work on shards.

    Args:
      workers: this party's.
      folder: where they keep shards. All of them reach it, or it is each machine's own and a place is always on one.
      memory_bytes: of address space that each worker may take; None for any.
    """

    workers: Workers
    folder: Path
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known of work on shards while it goes on.

    Attributes:
      done: what the record says of each step of each shard that is done: attempts, whose workers were lost in
        each attempt before, ledger, peak memory, processor time.
      news: what the people who run it are to be told, oldest first; whoever tells them takes it out.
      report: called a few times a second while workers work, in the thread that waits for them.
    """

    done: list[dict[str, Any]] = field(default_factory=list)
    news: list[str] = field(default_factory=list)
    report: Callable[[], None] = field(default=lambda: None, repr=False)

    @property
    def sent_bytes(self) -> int:
        """What this party's workers have sent, whole frames."""
        return sum(int(one["ledger"]["total"]["sent"]["frame_bytes"]) for one in self.done)


@dataclass(frozen=True, slots=True)
class Work:
    """Who works on the shards of a run. All parties have as many shards, as many addresses, and the same timeouts.

    Args:
      here: what this party has.
      addresses: of each party, where its workers are reached, by place; as many of each.
      shards: a power of two.
      module: what workers run.
    """

    here: Workplace
    addresses: Mapping[PartyId, Sequence[Address]]
    shards: int
    timeouts: Timeouts = field(default_factory=Timeouts)
    module: str = worker.__name__

    def __post_init__(self) -> None:
        places = {name: len(told) for name, told in self.addresses.items()}
        if len(set(places.values())) != 1 or 0 in places.values():
            raise UsageError(f"expected as many workers of each party, one at least, got {places}")

    @property
    def places(self) -> int:
        """How many shards are worked on at a time."""
        return len(next(iter(self.addresses.values())))


class Attempts:
    """Has workers do the steps of one run.

    Args:
      party: in the main session.
      sharded: what is worked on.
      watch: what is told how far it is.
    """

    def __init__(
        self,
        party: Party,
        work: Work,
        sharded: Sharded,
        watch: Watch | None = None,
    ) -> None:
        if set(work.addresses) != set(party.roster):
            raise UsageError(
                f"expected workers of all parties {', '.join(party.roster)}, got those of {', '.join(work.addresses)}"
            )
        self._party, self._work, self._sharded = party, work, sharded
        self._key = secrets.token_bytes(KEY_BYTES)
        # Parties that are tried out on one machine may share a folder.
        self._folder = work.here.folder / party.session.hex()[:32] / party.me
        self._turn = 0
        self._kept: dict[int, str] = {}  # of each shard, the attempt whose shares are kept
        self._kept_at: dict[int, int] = {}  # and the place that it had: another's folder may not be the same
        self._watch = Watch() if watch is None else watch

    async def step(self, step: str) -> list[Plain]:
        """Have all shards' workers do a step; return what came of each shard.

        Raises:
          PeerMissingError: a shard's workers were lost too often.
          and what workers raised that would come again.
        """
        results: dict[int, Plain] = {}
        tried: Counter[int] = Counter()
        lost: dict[int, list[list[PartyId]]] = {}  # of each shard, whose workers were lost, by attempt
        left = list(range(self._sharded.shards))
        while left:
            turn = self._next(step, left)
            left = [shard for shard in left if shard not in turn.values()]
            answers, ended = await self._one_turn(step, turn, tried)
            for i, shard in enumerate(turn.values()):
                tried[shard] += 1
                those = {name: how[i] for name, how in ended.items() if how[i] != _WELL}
                answer = answers[i]
                if answer is not None and not those:
                    results[shard] = answer["result"]
                    self._note(step, shard, tried[shard], lost.get(shard, []), answer)
                elif tried[shard] < MOST_ATTEMPTS:
                    left.append(shard)
                    lost.setdefault(shard, []).append(_losers(those))
                    self._watch.news.append(_again(step, shard, tried[shard], those))
                else:
                    raise self._lost_too_often(step, shard, those)
        return [results[shard] for shard in range(self._sharded.shards)]

    def close(self) -> None:
        """Delete what workers kept in this party's folder, where it can be reached from here."""
        shutil.rmtree(self._folder, ignore_errors=True)
        for folder in (self._folder.parent, self._work.here.folder):
            with contextlib.suppress(OSError):  # another run or party has something there
                folder.rmdir()

    def _next(self, step: str, left: Sequence[int]) -> dict[int, int]:
        """Return the shard of each place in the next turn."""
        if step == COMPUTE:
            return dict(enumerate(left[: self._work.places]))
        turn: dict[int, int] = {}
        for shard in left:
            turn.setdefault(self._kept_at[shard], shard)
        return dict(sorted(turn.items()))

    async def _one_turn(
        self, step: str, turn: Mapping[int, int], tried: Mapping[int, int]
    ) -> tuple[list[Plain | None], dict[PartyId, list[int]]]:
        """Return what this party's workers answered, None for each that was lost, and how everybody's ended."""
        party, work = self._party, self._work
        self._turn += 1
        own = [create_identity(party.me, valid_days=_VALID_DAYS) for _ in turn]
        mine = WorkerCertificates(self._turn, [certificate_pem(one.certificate) for one in own])
        party.broadcast(mine)
        size = _PEM_BYTES * len(turn)
        told = {party.me: mine} | await party.gather(WorkerCertificates, party.others, max_bytes=size)
        for name, message in told.items():
            self._check(name, message.turn, len(message.certificates), len(turn))
            _check_certificates(name, message.certificates)
        await self._compare({name: message.certificates for name, message in told.items()}, "no worker began")
        started, tasks, shards = [], [], list(turn.values())
        for i, (place, shard) in enumerate(turn.items()):
            certificates = {name: told[name].certificates[i] for name in party.roster}
            told_address = work.addresses[party.me][place]
            tasks.append(self._task(step, place, shard, tried[shard] + 1, own[i], certificates))
            try:
                started.append(work.here.workers.start(place, told_address, work.module, encode(tasks[-1])))
            except BaseException:  # such as a machine that is not in the cluster
                work.here.workers.end(started)
                raise

        found: list[Plain | None] = [None] * len(tasks)

        def note_end(i: int, encoded: bytes | None) -> None:
            found[i] = answer = None if encoded is None else decode(encoded)
            if answer is not None and "error" in answer and not answer["lost"]:  # it would come again
                raise raised(answer, f"{party.me}'s worker of shard {shards[i]}")
            if news := _ended_badly(party.me, step, shards[i], answer):
                self._watch.news.append(news)

        # Once all have said how theirs ended, nobody waits for one that was lost.
        with gathered(work.here.workers, started, tasks, note_end, self._watch.report):
            words = await self._ended(found)
        ended = {name: one.ended for name, one in words.items()}
        await self._compare({name: [bytes(how)] for name, how in ended.items()}, "the run ends")
        return [answer if _how(answer) == _WELL else None for answer in found], ended

    async def _ended(self, found: Sequence[Plain | None]) -> dict[PartyId, WorkersEnded]:
        """Return what everybody says of how its workers ended.

        Args:
          found: what this party's answered.
        """
        party = self._party
        word = WorkersEnded(self._turn, [_how(answer) for answer in found])
        party.broadcast(word)
        words = {party.me: word} | await party.gather(WorkersEnded, party.others)
        for name, one in words.items():
            self._check(name, one.turn, len(one.ended), len(found))
            if not set(one.ended) <= {_WELL, _BY_ANOTHER, _LOST}:
                raise RemoteProtocolError(
                    f"expected 0, 1 or 2 for how each worker ended from {name}, got {one.ended}", peer=name
                )
        return words

    async def _compare(self, told: Mapping[PartyId, Sequence[bytes]], outcome: str) -> None:
        """Compare with everybody what each party told in this turn.

        Raises:
          RemoteProtocolError: a party told two others different things, or says that another one did.
        """
        party, turn = self._party, self._turn.to_bytes(8, "big")
        mine = {
            name: digest(f"{_LABEL}/heard", [party.session, turn, name.encode(), *told[name]])
            for name in party.roster
        }
        party.broadcast(WordsHeard(self._turn, tuple(mine.values())))
        heard = await party.gather(WordsHeard, party.others)
        for name, message in heard.items():
            if message.turn != self._turn:
                raise RemoteProtocolError(
                    f"expected digests of turn {self._turn} from {name}, got those of turn {message.turn}",
                    peer=name,
                )
        # Any party may lie of its own workers, so none is trusted more than another.
        check_heard(party.me, mine, {name: one.digests for name, one in heard.items()}, party.roster, outcome)

    def _task(
        self,
        step: str,
        place: int,
        shard: int,
        attempt: int,
        own: Identity,
        certificates: Mapping[PartyId, bytes],
    ) -> Plain:
        party, work, sharded = self._party, self._work, self._sharded
        name = f"{shard}-{attempt}"
        if step == COMPUTE:
            # Of the last attempt, which is the one that is done.
            self._kept[shard], self._kept_at[shard] = name, place
        return {
            "release": RELEASE,
            "step": step,
            "me": party.me,
            "run": party.session,
            "attempt": f"{step}-{name}",
            "kept": self._kept[shard],
            "folder": str(self._folder),
            "kept_key": self._key,
            "kind": sharded.kind,
            "public": sharded.public,
            "shard": shard,
            "own": sharded.own(shard),
            "listen": list(work.here.workers.address(place, work.addresses[party.me][place])),
            "peers": [[who, *work.addresses[who][place], certificates[who]] for who in party.roster],
            "secret_key": own.secret_key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            "timeouts": list(astuple(work.timeouts)),
            "memory_bytes": work.here.memory_bytes,
        }

    def _check(self, name: PartyId, turn: int, count: int, expected: int) -> None:
        if (turn, count) != (self._turn, expected):
            raise RemoteProtocolError(
                f"expected word of {expected} workers in turn {self._turn} from {name}, got {count} in turn {turn}; do both "
                "run the same job and release?",
                peer=name,
            )

    def _note(
        self, step: str, shard: int, attempts: int, lost: Sequence[Sequence[PartyId]], answer: Plain
    ) -> None:
        about = {"step": step, "shard": shard, "attempts": attempts, "lost": lost}
        about |= {name: answer[name] for name in ("peak_bytes", "processor_s")}
        self._watch.done.append({**about, "ledger": json.loads(answer["ledger"])})

    def _lost_too_often(self, step: str, shard: int, ended: Mapping[PartyId, int]) -> PeerMissingError:
        losers = _losers(ended)
        whose = " and ".join(losers) or "nobody, by their own word"
        return PeerMissingError(
            f"the workers of shard {shard} were lost {MOST_ATTEMPTS} times in the step {step}; those of the last attempt by "
            f"{whose}; see that workers have enough memory and disk and reach each other, and start the run anew",
            peer=losers[0] if losers else "",
        )


def _losers(ended: Mapping[PartyId, int]) -> list[PartyId]:
    return [name for name, how in ended.items() if how == _LOST]


def _again(step: str, shard: int, attempts: int, ended: Mapping[PartyId, int]) -> str:
    """Return in words whose worker was lost, and what comes of it."""
    losers = _losers(ended)
    were = (
        f"workers of {' and '.join(losers)} were" if len(losers) > 1 else f"worker of {''.join(losers)} was"
    )
    what = f"the {were} lost" if losers else "the workers did not reach each other"
    return f"{what} in the step {step} of shard {shard}, which is done again (attempt {attempts + 1} of {MOST_ATTEMPTS})"


def _check_certificates(name: PartyId, certificates: Sequence[bytes]) -> None:
    try:
        for pem in certificates:
            check_certificate(load_certificate(pem), name=name)
    except UsageError as error:
        raise RemoteProtocolError(
            f"expected certificates of {name}'s workers from {name}: {error}", peer=name
        ) from None


def _ended_badly(me: PartyId, step: str, shard: int, answer: Plain | None) -> str:
    """Return in words, for a party's own people, how its worker was lost or lost another's; "" where it ended otherwise."""
    whose = f"{me}'s worker of shard {shard}"
    if answer is None:
        return f"{whose} was lost in the step {step}; others' workers that wait for it are told"
    if fault := _own_fault(answer):
        return f"{whose} ended: {fault}"  # it names folders, which are nobody else's business
    if "error" in answer and answer["lost"] and (other := answer["accused"] or answer["peer"]):
        return f"{whose} ended in the step {step}, as {other}'s was lost or could not be reached"
    return ""


def _how(answer: Plain | None) -> int:
    if answer is None or _own_fault(answer):
        return _LOST
    if "error" in answer:
        return _BY_ANOTHER
    return _WELL if "result" in answer else _LOST


def _own_fault(answer: Plain | None) -> str:
    """Return what kept a worker from its work at its own machine; "" for nothing, and for what others did."""
    if answer is None or answer.get("error") != UnwritableError.__name__:
        return ""
    return str(answer["text"])


@contextlib.contextmanager
def attempts(party: Party, work: Work, sharded: Sharded, watch: Watch | None = None) -> Iterator[Attempts]:
    """Return what has workers do the steps of a run; in the end what they kept is deleted."""
    made = Attempts(party, work, sharded, watch)
    try:
        yield made
    finally:
        made.close()
