"""One party of four alters what it sends: it is caught, it is among those who are named, and nothing opens that is wrong.

Every message of every party is altered in turn, in every part of it, in one of the ways of `liar.WAYS` after the other;
`EVERY = 1` tries each part in each way. A lie before the last
round of an opening shows to all honest parties alike, and none of them opens anything. A lie in that round shows to whom
it was told. What the others open then is right.

Longer than most test modules: the altering party is set up once, and each kind of message has its lie here.
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.alterations import Liar, altered, leaves
from benchmarks.four_parties import PRIMITIVES, honest_run
from benchmarks.four_parties import run as run_case
from benchmarks.liar import SET_UP, consistent_lies, lies, sent_alike, verdict
from secagg.errors import AbortedError, CheatingError, RemoteProtocolError
from secagg.mpc.four import inputs, opening
from secagg.mpc.four.broadcast import Echo
from secagg.mpc.four.engine import FourEngine
from secagg.mpc.four.inputs import InputShare
from secagg.mpc.four.opening import Opening, OutsideOpening
from secagg.mpc.numbers import RingGroup
from secagg.network.simulated import simulate
from secagg.ring import Ring

FOUR = ("ada", "bob", "cleo", "dora")
RING = RingGroup(Ring(64))
N = 4
# Of the alterations one in so many is tried; prime to the number of ways, so that all ways come.
EVERY = 43


async def multiply(engine, share):
    x, y = share(engine, RING, np.arange(N) + 5), share(engine, RING, np.arange(N) + 70, seed=1)
    return await engine.multiply(x, y)


async def own_input(engine, share):
    return await engine.input(RING, "bob", (N,), RING.dtype.type(3) + np.arange(N, dtype=np.uint64)
                              if engine.party.me == "bob" else None)  # fmt: skip


async def outside_input(engine, share):
    return await engine.input(RING, "owner", (N,))


async def several(engine, share):
    """Operations one after the other and side by side, and one on what they return."""
    x = await own_input(engine, share)
    y, z = await engine.party.parallel(engine.multiply(x, x), engine.multiply(x, x + x))
    return await engine.multiply(y, z)


PLAIN = {
    multiply: (np.arange(N) + 5) * (np.arange(N) + 70),
    own_input: np.arange(N) + 3,
    outside_input: np.arange(N) + 11,
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


@pytest.mark.slow
@pytest.mark.parametrize("case", PRIMITIVES, ids=lambda case: case.name)
def test_every_alteration_of_every_message_is_caught_and_nothing_is_opened(case):
    """Set-up is attacked beside the first primitive, whose messages use all keys."""
    count = 0
    for lie, message in lies(case, EVERY, 0 if case is PRIMITIVES[0] else SET_UP):
        assert verdict(case, lie, message, run_case(case, lie)) == (True, False), lie
        count += 1
    assert count > 5


@pytest.mark.slow
def test_a_consistent_error_in_a_share_is_caught_or_changes_nothing():
    """In all that the liar sends and vouches for. If no message is another, what is opened is right."""
    caught = set()
    for case in PRIMITIVES:
        honest = honest_run(case)
        for lie in list(consistent_lies(case))[:: 1 if case.name == "multiply" else 5]:
            done = run_case(case, lie)
            found, opened = verdict(case, lie, None, done)
            assert not opened
            assert found != sent_alike(honest, done, lie.liar)
            if found:
                caught.add(case.name)
    assert caught == {case.name for case in PRIMITIVES if list(consistent_lies(case))}


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
        assert all(m.shares == () and m.tags == () for m in openings)
        assert not any(isinstance(m, OutsideOpening) for _, m in sent[name])


@pytest.mark.parametrize("number", [SET_UP, SET_UP + 1, SET_UP + 2])
def test_a_lie_beside_an_opening_is_found_by_the_next_check_and_names_the_liar(share, number):
    """The opening began before the lie and does not depend on it, so what it vouches for is not called a lie."""

    async def beside(engine, share):
        ahead = share(engine, RING, np.arange(N), seed=7)

        z, _ = await engine.party.parallel(multiply(engine, share), engine.open(ahead))
        return z

    _, _, sent = run(beside, share)
    places = [i for i, (_, m) in enumerate(sent["dora"]) if i >= SET_UP and hasattr(m, "contents")]
    outcome, opened, _ = run(
        beside, share, "dora", places[number - SET_UP], lambda m: altered(
            m, "contents" if m.contents else "tags", 0, "bit", m
        )
    )  # fmt: skip
    check(outcome, opened, "dora", right=None, last_round=False)


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


@pytest.mark.parametrize("liar", FOUR)
@pytest.mark.slow
def test_a_lie_beside_an_operation_that_began_before_does_not_make_that_one_fail(share, liar):
    """The input begins first and ends last. Who finds the lie in the product still vouches for what it received."""

    async def beside(engine, share):
        x, y = await engine.party.parallel(own_input(engine, share), multiply(engine, share))
        return x + y

    right = PLAIN[own_input] + PLAIN[multiply]
    _, _, sent = run(beside, share)
    for number, (_, message) in list(enumerate(sent[liar]))[SET_UP:]:
        field, place, _ = next(leaves(message))
        how = (field, place, "bit", message)
        if altered(message, *how) is None:
            continue
        outcome, opened, _ = run(beside, share, liar, number, lambda m, how=how: altered(m, *how))
        check(outcome, opened, liar, right=right, last_round=isinstance(message, Opening))


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


def test_an_owner_whose_check_failed_before_sends_nothing_that_depends_on_its_input(share):
    def handed(value):
        async def then_input(engine, share):
            await multiply(engine, share)
            mine = engine.party.me == "ada"
            if mine:
                engine.channel._failed = (0, 3)
            return await engine.input(RING, "ada", (N,), np.full(N, value, np.uint64) if mine else None)

        _, opened, sent = run(then_input, share)
        assert opened == []
        return [m.share for _, m in sent["ada"] if isinstance(m, InputShare)]

    one, other = handed(5), handed(6)
    assert len(one) == 2
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


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


@pytest.mark.parametrize("field", ["pair", "triples"])
def test_contributions_of_another_length_name_their_sender(share, field):
    def short(message):
        if field == "pair":
            return type(message)(message.pair[:-1], message.triples)
        return type(message)(message.pair, (message.triples[0], message.triples[1] + b"0"))

    outcome, opened, _ = run(multiply, share, "bob", 0, short)
    assert opened == []
    found = [e for e in outcome.errors.values() if not isinstance(e, AbortedError)]
    assert [(type(e), e.peer) for e in found] == [(RemoteProtocolError, "bob")]
    assert "32 bytes" in str(found[0])


def test_a_share_of_another_shape_to_a_reader_outside_names_its_sender(share):
    _, _, sent = run(multiply, share, to=["reader"])
    (number,) = (i for i, (_, m) in enumerate(sent["bob"]) if isinstance(m, OutsideOpening))
    outcome, opened, _ = run(
        multiply, share, "bob", number, lambda m: type(m)(m.share.reshape(2, 2), m.digest), to=["reader"]
    )
    assert all(value is None for _, value in opened)
    error = outcome.errors["reader"]
    assert isinstance(error, RemoteProtocolError)
    assert error.peer == "bob"


@pytest.mark.parametrize(("operation", "number"), [(multiply, SET_UP), (multiply, -1), (own_input, SET_UP)])
def test_a_message_that_is_far_too_long_is_refused_before_it_is_held(share, operation, number):
    """Of products, of openings and of inputs; bob sends each of them."""
    _, _, sent = run(operation, share)
    number %= len(sent["bob"])
    field = "share" if operation is own_input else "shares" if number > SET_UP else "contents"

    def long(message):
        value = np.zeros(1 << 20, np.uint64)
        parts = {name: getattr(message, name) for name in message.__struct_fields__}
        return type(message)(**{**parts, field: value if field == "share" else (value,)})

    outcome, opened, _ = run(operation, share, "bob", number, long)
    found = [e for e in outcome.errors.values() if not isinstance(e, AbortedError)]
    assert len(opened) < 4
    assert any(isinstance(e, RemoteProtocolError) and e.peer == "bob" and "bytes" in str(e) for e in found)


@pytest.mark.slow
def test_an_owner_outside_that_hands_out_different_copies_is_named(share):
    for number in range(4):
        for field, place in (("seeds", 0), ("share", None)):

            def alter(message, field=field, place=place):
                return altered(message, field, place, "bit", message)

            if number == 3 and field == "share":
                continue
            outcome, opened, _ = run(outside_input, share, "owner", number, alter)
            check(outcome, opened, "owner", right=None, last_round=False)


@pytest.mark.parametrize(
    ("alter", "says"),
    [(lambda seeds: seeds[:-1], "three shares"), (lambda seeds: (seeds[0][:-1], *seeds[1:]), "32 bytes")],
    ids=["number", "length"],
)
def test_an_owner_outside_that_hands_out_other_seeds_than_expected_is_named(share, alter, says):
    for number in range(4):
        outcome, opened, _ = run(
            outside_input, share, "owner", number, lambda m: type(m)(alter(m.seeds), m.share)
        )
        assert opened == []
        found = [e for e in outcome.errors.values() if not isinstance(e, AbortedError)]
        assert [(type(e), e.peer) for e in found] == [(RemoteProtocolError, "owner")]
        assert says in str(found[0])
