"""Programs of four computing parties of which one may lie: every primitive, and both bank patterns."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.alterations import Liar, altered
from secagg.errors import UsageError
from secagg.mpc.four import inputs, opening
from secagg.mpc.four.engine import FourEngine
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
BANKS = FOUR[:3]  # who puts in rows
NUMBERS, BITS = RingGroup(Ring(64)), XOR
N = 4

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


def same(value: Any, right: Any) -> bool:
    """Return whether a result is the right one."""
    if isinstance(right, list | tuple):
        return len(value) == len(right) and all(map(same, value, right))
    return bool(np.array_equal(value, right))


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
# Of these a liar uses another share of the first operand.BANKS = FOUR[:3]


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
