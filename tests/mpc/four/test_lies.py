"""One party of four alters what it sends: it is caught, it is among those who are named, and nothing opens that is wrong.

Every message of every party is altered in turn, in every part of it, in one of the ways of `liar.WAYS` after the other;
`EVERY = 1` tries each part in each way. A lie before the last
round of an opening shows to all honest parties alike, and none of them opens anything. A lie in that round shows to whom
it was told. What the others open then is right.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from liar import WAYS, Liar, altered, leaves
from secagg.errors import AbortedError, CheatingError, RemoteProtocolError
from secagg.mpc.four import inputs, opening
from secagg.mpc.four.broadcast import Echo
from secagg.mpc.four.engine import FourEngine
from secagg.mpc.four.opening import Opening, OutsideOpening
from secagg.mpc.groups import XOR
from secagg.mpc.numbers import RingGroup
from secagg.network.simulated import simulate
from secagg.ring import Ring

FOUR = ("ada", "bob", "cleo", "dora")
RING = RingGroup(Ring(64))
N = 4
SET_UP = 9  # messages of a party before an engine is there
# Of the alterations one in so many is tried; prime to the number of ways, so that all ways come.
EVERY = 6


async def multiply(engine, share):
    x, y = share(engine, RING, np.arange(N) + 5), share(engine, RING, np.arange(N) + 70, seed=1)
    return await engine.multiply(x, y)


async def matmul(engine, share):
    x, y = share(engine, RING, np.arange(8).reshape(4, 2)), share(engine, RING, [7, 9], seed=1)
    return await engine.matmul(x, y)


async def conjunction(engine, share):
    x, y = share(engine, XOR, np.arange(N) + 5), share(engine, XOR, np.arange(N) + 70, seed=1)
    return (await engine.conjunction([(x, y)]))[0]


async def own_input(engine, share):
    return await engine.input(RING, "bob", (N,), RING.dtype.type(3) + np.arange(N, dtype=np.uint64)
                              if engine.party.me == "bob" else None)  # fmt: skip


async def outside_input(engine, share):
    return await engine.input(RING, "owner", (N,))


async def truncation(engine, share):
    return await engine.truncate(share(engine, RING, (np.arange(N) + 5) * 256), 8)


async def from_bits(engine, share):
    return await engine.from_bits(share(engine, XOR, [0b1010]), RING, N)


async def shuffle(engine, share):
    return (await engine.shuffle(share(engine, RING, np.full((1, N), 7)))).reshape(N)


async def several(engine, share):
    """Operations one after the other and side by side, and one on what they return."""
    x = await own_input(engine, share)
    y, z = await engine.party.parallel(engine.multiply(x, x), engine.multiply(x, x + x))
    return await engine.multiply(y, z)


PLAIN = {
    multiply: (np.arange(N) + 5) * (np.arange(N) + 70),
    matmul: np.arange(8).reshape(4, 2) @ [7, 9],
    conjunction: (np.arange(N) + 5) & (np.arange(N) + 70),
    own_input: np.arange(N) + 3,
    outside_input: np.arange(N) + 11,
    truncation: np.arange(N) + 5,
    from_bits: np.array([0, 1, 0, 1]),
    shuffle: np.full(N, 7),
    several: 2 * (np.arange(N) + 3) ** 4,
}


def run(operation, share, liar=None, number=None, alter=None, *, seed=1, to=None):
    """Run an operation and open its result; return the outcome, what honest parties opened, and who sent what."""
    opened, parties = [], {}

    def wrapped(party):
        lies = party.me == liar
        parties[party.me] = Liar(party, number if lies else None, alter)
        return parties[party.me]

    async def compute(party):
        engine = await FourEngine.set_up(wrapped(party), FOUR)
        value = await engine.open(await operation(engine, share), to)
        opened.append((party.me, value))
        return value

    async def give(party):
        await inputs.share_input(wrapped(party), FOUR, RING, np.arange(N, dtype=np.uint64) + np.uint64(11))

    async def read(party):
        opened.append((party.me, await opening.receive_opening(wrapped(party), FOUR, RING, (N,))))

    programs = dict.fromkeys(FOUR, compute)
    if operation is outside_input:
        programs |= {"owner": give}
    if to is not None:
        programs |= {"reader": read}
    outcome = simulate(programs, insecure_seed=seed)
    return (
        outcome,
        [(name, value) for name, value in opened if name != liar],
        {n: p.sent for n, p in parties.items()},
    )


def check(outcome, opened, liar, *, right, last_round):
    """Check that a lie was caught, that who is named includes the liar, and what was opened."""
    errors = {name: error for name, error in outcome.errors.items() if name != liar}
    found = {name: error for name, error in errors.items() if not isinstance(error, AbortedError)}
    assert found
    for error in found.values():
        assert isinstance(error, RemoteProtocolError)
        suspects = error.suspects if isinstance(error, CheatingError) else (error.peer,)
        assert liar in suspects
        assert len(suspects) <= 2
    if last_round:
        assert all(value is None or np.array_equal(value, right) for _, value in opened)
        assert len(opened) < 4
    else:
        assert opened == []
        honest = set(FOUR) - {liar}
        assert set(found) >= honest
        assert len({str(found[name]) for name in honest}) == 1


def attacks(operation, share, *, to=None):
    """Yield, for each alteration of each message: who lies, the message's number and kind, and the alteration."""
    outcome, _, sent = run(operation, share, to=to)
    outcome.values()
    _, _, others = run(operation, share, seed=2, to=to)
    count = 0
    for liar in sent:
        for number, (_, message) in enumerate(sent[liar]):
            other = others[liar][number][1]
            for (field, place, _), way in itertools.product(leaves(message), WAYS):
                count += altered(message, field, place, way, other) is not None
                if count % EVERY == 0 and altered(message, field, place, way, other) is not None:
                    yield liar, number, message, (field, place, way, other)


