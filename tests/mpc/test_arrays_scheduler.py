"""Independent operations share rounds and messages, whatever the program's order; what nothing needs is freed."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from clear import run_clear
from secagg import mpc
from secagg.errors import RemoteProtocolError, UsageError
from secagg.mpc.arrays.agreement import GraphDigest, GraphNode, GraphNodes, _first_difference, compare, part
from secagg.mpc.arrays.engine import Engine
from secagg.mpc.arrays.lanes import join_bits, pack, split_bits, unpack
from secagg.mpc.clear import ClearEngine
from secagg.mpc.groups import XOR
from secagg.network.simulated import simulate

NAMES = ("ada", "bob", "cleo")
VALUES = np.arange(-50, 50)
OPERATIONS = {
    "products": lambda x: x * (x + 1),
    "comparisons": lambda x: x > 7,
    "equalities": lambda x: x == 7,
    "conversions": lambda x: (x > 7).astype(int),
    "all at once": lambda x: [x * x, x > 7, x // 4, x == 3],
}


def simulated(program):
    """Return the results and the ledgers of one program at three parties."""
    run = simulate(dict.fromkeys(NAMES, program), insecure_seed=5)
    return run.values(), list(run.ledgers.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_hundred_operations_cost_the_rounds_and_messages_of_one(name):
    operation = OPERATIONS[name]

    def program(count):
        async def start(party):
            engine = await Engine.create(party)
            x = engine.share(VALUES if party.me == "ada" else None, owner="ada", shape=VALUES.shape)
            results = [operation(x[i : i + 1]) for i in range(count)]
            flat = [r for each in results for r in (each if isinstance(each, list) else [each])]
            return await engine.open(*flat)

        return start

    (one, *_), alone = simulated(program(1))
    (hundred, *_), together = simulated(program(100))
    assert hundred[: len(one)] == one
    expected = operation(VALUES)
    flat = np.stack(expected, 1).reshape(-1) if isinstance(expected, list) else expected
    assert np.array_equal(np.concatenate(hundred), flat)
    assert [t.depth for t in together] == [t.depth for t in alone]
    assert [t.total().sent.messages for t in together] == [t.total().sent.messages for t in alone]


def test_different_kernels_of_a_level_take_the_rounds_of_the_deepest():
    def program(expression):
        async def start(party):
            engine = await Engine.create(party)
            x = engine.share(VALUES if party.me == "ada" else None, owner="ada", shape=VALUES.shape)
            await engine.open(*expression(x))

        return start

    depth = [
        max(ledger.depth for ledger in simulated(program(e))[1])
        for e in (lambda x: [x > 0], lambda x: [x > 0, x * x, (x + 1) == x, x // 2 + x])
    ]
    comparison_and_more, shift = depth[1] - depth[0], 4
    assert 0 <= comparison_and_more <= shift


class Counting(ClearEngine):
    """Counts products."""

    calls = 0

    async def multiply(self, x, y, frac_bits=0):
        self.calls += 1
        return await super().multiply(x, y, frac_bits)


def test_equal_nodes_are_one_call_and_a_value_is_worked_out_once():
    async def program(primitives):
        counting = Counting(primitives.party)
        engine = Engine(counting)
        x = engine.public(np.arange(6))
        products = [x * (x + i) for i in range(10)]
        assert counting.calls == 0  # nothing runs before an opening
        await engine.open(*products)
        assert counting.calls == 1
        assert (await products[3].open() == np.arange(6) * np.arange(3, 9)).all()
        assert counting.calls == 1
        y = products[0] * products[0]
        assert (await y.open() == await (products[0] * products[0]).open()).all()
        assert counting.calls == 3

    run_clear(program)


class Recording(ClearEngine):
    """Keeps what is opened."""

    async def open_each(self, values, names=()):
        self.opened = [x.parts[0].copy() for x, _ in values]
        return await super().open_each(values, names)


def test_an_opening_of_bits_shows_no_lane_beyond_them():
    async def program(primitives):
        recording = Recording(primitives.party)
        x = Engine(recording).public(np.arange(5))
        await (x >= 0).open()  # an engine in the clear sets the lanes that nobody may read
        return recording.opened[0].tolist()

    assert run_clear(program) == [0b11111]


@pytest.mark.parametrize("sizes", [(1, 64), (64, 1), (100, 64), (64, 128, 3), (5, 0, 64), (64, 7, 64)])
def test_packed_bits_are_joined_without_gaps_and_split_again(sizes):
    async def program(engine):
        rng = np.random.default_rng(sum(sizes))
        bits = [rng.integers(0, 2, n).astype(np.uint8) for n in sizes]
        joined = join_bits([engine.public(XOR, pack(b)) for b in bits], sizes)
        apart = [unpack(s.parts[0], n) for s, n in zip(split_bits(joined, sizes), sizes, strict=True)]
        return bits, unpack(joined.parts[0], sum(sizes)), apart

    bits, together, apart = run_clear(program)
    assert together.tolist() == np.concatenate(bits).tolist()
    assert all(np.array_equal(a, b) for a, b in zip(apart, bits, strict=True))


def test_a_value_is_freed_when_nothing_needs_it_any_more():
    megabyte = 1 << 17

    async def program(primitives):
        engine = Engine(primitives)
        x = engine.public(np.ones(megabyte, np.int64))
        for step in range(40):
            x = x * x if step % 2 else x + x[::-1]
        tracemalloc.start()
        total = await x.sum().open()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return total, peak

    _, peak = run_clear(program)
    assert peak < 8 * 8 * megabyte  # of 40 values of a megabyte


def test_results_of_operations_that_ran_together_keep_memory_of_their_own():
    async def program(primitives):
        x = Engine(primitives).public(np.arange(8))
        y, z = x[:4] * x[:4], x[4:] * x[4:]
        await x.engine.open(y, z)  # type: ignore[attr-defined]
        return [array.node.value.parts[0].base is None for array in (y, z)]

    assert run_clear(program) == [True, True]


def test_a_small_part_does_not_keep_the_whole():
    async def program(primitives):
        x = Engine(primitives).public(np.arange(1000))
        part = x[3:5]
        await part.open()
        return part.node.value.parts[0].base is None

    assert run_clear(program)


def test_what_a_program_does_with_its_own_index_later_does_not_matter():
    async def program(primitives):
        places = np.array([2, 0])
        part = Engine(primitives).public([5, 6, 7])[places]
        places[:] = 1
        return (await part.open()).tolist()

    assert run_clear(program) == [7, 5]


def test_the_order_in_which_parties_write_their_operations_does_not_matter():
    async def program(party):
        engine = await Engine.create(party)
        x = engine.share(VALUES if party.me == "ada" else None, owner="ada", shape=VALUES.shape)
        y = engine.share(VALUES[::-1] if party.me == "bob" else None, owner="bob", shape=VALUES.shape)
        made = {}
        for name in ["a", "b", "c"] if party.me == "ada" else ["c", "b", "a"]:
            made[name] = {"a": lambda: x * y, "b": lambda: y * y, "c": lambda: (x > y) * x}[name]()
        return await (made["a"] + made["b"] - made["c"]).open()

    y = VALUES[::-1]
    for result in simulated(program)[0]:
        assert (result == VALUES * y + y * y - (y < VALUES) * VALUES).all()


def test_places_that_read_alike_are_not_taken_for_one():
    grid = np.arange(30 * 30).reshape(30, 30)
    places = [(1, 23), (12, 3), (11, 2), (1, 12)]

    async def program(party):
        engine = await Engine.create(party)
        x = engine.share(grid if party.me == "ada" else None, owner="ada", shape=grid.shape)
        return await engine.open(*(x[place] * x[place] for place in places))

    for result in simulated(program)[0]:
        assert result == [grid[place] ** 2 for place in places]


def repeated(x):
    """Return a grid of 30 x 100 elements, so that places have two digits."""
    return np.broadcast_to(x, (30, 100))


def rolled(x, shift, axis):
    """Roll twelve dimensions, so that an axis has two digits."""
    return np.roll(repeated(x).reshape((1,) * 11 + (3000,)), shift, axis)


def parted(at_ada, at_others):
    """Return the errors of a run in which the parties open different things of one input."""

    async def program(party):
        engine = await Engine.create(party)
        x = engine.share(VALUES if party.me == "ada" else None, owner="ada", shape=VALUES.shape)
        arrays, to = (at_ada if party.me == "ada" else at_others)(x + 1)
        return await engine.open(*arrays, to=to)

    run = simulate(dict.fromkeys(NAMES, program))
    assert run.results == {}
    return {name: str(error) for name, error in run.errors.items()}


def test_programs_that_part_are_refused_with_the_lines_where_they_do():
    errors = parted(lambda x: ([x * x], None), lambda x: ([x * (x > 3)], None))
    for name, error in errors.items():
        assert "programs part" in error
        assert "ada has multiply" in error
        assert "has add public" in error
        assert f"{__file__}:" in error, name
        assert " at test_arrays_scheduler.py:" in error, name


@pytest.mark.parametrize(
    ("at_ada", "at_others"),
    [
        (lambda x: ([x], ["ada"]), lambda x: ([x], None)),
        (lambda x: ([x], None), lambda x: ([x, x * x], None)),
        (lambda x: ([x + 1], None), lambda x: ([x + 2], None)),
        (lambda x: ([x], None), lambda x: ([x[::-1]], None)),
        (lambda x: ([x[:3]], None), lambda x: ([x[3:]], None)),
        (lambda x: ([repeated(x)[1, 23]], None), lambda x: ([repeated(x)[12, 3]], None)),
        (
            lambda x: ([rolled(x, 1, 11)], None),
            lambda x: ([rolled(x, 11, 1)], None),
        ),
        (lambda x: ([x + x[::-1]], None), lambda x: ([x - x[::-1]], None)),
        (lambda x: ([x.reshape(10, 10)], None), lambda x: ([x.reshape(4, 25)], None)),
        (lambda x: ([x.astype(mpc.int32)], None), lambda x: ([x.astype(mpc.int16)], None)),
        (
            lambda x: ([x[:2][np.array([1, 1], np.int8)]], None),
            lambda x: ([x[:2][np.array([True, True])]], None),
        ),
    ],
    ids=[
        "receivers",
        "how many",
        "public numbers",
        "operation",
        "place",
        "places in two dimensions",
        "shift",
        "kernel",
        "shape",
        "dtype",
        "kind of index",
    ],
)
def test_whatever_two_programs_differ_in_is_refused_before_anything_is_opened(at_ada, at_others):
    errors = parted(at_ada, at_others)
    assert list(errors) == list(NAMES)
    assert all("programs part" in error for error in errors.values())


def test_an_opening_of_values_that_are_there_is_compared_as_well():
    async def program(party):
        engine = await Engine.create(party)
        x, y = (engine.share([v] if party.me == "bob" else None, owner="bob", shape=1) for v in (1, 2))
        await engine.open(x, y, to="cleo")
        await (x if party.me == "ada" else y).open()

    run = simulate(dict.fromkeys(NAMES, program))
    assert run.results == {}
    assert all(isinstance(error, UsageError) for error in run.errors.values())


@pytest.mark.parametrize("odd", NAMES)
def test_programs_are_compared_before_a_message_of_the_level_is_read(odd):
    """The first level has messages at one party alone; that the programs part is no fault of any peer."""

    async def program(party):
        engine = await Engine.create(party)
        x = engine.share(VALUES if party.me == "ada" else None, owner="ada", shape=VALUES.shape)
        await x.open()
        return await (x * x if party.me == odd else x + 1).open()

    run = simulate(dict.fromkeys(NAMES, program))
    assert run.results == {}
    assert all(isinstance(e, UsageError) and "programs part" in str(e) for e in run.errors.values())


def test_a_digest_of_another_length_names_its_sender():
    async def honest(party):
        await compare(party, NAMES, bytes(16))

    async def liar(party):
        for peer in ("ada", "bob"):
            party.send(peer, GraphDigest(bytes(15)))

    run = simulate({"ada": honest, "bob": honest, "cleo": liar})
    for name in ("ada", "bob"):
        error = run.errors[name]
        assert isinstance(error, RemoteProtocolError)
        assert error.peer == "cleo"
        assert "16 bytes" in str(error)


@pytest.mark.parametrize(
    "theirs",
    [np.array(5, np.uint64), np.zeros((1, 1), np.uint64), np.zeros(1, np.uint8)],
    ids=["a number", "a matrix", "bytes"],
)
def test_what_is_no_list_of_nodes_differs_from_the_first_node_on(theirs):
    assert _first_difference(np.zeros(1, np.uint64), theirs) == 0


def test_of_what_a_peer_says_about_its_program_no_more_than_a_line_is_shown():
    async def honest(party):
        await part(party, ["bob"], [], [["ada"]])

    async def liar(party):
        party.send("ada", GraphNodes(np.zeros(1, np.uint64)))
        party.send("ada", GraphNode("x" * 5000))

    error = simulate({"ada": honest, "bob": liar}).errors["ada"]
    assert isinstance(error, UsageError)
    assert 300 < str(error).count("x") < 450
