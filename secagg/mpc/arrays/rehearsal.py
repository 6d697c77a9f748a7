"""`cost`: what a program costs, before it runs. All computing parties rehearse it in one thread, without values.

Arrays have shapes and no elements. Each call of the engine adds the bytes that it is declared to send. Then the real
engine does the same call on a few zeros, in the same lanes and order. So the rounds are the causal depth of the real run,
which depends on which party's message waits for which, and on how calls in one level interleave.

A kernel that goes on with what it opens declares what it is expected to cost. Where its messages do not depend on values,
as in a permutation, it sends them for a few zeros. Where they do, as in a sort, its rounds are those declared, and the sum
of those of its steps, which some parties begin before others have ended the step before.

The module is long because shapes, calls and opened words of a rehearsal are one object, which takes an engine's place.
"""

from __future__ import annotations

import functools
import math
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NoReturn

import numpy as np

from secagg.cost.operation import Cost
from secagg.errors import ShapeError, UsageError
from secagg.mpc.arrays.dtypes import BoolType, as_dtype
from secagg.mpc.arrays.graph import Call, Kernel, Node, Shape
from secagg.mpc.arrays.lanes import words_of
from secagg.mpc.checkpoints import refreshed
from secagg.mpc.engines import costs_of, receive_opening, set_up, share_input
from secagg.mpc.groups import XOR, Array, Group
from secagg.mpc.numbers import RingGroup
from secagg.mpc.primitives import Primitives, Shares, ring_of
from secagg.party import SESSION_BYTES, Computation, Party, PartyId, Roster, Run
from secagg.wire import Message

_FEW: Final = 64  # elements or words, enough for every party to have a part of the work
_MANY: Final = 1 << 15  # from here on comparisons take other rounds


class Unknown:
    """What an opening gives where there are no values: passing it on is all that can be done with it."""

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def _refuse(self, *_args: Any, **_options: Any) -> NoReturn:
        raise UsageError(
            f"the program goes on with {self._what}, which has no value before it runs; pass values to go on with as "
            "cost(program, shapes, opened=[...]), in the order in which the program opens them"
        )

    __bool__ = __int__ = __float__ = __index__ = __iter__ = __len__ = __array__ = __getitem__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = __hash__ = _refuse
    __neg__ = __abs__ = __invert__ = __and__ = __or__ = __xor__ = __floordiv__ = __mod__ = __pow__ = _refuse
    __matmul__ = __rmatmul__ = __format__ = __str__ = __contains__ = _refuse

    def __getattr__(self, name: str) -> NoReturn:
        self._refuse(name)

    def __repr__(self) -> str:
        return "<unknown>"


class RehearsingParty:
    """A party of a rehearsal: it is a `Party`, and knows what the caller of `cost` said.

    Args:
      shapes: of the inputs that each party announces, in order.
      opened: values of openings, in order, for programs that go on with them.
    """

    def __init__(
        self, party: Party, shapes: Mapping[PartyId, Sequence[Shape]], opened: Sequence[Any]
    ) -> None:
        self.party = party
        self.payload_bytes: dict[PartyId, int] = {}
        self.expected = False  # whether some cost was what is expected of a random one
        self.from_outside: dict[PartyId, int] = {}
        self._shapes = {owner: list(each) for owner, each in shapes.items()}
        self._declared = {owner: frozenset(each) for owner, each in shapes.items() if set(each) != {()}}
        self._opened = list(opened) or None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.party, name)

    async def set_up(self, computing: tuple[PartyId, ...], label: str) -> Rehearsal:
        """Return the engine that rehearses."""
        return Rehearsal(self, await set_up(self.party, computing, label=label))

    def spend(self, cost: Cost, computing: Sequence[PartyId]) -> None:
        """Take note of the bytes of a call."""
        self.expected |= cost.expected
        for i, name in enumerate(computing):
            self.payload_bytes[name] = self.payload_bytes.get(name, 0) + cost.payload_bytes.get(f"P_{i}", 0)

    def announced(self, owner: PartyId) -> Shape:
        """Return the next shape that a party announces."""
        left = self._shapes.get(owner)
        if not left:
            raise UsageError(
                f"the program asks for the shape of another input of {owner}; give it in shapes, in the program's order"
            )
        return left.pop(0)

    def check_declared(self, owner: PartyId, shape: Shape) -> None:
        """Refuse an input of another shape than those that the caller gave for its owner; () alone gives none."""
        declared = self._declared.get(owner)
        if declared is not None and shape not in declared:
            raise ShapeError(
                f"the program shares an input of {owner} of shape {shape}, and shapes says "
                f"{' or '.join(map(str, sorted(declared)))}"
            )

    @property
    def unused(self) -> int:
        """How many of the caller's values no opening has taken."""
        return len(self._opened or ())

    def next_opened(self, x: Any, *, here: bool) -> Any:
        """Return what an opening gives: the next of the caller's values, or what refuses to be used."""
        value: Any = Unknown(f"the opening of {x!r}")
        if self._opened is not None:
            if not self._opened:
                raise UsageError("the program opens more arrays than `opened` has values for")
            value = np.asarray(self._opened.pop(0))
            if value.shape != x.shape:
                raise ShapeError(
                    f"expected a value of shape {x.shape} for the opening of {x!r}, got {value.shape}"
                )
            value = value[()]
        return value if here else None