@pytest.mark.slow
@pytest.mark.parametrize(
    "operation",
    [multiply, matmul, conjunction, own_input, outside_input, truncation, from_bits, shuffle],
    ids=lambda f: f.__name__,
)
def test_every_alteration_of_every_message_after_set_up_is_caught(operation, share):
    count = 0
    for liar, number, message, how in attacks(operation, share):
        if liar in FOUR and number < SET_UP:
            continue
        outcome, opened, _ = run(operation, share, liar, number, lambda m, how=how: altered(m, *how))
        check(outcome, opened, liar, right=PLAIN[operation], last_round=isinstance(message, Opening))
        count += 1
    assert count > 150 / EVERY


@pytest.mark.slow
def test_every_alteration_of_every_message_of_set_up_is_caught(share):
    count = 0
    for liar, number, message, how in attacks(multiply, share):
        if number >= SET_UP:
            continue
        outcome, opened, _ = run(multiply, share, liar, number, lambda m, how=how: altered(m, *how))
        if isinstance(message, Echo):  # shows to whom it was told, before anything is computed
            assert opened == []
            found = [e for n, e in outcome.errors.items() if n != liar and isinstance(e, CheatingError)]
            assert found
            assert all(liar in error.suspects for error in found)
        else:
            check(outcome, opened, liar, right=PLAIN[multiply], last_round=False)
        count += 1
    assert count > 250 / EVERY


@pytest.mark.slow
def test_every_alteration_of_an_opening_to_a_party_outside_is_caught(share):
    count = 0
    for liar, number, message, how in attacks(multiply, share, to=["reader"]):
        if not isinstance(message, OutsideOpening):
            continue
        outcome, opened, _ = run(
            multiply, share, liar, number, lambda m, how=how: altered(m, *how), to=["reader"]
        )
        error = outcome.errors["reader"]
        assert isinstance(error, CheatingError)
        assert liar in error.suspects
        assert all(value is None for _, value in opened)
        count += 1
    assert count > 4 * 2 * len(WAYS) / EVERY - 4


@pytest.mark.parametrize("liar", FOUR)
@pytest.mark.parametrize("operation", [multiply, conjunction], ids=lambda f: f.__name__)
def test_a_party_that_computes_with_another_share_and_vouches_for_it_is_caught(operation, share, liar):
    """A consistent error: the share differs in all that the liar sends and vouches for."""
    for j in range(4):
        if FOUR.index(liar) == j:
            continue

        def lying(engine, group, values, *, seed=0, j=j):
            x = share(engine, group, values, seed=seed)
            if engine.party.me == liar and seed == 0:
                x.parts[j] = group.add(x.parts[j], np.ones_like(x.parts[j]))
            return x

        outcome, opened, _ = run(operation, lying, liar)
        check(outcome, opened, liar, right=PLAIN[operation], last_round=False)


