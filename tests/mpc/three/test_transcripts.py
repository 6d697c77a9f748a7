"""All that a computing party draws and receives in an operation is uniform and independent, at real widths.

Shares are the same constants in all lanes and elements, so nothing but masks can make what is seen uniform. Each
operation runs twice in a row: a mask that both use would show. See `transcripts` for statistics and false alarms.
"""

from __future__ import annotations

import numpy as np
import pytest

import transcripts
from eager import SharedArray, from_bits
from secagg.mpc.bits import add, any_plane, at_least, conjunction, less_in_turn, less_than
from secagg.mpc.groups import XOR
from secagg.mpc.merge import merge
from secagg.mpc.numbers import RING64, RingGroup
from secagg.mpc.primitives import Shares
from secagg.mpc.three import inputs as mpc_inputs
from secagg.mpc.three.channel import PairSecret, Reshare
from secagg.mpc.three.comparison import CarrySharing, Thermometers
from secagg.mpc.three.engine import ThreeEngine
from secagg.mpc.three.inputs import InputFromComputing, InputFromOutside, share_input
from secagg.mpc.three.opening import Opening
from secagg.network.simulated import simulate
from transcripts import View, elements, lanes

pytestmark = pytest.mark.slow

THREE = ("ada", "bob", "cleo")
SAMPLES = 2048
WORDS = SAMPLES // 64
ONES = (1 << 64) - 1
# Kinds and purposes of which an array holds planes of lanes. In other ones it holds an element, or a row, a sample.
PLANES = {CarrySharing, Thermometers, "and", "compare"}


class Operations:
    """What the engine can do, on constant shares; `bitwise` ones reshare and input planes of lanes."""

    bitwise = frozenset(
        {
            "conjunction", "where", "any_plane", "less_than", "less_in_turn", "at_least",
            "add", "merge", "ltz", "eqz",
            "to_bits", "floor",
        }
    )  # fmt: skip

    def __init__(self, engine):
        self.engine = engine
        self.fills = [(ONES, 0, ONES)[(engine.channel.index + j) % 3] for j in (0, 1)]

    def planes(self, count):
        shape = (count, WORDS) if count else (WORDS,)
        return Shares(self.engine, XOR, [np.full(shape, f, np.uint64) for f in self.fills])

    def array(self, frac_bits=0, shape=(SAMPLES,)):
        return SharedArray(
            self.engine,
            RingGroup(RING64),
            [np.full(shape, f, np.uint64) for f in self.fills],
            frac_bits=frac_bits,
        )

    async def multiply(self):
        await (self.array() * self.array())

    async def matmul(self):
        await (self.array(shape=(SAMPLES, 2)) @ self.array(shape=(2,)))

    async def multiply_fixed(self):
        await (self.array(16) * self.array(16))

    async def floor(self):
        await (self.array() >> 16)

    async def ltz(self):
        await (self.array() < 0)

    async def eqz(self):
        await (self.array() == 0)

    async def to_bits(self):
        await self.array().bits()

    async def to_integers(self):
        await from_bits(self.planes(0), SAMPLES)

    async def conjunction(self):
        await conjunction(self.planes(3), self.planes(3))

    async def where(self):
        await self.engine.conjunction([(self.planes(0), self.planes(3))])

    async def any_plane(self):
        await any_plane(self.planes(7))

    async def less_than(self):
        await less_than(self.planes(12), self.planes(12))

    async def at_least(self):
        await at_least(self.planes(9), 300)

    async def less_in_turn(self):
        await less_in_turn([(self.planes(0), self.planes(0))] * 4, [(self.planes(0), self.planes(0))] * 2)

    async def add(self):
        await add([self.planes(9)] * 3)

    async def merge(self):
        for block in (1, 2):
            table = Shares(self.engine, XOR, [np.full((10, 4 * WORDS), f, np.uint64) for f in self.fills])
            await merge(table, lengths=(2, 2), key_planes=8, block=block)

    async def shuffle(self):
        rows = (np.full((SAMPLES, 2, 1), f, np.uint64) for f in self.fills)
        await self.engine.shuffle(Shares(self.engine, XOR, list(rows)))

    async def shuffle_together(self):
        rows = (np.full((SAMPLES, 1, 1), f, np.uint64) for f in self.fills)
        await self.engine.shuffle(self.array(shape=(SAMPLES, 1)), Shares(self.engine, XOR, list(rows)))