def _empty(group: Group, shape: Shape) -> Array:
    """Return an array of a shape that takes no memory; it may be written to."""
    return np.lib.stride_tricks.as_strided(np.zeros(1, group.dtype), shape, (0,) * len(shape))


class Rehearsal:
    """`Primitives` without values; see the module's docstring.

    Args:
      party: whose end it is.
      real: the engine that works on a few zeros.
    """

    def __init__(self, party: RehearsingParty, real: Primitives) -> None:
        self.rehearsing = party
        self.party = party.party
        self.computing = real.computing
        self.costs = real.costs
        self._real = real
        self._spend(self.costs.set_up())

    def _spend(self, cost: Cost) -> None:
        self.rehearsing.spend(cost, self.computing)

    def _shares(self, group: Group, shape: Shape) -> Shares:
        return Shares(self, group, (_empty(group, shape),))

    def _zeros(self, group: Group, *shape: int) -> Shares:
        return self._real.public(group, np.zeros(shape, group.dtype))

    def stand_in(self, node: Node) -> Shares:
        """Return a value of a node's shape."""
        shape = (words_of(math.prod(node.shape)),) if isinstance(node.dtype, BoolType) else node.shape
        return self._shares(node.dtype.group, shape)

    async def expect(self, calls: Sequence[Call]) -> list[Any]:
        """Spend what calls of a kernel are expected to cost, and as many rounds; return stand-ins."""
        rounds = 0
        steps: list[Any] = []
        for node, _ in calls:
            if isinstance(node.kernel, Kernel) and node.kernel.expected is not None:
                expected = node.kernel.expected(self.costs, node)
                self._spend(expected)
                if node.kernel.rehearsed is None:
                    rounds = max(rounds, expected.rounds)
                else:
                    steps.append(node.kernel.rehearsed(self._real, node))
        if len(steps) == 1:
            await steps[0]
        elif steps:
            await self.party.parallel(*steps)
        word = self._zeros(XOR, 1)
        for _ in range(rounds):
            await self._real.conjunction([(word, word)])
        return [self.stand_in(node) for node, _ in calls]

    def public(self, group: Group, value: Array) -> Shares:
        return self._shares(group, value.shape)

    async def input(
        self,
        group: Group,
        owner: PartyId,
        shape: Shape,
        value: Array | None = None,  # noqa: ARG002
        *,
        owner_sent_before: Collection[type[Message]] = (),
        name: bytes = b"",  # noqa: ARG002  # owners of zeros do not know it
    ) -> Shares:
        x, inside = self._shares(group, shape), owner in self.computing
        self._spend(self.costs.input(x.nbytes, self.computing.index(owner) if inside else None))
        zero = np.zeros(1, np.uint64) if owner == self.party.me else None
        await self._real.input(XOR, owner, (1,), zero, owner_sent_before=owner_sent_before)
        return x

    async def open(self, x: Shares, to: Sequence[PartyId] | None = None) -> Array | None:
        return (await self.open_each([(x, self.computing if to is None else to)]))[0]

    async def open_each(
        self,
        values: Sequence[tuple[Shares, Sequence[PartyId]]],
        names: Sequence[bytes] = (),  # noqa: ARG002  # nobody outside reads what is opened
    ) -> list[Array | None]:
        for x, to in values:
            inside = [self.computing.index(p) for p in to if p in self.computing]
            outside = [self.party.roster.index(p) for p in to if p not in self.computing]
            self._spend(self.costs.open(x.nbytes, inside, outside=outside))
        await self._real.open_each([(self._zeros(x.group, 1), to) for x, to in values])
        return [x.parts[0] if self.party.me in to else None for x, to in values]

    async def check(self) -> None:
        self._spend(self.costs.check())
        await self._real.check()

    async def multiply(self, x: Shares, y: Shares, frac_bits: int = 0) -> Shares:
        if x.shape != y.shape:
            raise ShapeError(f"expected two arrays of one shape, got {x.shape} and {y.shape}")
        return await self._product(x.group, x.shape, frac_bits)

    async def matmul(self, x: Shares, y: Shares, frac_bits: int = 0) -> Shares:
        return await self._product(x.group, (*x.shape[:-1], *y.shape[1:]), frac_bits)

    async def _product(self, group: Group, shape: Shape, frac_bits: int) -> Shares:
        z = self._shares(group, shape)
        self._spend(self.costs.multiply(z.size, ring_of(z).ring, frac_bits))
        few = self._zeros(group, min(z.size, _FEW))
        await self._real.multiply(few, few, frac_bits)
        return z

    async def truncate(self, x: Shares, frac_bits: int) -> Shares:
        self._spend(self.costs.truncate(x.size, ring_of(x).ring, frac_bits))
        await self._real.truncate(self._zeros(x.group, min(x.size, _FEW)), frac_bits)
        return self._shares(x.group, x.shape)

    async def shift(self, x: Shares, bits: int) -> Shares:
        self._spend(self.costs.shift(x.size, ring_of(x).ring, bits))
        await self._real.shift(self._as_many(x), bits)
        return self._shares(x.group, x.shape)

    def _as_many(self, x: Shares) -> Shares:
        return self._zeros(x.group, _MANY if x.size >= _MANY else min(x.size, _FEW))

    async def conjunction(self, pairs: Sequence[tuple[Shares, Shares]]) -> list[Shares]:
        words = sum(y.size for _, y in pairs)
        self._spend(self.costs.conjunction(words))
        few = self._zeros(XOR, min(words, _FEW))
        await self._real.conjunction([(few, few)])
        return [self._shares(XOR, y.shape) for _, y in pairs]

    async def open_conjunction(self, x: Shares, y: Shares, z: Shares) -> Array:  # noqa: ARG002
        self._spend(self.costs.open_conjunction(z.size))
        few = self._zeros(XOR, min(z.size, _FEW))
        await self._real.open_conjunction(few, few, few)
        return z.parts[0]

    async def exchange(self, swap: Shares, views: Sequence[tuple[Shares, Shares]]) -> None:
        self._spend(self.costs.exchange(sum(earlier.size for earlier, _ in views)))
        few = min(swap.size, _FEW)
        await self._real.exchange(
            self._zeros(XOR, few), [(self._zeros(XOR, 1, few), self._zeros(XOR, 1, few))]
        )

    async def negative(self, x: Shares) -> Shares:
        self._spend(self.costs.negative(x.size, ring_of(x).ring))
        await self._real.negative(self._as_many(x))
        return self._shares(XOR, (words_of(x.size),))

    async def zero(self, x: Shares) -> Shares:
        self._spend(self.costs.zero(x.size, ring_of(x).ring))
        await self._real.zero(self._as_many(x))
        return self._shares(XOR, (words_of(x.size),))

    async def to_bits(self, x: Shares) -> Shares:
        self._spend(self.costs.to_bits(x.size, ring_of(x).ring))
        await self._real.to_bits(self._as_many(x))
        return self._shares(XOR, (ring_of(x).ring.bits, words_of(x.size)))

    async def from_bits(self, bits: Shares, group: RingGroup, n: int) -> Shares:  # noqa: ARG002
        self._spend(self.costs.from_bits(n, group.ring))
        few = min(n, _FEW)
        await self._real.from_bits(self._zeros(XOR, words_of(few)), group, few)
        return self._shares(group, (n,))

    async def refresh(self, kept: Sequence[tuple[Group, Shape]]) -> list[Shares]:
        """Return shares of what other sessions kept, of which the shapes are known; see `mpc.checkpoints`."""
        await refreshed(self._real, [(XOR, self._zeros(XOR, 1).parts)])
        return [self._shares(group, shape) for group, shape in kept]

    async def shuffle(self, *arrays: Shares) -> list[Shares]:
        self._spend(self.costs.shuffle(*(x.nbytes for x in arrays)))
        await self._real.shuffle(*(self._zeros(x.group, 1, min(x.shape[1], 4)) for x in arrays))
        return [self._shares(x.group, x.shape) for x in arrays]