@pytest.mark.slow
@pytest.mark.parametrize("operation", [truncation, from_bits, shuffle], ids=lambda f: f.__name__)
def test_what_another_share_changes_is_caught_and_nothing_else_is_changed(operation, share):
    """A liar that holds another share sends something else or not. If not, what is opened is right."""
    caught = 0
    for liar, j in itertools.product(FOUR, range(4)):
        if FOUR.index(liar) == j:
            continue

        def lying(engine, group, values, *, seed=0, liar=liar, j=j):
            x = share(engine, group, values, seed=seed)
            if engine.party.me == liar:
                x.parts[j] = group.add(x.parts[j], np.full_like(x.parts[j], 1 << 40 if group is RING else 3))
            return x

        outcome, opened, _ = run(operation, lying, liar)
        if any(name != liar for name in outcome.errors):
            check(outcome, opened, liar, right=PLAIN[operation], last_round=False)
            caught += 1
        else:
            assert all(np.array_equal(value, PLAIN[operation]) for _, value in opened)
            assert len(opened) == 3
    assert caught >= 6


@pytest.mark.parametrize("number", [SET_UP, SET_UP + 1, SET_UP + 2])
def test_no_honest_party_sends_a_share_to_be_opened_after_a_failed_check(share, number):
    def lie(message):
        return altered(message, "contents" if message.contents else "tags", 0, "bit", message)

    outcome, opened, sent = run(multiply, share, "bob", number, lie, to=["ada", "cleo", "reader"])
    assert opened == []
    assert "reader" in outcome.errors
    for name in set(FOUR) - {"bob"}:
        openings = [m for _, m in sent[name] if isinstance(m, Opening)]
        assert len(openings) == 3
        assert all(m.share is None and m.tag == b"" for m in openings)
        assert not any(isinstance(m, OutsideOpening) for _, m in sent[name])


def test_a_check_beside_an_input_leaves_it_to_the_next_check(share):
    async def beside(engine, share):
        x, _ = await engine.party.parallel(own_input(engine, share), engine.check())
        return x

    outcome, opened, _ = run(beside, share)
    assert all(np.array_equal(value, PLAIN[own_input]) for value in outcome.values())
    for number in (SET_UP, SET_UP + 1):  # the two shares, before three statements
        outcome, opened, _ = run(beside, share, "bob", number, lambda m: altered(m, "share", None, "bit", m))
        check(outcome, opened, "bob", right=None, last_round=False)


@pytest.mark.slow
@pytest.mark.parametrize("liar", FOUR)
def test_the_first_lie_is_judged_though_it_spreads_to_what_honest_parties_send(share, liar):
    """Of a program with operations on results of others, every message of one party, in one way each."""
    _, _, sent = run(several, share)
    for number, (_, message) in list(enumerate(sent[liar]))[SET_UP:]:
        field, place, _ = next(leaves(message))
        way = "bit"
        if altered(message, field, place, way, message) is None:
            continue
        outcome, opened, _ = run(
            several, share, liar, number, lambda m, how=(field, place, way, message): altered(m, *how)
        )
        check(outcome, opened, liar, right=PLAIN[several], last_round=isinstance(message, Opening))


def test_the_same_happens_with_checks_between_operations(share):
    """What one party sends in the first operation is altered; the check before the second one finds it."""

    async def long(engine, share):
        engine.channel.max_kept_bytes = 4000
        x = await multiply(engine, share)
        for _ in range(5):
            x = await engine.multiply(x, x)
        return x

    begun = []

    async def counted(engine, share):
        try:
            return await long(engine, share)
        finally:
            begun.append(engine.channel._begun)

    outcome, opened, _ = run(
        counted, share, "cleo", SET_UP + 1, lambda m: altered(m, "contents", 0, "bit", m)
    )
    check(outcome, opened, "cleo", right=None, last_round=False)
    assert set(begun) == {1}