NAMES = [
    name
    for name in vars(Operations)
    if not name.startswith("_") and name not in ("planes", "array", "bitwise")
]


def as_bits(array, what, *, bitwise):
    if what in PLANES or (bitwise and what in (Reshare, InputFromComputing, "input")):
        return lanes(array, SAMPLES)
    return elements(array, SAMPLES)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_party_draws_and_receives_is_uniform_and_independent_on_constant_shares(name):
    bitwise = name in Operations.bitwise

    async def program(party):
        engine = await ThreeEngine.set_up(party, THREE)
        drawn = transcripts.note_draws(engine)
        for _ in range(2):
            await getattr(Operations(engine), name)()
        return drawn

    outcome = simulate(dict.fromkeys(THREE, program), record=True, insecure_seed=3)
    messages = [m for m in transcripts.sent(outcome.transcript) if type(m.message) is not PairSecret]
    assert all(type(m.message) is not Opening for m in messages)
    for me, drawn in zip(THREE, outcome.values(), strict=True):
        view = View(SAMPLES)
        for number, (what, array) in enumerate(drawn):
            purpose = what.split(" ")[1]
            if purpose != "shuffle/order":  # orders of rows, tested with the shuffle
                view.add(f"{what} {number}", as_bits(array, purpose, bitwise=bitwise))
        for number, m in enumerate(messages):
            for field, array in transcripts.fields(m.message).items() if m.receiver == me else ():
                if array is not None:
                    kind = type(m.message)
                    view.add(f"{kind.__name__}.{field} {number}", as_bits(array, kind, bitwise=bitwise))
        view.check()


@pytest.mark.parametrize("owner", THREE)
@pytest.mark.parametrize("group", [XOR, RingGroup(RING64)], ids=["bits", "numbers"])
@pytest.mark.parametrize("fill", [0, ONES])
def test_two_inputs_of_a_computing_party_are_uniform_and_independent_to_the_others(owner, group, fill):
    async def program(party):
        engine = await ThreeEngine.set_up(party, THREE)
        drawn = transcripts.note_draws(engine)
        for _ in range(2):
            value = np.full(SAMPLES, fill, np.uint64) if party.me == owner else None
            await engine.input(group, owner, (SAMPLES,), value)
        return drawn

    outcome = simulate(dict.fromkeys(THREE, program), record=True, insecure_seed=5)
    messages = transcripts.sent(outcome.transcript)[6:]
    assert [type(m.message) for m in messages] == [InputFromComputing] * 2
    for me, drawn in zip(THREE, outcome.values(), strict=True):
        view = View(SAMPLES)
        for number, (what, array) in enumerate(drawn):
            view.add(f"{what} {number}", elements(array, SAMPLES))
        for number, m in enumerate(messages):
            if m.receiver == me:
                view.add(f"input {number}", elements(m.message.share, SAMPLES))
        view.check()


@pytest.mark.parametrize("group", [XOR, RingGroup(RING64)], ids=["bits", "numbers"])
@pytest.mark.parametrize("fill", [0, ONES])
def test_two_inputs_from_outside_are_uniform_and_independent_to_each_computing_party(group, fill):
    async def compute(party):
        engine = await ThreeEngine.set_up(party, THREE)
        for _ in range(2):
            await engine.input(group, "owner", (SAMPLES,))

    async def give(party):
        for _ in range(2):
            await share_input(party, THREE, group, np.full(SAMPLES, fill, np.uint64))

    programs = dict.fromkeys(THREE, compute) | {"owner": give}
    outcome = simulate(programs, record=True, insecure_seed=6)
    outcome.values()
    messages = [m for m in transcripts.sent(outcome.transcript) if m.sender == "owner"]
    assert [type(m.message) for m in messages] == [InputFromOutside] * 6
    for me in THREE:
        view = View(SAMPLES)
        for number, m in enumerate(messages):
            if m.receiver == me:
                for i, seed in enumerate(m.message.seeds):
                    share = mpc_inputs._expand(group, seed, (SAMPLES,), "owner")
                    view.add(f"seed {i} of {number}", elements(share, SAMPLES))
                if m.message.share is not None:
                    view.add(f"share of {number}", elements(m.message.share, SAMPLES))
        assert len(view.names) == 4
        view.check()