def cost(
    program: Callable[[Party], Computation[Any]],
    shapes: Mapping[PartyId, Shape | Sequence[Shape]],
    *,
    computing: Sequence[PartyId] | None = None,
    opened: Sequence[Any] = (),
    outside: Mapping[PartyId, Callable[[Party], Computation[Any]]] | None = None,
) -> Cost:
    """Return what a program costs its computing parties: rounds, and bytes of arrays that each sends.

    No value of an input is read, and values that the program passes may be missing.

    Args:
      program: as it runs at a computing party.
      shapes: for each party of the roster, in its order, the shape of its input, or the shapes of several. They are
        what `Engine.announce` returns. Inputs of other shapes are refused; () stands for a party of which nothing is said.
      computing: the computing parties; by default all.
      opened: for programs that go on with what they open: the values of all openings, in order.
      outside: what parties run that do not compute: `share_nothing` for each input, `receive_nothing` for each opening, and
        their other messages. Then the rounds are those of all parties. A party without one shares its inputs.

    Raises:
      UsageError: the program goes on with an opened value that was not given, or leaves some of `opened`; or the
        computing parties are neither three nor four.
      ShapeError: an input has none of the shapes that were given for its owner.
    """
    names = tuple(shapes) if computing is None else tuple(computing)
    costs_of(names)
    given = {name: _several(each) for name, each in shapes.items()}
    others = dict(outside or {})
    counts: dict[PartyId, int] = {}
    while True:
        parties: dict[PartyId, RehearsingParty] = {}

        async def rehearse(party: Party, parties: dict[PartyId, RehearsingParty] = parties) -> None:
            parties[party.me] = RehearsingParty(party, given, opened)
            await program(parties[party.me])  # type: ignore[arg-type]  # it has all that a party has

        programs: dict[PartyId, Any] = {
            name: rehearse
            if name in names
            else others.get(name, functools.partial(_share_zeros, names, counts.get(name, 0)))
            for name in given
        }
        stuck, depth = _play(programs)
        found = {name: n for name, n in parties[names[0]].from_outside.items() if name not in others}
        if found == counts:
            break
        counts = found  # inputs from outside have to come, and now it is known how many
    if stuck is not None:
        raise stuck
    if unused := parties[names[0]].unused:
        raise UsageError(
            f"the program leaves {unused} of the {len(opened)} values in `opened`; give one for each opening"
        )
    rounds = max(depth[name] for name in (*names, *others))
    first = parties[names[0]]
    sent = {name: first.payload_bytes.get(name, 0) for name in names}
    return Cost(rounds, sent, expected=first.expected)