@pytest.mark.parametrize("number", [SET_UP - 6, SET_UP + 3], ids=["set-up", "check"])
def test_a_statement_of_another_length_names_who_made_it_and_is_not_repeated(share, number):
    def longer(message):
        return type(message)(message.value + bytes(1000))

    outcome, opened, sent = run(multiply, share, "dora", number, longer)
    assert opened == []
    assert all(len(value) < 300 for _, m in sent["ada"] if isinstance(m, Echo | Opening) for value in m.heard)
    found = [error for name, error in outcome.errors.items() if name != "dora"]
    assert any(isinstance(error, CheatingError) and "dora" in error.suspects for error in found)


@pytest.mark.parametrize("place", [(0, 0), (0, 7), (0, 99), (5, 0)])
def test_a_false_complaint_ends_the_run_and_names_who_made_it(share, place):
    """By a party that tells it to all alike: the error is the same at all, and names it and at most one other."""

    async def complain(engine, share):
        z = await multiply(engine, share)
        if engine.party.me == "cleo":
            engine.channel._failed = place
        return z

    outcome, opened, _ = run(complain, share, "cleo")
    check(outcome, opened, "cleo", right=None, last_round=False)


def test_after_a_failed_check_a_party_sends_nothing_that_depends_on_what_it_holds(share):
    """It draws instead, so that nobody's check fails or not as a secret has it."""

    def contents(value):
        async def two(engine, share):
            x = share(engine, RING, np.full(N, value))
            z = await engine.multiply(x, x)
            if engine.party.me == "ada":
                engine.channel._failed = (0, 3)
            return await engine.multiply(z, z)

        _, opened, sent = run(two, share)
        assert opened == []
        return [m for _, m in sent["ada"][SET_UP:]]

    one, other = contents(5), contents(6)
    # Shares differ in the last one alone, which all but dora hold.
    assert any(
        not np.array_equal(a, b)
        for m, n in zip(one[:3], other[:3], strict=True)
        for a, b in zip(m.contents, n.contents, strict=True)
    )
    for m, n in zip(one[3:6], other[3:6], strict=True):
        assert m.tags == n.tags
        assert all(np.array_equal(a, b) for a, b in zip(m.contents, n.contents, strict=True))


def test_messages_without_what_was_expected_name_their_sender(share):
    def empty(message):
        return type(message)((), message.tags)

    def narrow(message):
        return type(message)(tuple(part[:-1] for part in message.contents), message.tags)

    def short(message):
        return type(message)(message.contents, tuple(tag[:-1] for tag in message.tags))

    for alter in (empty, narrow, short):
        outcome, opened, _ = run(multiply, share, "bob", SET_UP, alter)
        assert opened == []
        found = [e for e in outcome.errors.values() if not isinstance(e, AbortedError)]
        assert [error.peer for error in found] == ["bob"]


@pytest.mark.parametrize(("operation", "number"), [(multiply, SET_UP), (multiply, -1), (own_input, SET_UP)])
def test_a_message_that_is_far_too_long_is_refused_before_it_is_held(share, operation, number):
    """Of products, of openings and of inputs; bob sends each of them."""
    _, _, sent = run(operation, share)
    number %= len(sent["bob"])
    field = "share" if operation is own_input or number > SET_UP else "contents"

    def long(message):
        value = np.zeros(1 << 20, np.uint64)
        parts = {name: getattr(message, name) for name in message.__struct_fields__}
        return type(message)(**{**parts, field: (value,) if field == "contents" else value})

    outcome, opened, _ = run(operation, share, "bob", number, long)
    found = [e for e in outcome.errors.values() if not isinstance(e, AbortedError)]
    assert len(opened) < 4
    assert any(isinstance(e, RemoteProtocolError) and e.peer == "bob" and "bytes" in str(e) for e in found)


def test_an_owner_outside_that_hands_out_different_copies_is_named(share):
    for number in range(4):
        for field, place in (("seeds", 0), ("share", None)):

            def alter(message, field=field, place=place):
                return altered(message, field, place, "bit", message)

            if number == 3 and field == "share":
                continue
            outcome, opened, _ = run(outside_input, share, "owner", number, alter)
            check(outcome, opened, "owner", right=None, last_round=False)
