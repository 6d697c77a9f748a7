"""One of four parties lies: every message of every computing party, altered in every part, one at a time.

    python -m benchmarks.liar                    every primitive and both bank patterns, every alteration
    python -m benchmarks.liar --every 7 --patterns-every 211
    python -m benchmarks.liar --only shuffle zero

Each part of a message is altered by a bit, to a constant, to what the same place held in another session, by exchanged
halves, by an addend, and by leaving it out. And a liar goes on with another share of an operand than it was given, in all
that it sends and vouches for: a consistent error. Where that changes no message it changes no result, and is not counted.

Caught: an honest party's error names the liar, as one of two at most. Opened: an honest party has a result that is wrong, or
any where the lie came before the last round of an opening. In that round it shows to whom it is told alone; others may
have their right result.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from rich.progress import Progress

from benchmarks.alterations import WAYS, Liar, altered, leaves
from secagg.errors import AbortedError, CheatingError, RemoteProtocolError, UsageError
from secagg.mpc.four import inputs, opening
from secagg.mpc.four.broadcast import Echo
from secagg.mpc.four.engine import FourEngine
from secagg.mpc.four.opening import Opening, OutsideOpening
from secagg.mpc.four.shares import shares
from secagg.mpc.groups import XOR, Group
from secagg.mpc.numbers import RingGroup
from secagg.mpc.primitives import Shares
from secagg.network.simulated import Outcome, simulate
from secagg.party import Party, Program
from secagg.patterns.banking import COLLECTORS, STRUCTURING
from secagg.patterns.group_by import GroupByPattern
from secagg.patterns.pattern import Terms
from secagg.protocols.group_by import announce, flagged_rows, in_order
from secagg.protocols.group_by.program import find_announced
from secagg.ring import Ring, to_planes

FOUR = ("ada", "bob", "cleo", "dora")
NUMBERS, BITS = RingGroup(Ring(64)), XOR
N = 4
SET_UP = 9  # messages of a party before an engine is there

Wrap = Callable[[Party], Any]
Share = Callable[..., Shares]
Compute = Callable[[FourEngine, Share], Awaitable[Sequence[Shares]]]


@dataclass(frozen=True)
class Lie:
    """What a party does: alter one message in one way, or use another share of what it was given.

    Attributes:
      number: of its message.
      field, place, way, other: as `altered` takes them.
      share: the index of a share, instead.
    """

    liar: str
    number: int = -1
    field: str = ""
    place: int | None = None
    way: str = ""
    other: Any = None
    share: int | None = None

    def alter(self, message: Any) -> Any:
        return altered(message, self.field, self.place, self.way, self.other)


@dataclass(frozen=True, eq=False)
class Case:
    """Programs of which one party lies.

    Attributes:
      programs: given what wraps each party, the program of each.
      right: the result of each party.
      computing: which of the parties may lie.
    """

    name: str
    programs: Callable[[Wrap, Lie | None], dict[str, Program[Any]]]
    right: dict[str, Any]
    computing: tuple[str, ...] = FOUR


@dataclass
class Run:
    """How a run ended, and what each party sent as it should have."""

    outcome: Outcome[Any]
    parties: dict[str, Liar] = field(default_factory=dict)

    def sent(self, name: str) -> list[tuple[str, Any]]:
        return self.parties[name].sent


def run(case: Case, lie: Lie | None = None, *, seed: int = 1) -> Run:
    """Run a case in the simulator, in which one party lies."""
    parties: dict[str, Liar] = {}

    def wrapped(party: Party) -> Liar:
        lies = lie is not None and party.me == lie.liar and lie.share is None
        parties[party.me] = Liar(party, lie.number if lies and lie else None, lie.alter if lie else None)
        return parties[party.me]

    return Run(simulate(case.programs(wrapped, lie), insecure_seed=seed), parties)


@functools.cache
def honest_run(case: Case) -> Run:
    """Return the run of a case in which nobody lies."""
    done = run(case)
    if not all(
        same(value, case.right[name]) for name, value in done.outcome.results.items() if value is not None
    ):
        raise UsageError(f"{case.name} has a wrong result though nobody lied")
    done.outcome.values()
    return done


def lies(case: Case, every: int = 1, first: int = 0) -> Iterator[tuple[Lie, Any]]:
    """Yield alterations, one in `every`, each with the message that it alters.

    Args:
      every: prime to the number of ways, so that all ways come.
      first: how many of a party's messages are left alone.
    """
    honest, another = honest_run(case), run(case, seed=2)
    count = 0
    for liar in case.computing:
        # What else the parties of a pattern tell each other is not the engine's.
        ours = [number for number, (_, message) in enumerate(honest.sent(liar)) if _is_engines(message)]
        for number in ours[first:]:
            message = honest.sent(liar)[number][1]
            other = another.sent(liar)[number][1]
            for (name, place, _), way in itertools.product(leaves(message), WAYS):
                if altered(message, name, place, way, other) is None:
                    continue
                count += 1
                if count % every == 0:
                    yield Lie(liar, number, name, place, way, other), message


def consistent_lies(case: Case) -> Iterator[Lie]:
    """Yield the consistent errors of a case: each share of each party."""
    if case.name in CONSISTENT:
        for liar, share in itertools.product(case.computing, range(4)):
            if case.computing.index(liar) != share:
                yield Lie(liar, share=share)


def verdict(case: Case, lie: Lie, message: Any, done: Run) -> tuple[bool, bool]:
    """Return whether a lie was caught, and whether something was opened that should not have been."""
    errors = {name: error for name, error in done.outcome.errors.items() if name != lie.liar}
    found = {name: error for name, error in errors.items() if not isinstance(error, AbortedError)}
    caught = bool(found) and all(
        isinstance(error, RemoteProtocolError) and lie.liar in _suspects(error) for error in found.values()
    )
    # These, and a malformed message, show to whom they were told; a share that is opened alone, too.
    to_one = isinstance(message, Opening | OutsideOpening | Echo) or lie.share is not None
    results = {name: value for name, value in done.outcome.results.items() if name != lie.liar}
    # A party that is to receive nothing opens nothing.
    had = {name: value for name, value in results.items() if case.right[name] is not None}
    wrong = any(not same(value, case.right[name]) for name, value in had.items())
    if caught and not to_one and all(isinstance(error, CheatingError) for error in found.values()):
        honest = [name for name in case.computing if name != lie.liar]
        told = {str(found.get(name, "")) for name in honest}
        caught = len(told) == 1 and "" not in told
    return caught, wrong or (bool(had) and not to_one)


def same(value: Any, right: Any) -> bool:
    """Return whether a result is the right one."""
    if isinstance(right, list | tuple):
        return len(value) == len(right) and all(map(same, value, right))
    return bool(np.array_equal(value, right))


def _is_engines(message: Any) -> bool:
    return type(message).__module__.startswith("secagg.mpc.four")


def _suspects(error: RemoteProtocolError) -> tuple[str, ...]:
    return error.suspects if isinstance(error, CheatingError) else (error.peer,)


def splitting(lie: Lie | None) -> Share:
    """Return a function that shares values without a message; a liar that uses another share gets it so."""

    def split(engine: FourEngine, group: Group, values: Any, *, seed: int = 0) -> Shares:
        made_up = np.random.default_rng(seed)
        top = 1 << 64 if group == XOR else NUMBERS.ring.modulus
        secret = np.asarray(values).astype(np.int64).view(np.uint64)
        parts = [made_up.integers(0, top, secret.shape, np.uint64, endpoint=False) for _ in range(3)]
        rest = secret
        for part in parts:
            rest = group.subtract(rest, part)
        parts.append(rest)
        held = {j: parts[j].copy() for j in engine.channel.others}
        if lie is not None and lie.share is not None and engine.party.me == lie.liar and not seed:
            held[lie.share] = group.add(held[lie.share], np.full_like(held[lie.share], (1 << 40) + 3))
        return shares(engine, group, held)

    return split


def primitive(
    name: str, compute: Compute, right: Any, *, to: Sequence[str] = FOUR, owner: bool = False
) -> Case:
    """Return the case of a primitive whose results are opened."""
    values = [np.asarray(value).astype(np.int64).view(np.uint64) for value in right]

    def programs(wrap: Wrap, lie: Lie | None) -> dict[str, Program[Any]]:
        async def computing(party: Party) -> Any:
            engine = await FourEngine.set_up(wrap(party), FOUR)
            opened = await engine.open_each([(x, to) for x in await compute(engine, splitting(lie))])
            return opened if party.me in to else None

        async def give(party: Party) -> None:
            await inputs.share_input(wrap(party), FOUR, NUMBERS, np.arange(N, dtype=np.uint64))

        async def read(party: Party) -> Any:
            wrapped = wrap(party)
            return [await opening.receive_opening(wrapped, FOUR, NUMBERS, value.shape) for value in values]

        outside: dict[str, Program[Any]] = {"owner": give} if owner else {}
        if "reader" in to:
            outside["reader"] = read
        return dict.fromkeys(FOUR, computing) | outside

    results = {name: values if name in to else None for name in (*FOUR, "owner", "reader")}
    return Case(name, programs, results)


A, B = np.arange(N) + 5, np.arange(N) + 70


async def multiply(e: FourEngine, share: Share) -> Sequence[Shares]:
    return [await e.multiply(share(e, NUMBERS, A), share(e, NUMBERS, B, seed=1))]


async def multiply_reals(e: FourEngine, share: Share) -> Sequence[Shares]:
    return [await e.multiply(share(e, NUMBERS, A * 16), share(e, NUMBERS, B * 16, seed=1), 8)]


async def matmul(e: FourEngine, share: Share) -> Sequence[Shares]:
    return [await e.matmul(share(e, NUMBERS, np.arange(8).reshape(4, 2)), share(e, NUMBERS, [7, 9], seed=1))]


async def truncate(e: FourEngine, share: Share) -> Sequence[Shares]:
    return [await e.truncate(share(e, NUMBERS, A * 256), 8)]


async def shift(e: FourEngine, share: Share) -> Sequence[Shares]:
    return [await e.shift(share(e, NUMBERS, B), 3)]


async def conjunction(e: FourEngine, share: Share) -> Sequence[Shares]:
    x, y = share(e, BITS, A), share(e, BITS, [B, A], seed=1)
    return await e.conjunction([(x, y)])


async def exchange(e: FourEngine, share: Share) -> Sequence[Shares]:
    rows, swap = share(e, BITS, [A, B]), share(e, BITS, [-1, 0], seed=1)
    await e.exchange(swap, [(rows[:, :2], rows[:, 2:])])
    return [rows]


async def negative(e: FourEngine, share: Share) -> Sequence[Shares]:
    return [await e.from_bits(await e.negative(share(e, NUMBERS, [3, -1, 0, -9])), NUMBERS, N)]


async def zero(e: FourEngine, share: Share) -> Sequence[Shares]:
    return [await e.from_bits(await e.zero(share(e, NUMBERS, [3, 0, 1, 0])), NUMBERS, N)]


async def to_bits(e: FourEngine, share: Share) -> Sequence[Shares]:
    return [await e.to_bits(share(e, NUMBERS, np.arange(64)))]


async def from_bits(e: FourEngine, share: Share) -> Sequence[Shares]:
    return [await e.from_bits(share(e, BITS, [0b1010]), NUMBERS, N)]


async def shuffle(e: FourEngine, share: Share) -> Sequence[Shares]:
    return await e.shuffle(
        share(e, NUMBERS, np.full((1, N), 7)), share(e, BITS, np.full((1, N, 2), 9), seed=1)
    )


async def own_input(e: FourEngine, _share: Share) -> Sequence[Shares]:
    mine = A.astype(np.uint64) if e.party.me == "bob" else None
    return [await e.input(NUMBERS, "bob", (N,), mine)]


async def outside_input(e: FourEngine, _share: Share) -> Sequence[Shares]:
    return [await e.input(NUMBERS, "owner", (N,))]


async def several(e: FourEngine, share: Share) -> Sequence[Shares]:
    """Operations one after the other and side by side, on what others return."""
    (x,) = await own_input(e, share)
    y, z = await e.party.parallel(e.multiply(x, x), e.multiply(x, x + x))
    return [await e.multiply(y, z), z]


PRIMITIVES = (
    primitive("multiply", multiply, [A * B]),
    primitive("multiply reals", multiply_reals, [A * B]),
    primitive("matmul", matmul, [np.arange(8).reshape(4, 2) @ [7, 9]]),
    primitive("truncate", truncate, [A]),
    primitive("shift", shift, [B >> 3]),
    primitive("conjunction", conjunction, [[A & B, A & A]]),
    primitive("exchange", exchange, [[[7, 6, 5, 8], [72, 71, 70, 73]]]),
    primitive("negative", negative, [[0, 1, 0, 1]]),
    primitive("zero", zero, [[0, 1, 0, 1]]),
    primitive("to bits", to_bits, [to_planes(np.arange(64, dtype=np.uint64), 64)]),
    primitive("from bits", from_bits, [[0, 1, 0, 1]]),
    primitive("shuffle", shuffle, [np.full((1, N), 7), np.full((1, N, 2), 9)]),
    primitive("input", own_input, [A]),
    primitive("input from outside", outside_input, [np.arange(N)], owner=True),
    primitive("opening to some", several, [2 * A**4, 2 * A**2], to=["bob", "reader"]),
    primitive("several", several, [2 * A**4, 2 * A**2]),
)
# Of these a liar uses another share of the first operand.
CONSISTENT = frozenset(case.name for case in PRIMITIVES) - {
    "input",
    "input from outside",
    "opening to some",
    "several",
}


def tries(case: Case, every: int) -> Iterator[tuple[Lie, Any]]:
    """Yield the lies of a case, each with the message that it alters; set-up is attacked in the first case alone."""
    yield from lies(case, every, 0 if case is PRIMITIVES[0] else SET_UP)
    yield from ((lie, None) for i, lie in enumerate(consistent_lies(case)) if i % every == 0)


BANKS = FOUR[:3]


def bank(pattern: GroupByPattern, parameters: Any) -> Case:
    """Return the case of a bank pattern: three of the four put in rows as well. Announcements are not attacked."""
    query = pattern.query(parameters, Terms(FOUR, {"input": BANKS, "computing": FOUR}))
    chooser = np.random.default_rng(5)
    tables, rows = {}, {}
    for name in BANKS:
        who = np.array([f"n{i}" for i in chooser.integers(0, 4, 8)], object)
        cents = chooser.integers(1, 800_000, 8)
        if pattern is COLLECTORS:
            senders = np.array([f"{name}-{i}" for i in chooser.integers(0, 9, 8)], object)
            tables[name] = {"transfers": {"beneficiary": who, "sender": senders, "amount": cents}}
        else:
            tables[name] = {"deposits": {"customer": who, "amount": cents}}
        rows[name] = pattern.group_rows(parameters, tables[name])
    found = pattern.flagged(parameters, tables)

    def programs(wrap: Wrap, _lie: Lie | None) -> dict[str, Program[Any]]:
        async def program(party: Party) -> Any:
            wrapped = wrap(party)
            announced = await announce(party, query, rows.get(party.me))
            findings = await find_announced(wrapped, query, announced)
            return None if findings is None else flagged_rows(rows[party.me], findings)

        return dict.fromkeys(FOUR, program)

    right = {
        name: in_order([(who, *found[who]) for who in rows[name].identifiers.tolist() if who in found])
        for name in BANKS
    }
    if not any(right.values()):
        raise UsageError(f"the made-up rows for {pattern.name} leave nothing to find")
    return Case(pattern.name, programs, {**right, FOUR[3]: None})


PATTERNS = (
    bank(COLLECTORS, COLLECTORS.Parameters(min_senders=4, min_total_cents=100)),
    bank(STRUCTURING, STRUCTURING.Parameters()),
)
CASES = (*PRIMITIVES, *PATTERNS)


def attack(
    case: Case, chosen: Sequence[tuple[Lie, Any]], advance: Callable[[], object]
) -> tuple[int, int, int]:
    """Try lies of a case; return how many were tried, caught, and opened something."""
    tried = caught = opened = 0
    for lie, message in chosen:
        done = run(case, lie)
        advance()
        if lie.share is not None and sent_alike(honest_run(case), done, lie.liar):
            continue
        found, had = verdict(case, lie, message, done)
        tried, caught, opened = tried + 1, caught + found, opened + had
        if had or not found:
            print(f"{case.name}: {lie} of {message!r:.80}: {done.outcome.errors}", file=sys.stderr)
    return tried, caught, opened


def sent_alike(honest: Run, done: Run, liar: str) -> bool:
    """Return whether a party sent the same in two runs."""

    def flat(messages: list[tuple[str, Any]]) -> list[Any]:
        return [value for _, message in messages for _, _, value in leaves(message)]

    before, after = flat(honest.sent(liar)), flat(done.sent(liar))
    return len(before) == len(after) and all(map(partial(np.array_equal), before, after))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [case.name for case in CASES]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="which cases")
    parser.add_argument("--every", type=int, default=1, help="try one alteration of so many")
    parser.add_argument("--patterns-every", type=int, default=1, help="the same for the patterns")
    parser.add_argument("--tiny", action="store_true", help="few alterations of a primitive and of a pattern")
    options = parser.parse_args(argv)
    began, sums = time.perf_counter(), np.zeros(3, np.int64)
    with Progress(transient=True) as progress:
        cases = [case for case in CASES if case.name in options.only]
        for case in [CASES[1], PATTERNS[0]] if options.tiny else cases:
            every = options.patterns_every if case in PATTERNS else options.every
            if options.tiny:
                every = 9973 if case in PATTERNS else 97
            chosen = list(tries(case, every))
            task = progress.add_task(case.name, total=len(chosen))
            counts = attack(case, chosen, partial(progress.advance, task))
            progress.remove_task(task)
            progress.console.print(
                f"{case.name:20s} caught {counts[1]:,d} of {counts[0]:,d}, opened {counts[2]:,d}"
            )
            sums += counts
    print(f"{time.perf_counter() - began:.1f} s")
    print(f"caught {sums[1]:,d} of {sums[0]:,d}, opened {sums[2]:,d}")
    return int(sums[0] != sums[1] or sums[2] > 0)


if __name__ == "__main__":
    raise SystemExit(main())