def _play(
    programs: Mapping[PartyId, Callable[[Party], Computation[Any]]],
) -> tuple[UsageError | None, dict[PartyId, int]]:
    """Run a program a party in this thread, until nobody goes on.

    Returns:
      An error if somebody still waits then, and the causal depth at each party.
    """
    roster, session = Roster(tuple(programs)), secrets.token_bytes(SESSION_BYTES)
    parties = {name: Party(name, roster, session=session) for name in roster}
    runs = [Run(party, programs[name](party)) for name, party in parties.items()]
    for run in runs:
        run.start()
    moved = True
    while moved:
        moved = False
        for run in runs:
            outbox = run.party.outbox
            while outbox:
                to, frame, _ = outbox.popleft()
                parties[to].deliver(bytearray().join(frame), run.party.me)  # receivers work in place
            moved = run.step() or moved
            if run.error is not None:
                raise run.error
    depth = {run.party.me: run.party.ledger.depth for run in runs}
    waiting = next((run for run in runs if not run.done), None)
    if waiting is None:
        return None, depth
    awaited = ", ".join(waiting.party.waiting_for)
    return UsageError(
        f"{waiting.party.me} waits for messages of {awaited} that a rehearsal does not have"
    ), depth


async def share_nothing(party: Party, computing: Sequence[PartyId]) -> None:
    """Share an input in a rehearsal, at a party that does not compute."""
    lane = party.next_lane(party.me)
    await party.parallel(share_input(party, computing, XOR, np.zeros(1, np.uint64)), lanes=[lane])


async def receive_nothing(party: Party, computing: Sequence[PartyId], dtype: Any) -> None:
    """Receive an opening in a rehearsal, at a party that does not compute."""
    await receive_opening(party, computing, as_dtype(dtype).group, (1,))


async def _share_zeros(computing: Sequence[PartyId], count: int, party: Party) -> None:
    for _ in range(count):
        await share_nothing(party, computing)


def _several(shapes: Any) -> list[Shape]:
    if isinstance(shapes, int):
        return [(shapes,)]
    return [tuple(shapes)] if all(isinstance(n, int) for n in shapes) else [tuple(s) for s in shapes]
