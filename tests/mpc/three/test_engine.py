"""Keys, sharing and opening of the three-party engine, and its refusals.

Longer than most test modules: inputs, openings and their refusals share one set-up.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from blame import blamed
from eager import SharedArray
from secagg.errors import RemoteProtocolError, ShapeError, UsageError
from secagg.mpc.groups import XOR
from secagg.mpc.numbers import RING64, RingGroup
from secagg.mpc.primitives import Shares
from secagg.mpc.three.channel import Channel, PairSecret, Reshare
from secagg.mpc.three.engine import ThreeEngine
from secagg.mpc.three.inputs import (
    HeldInCommon,
    InputFromComputing,
    InputFromOutside,
    digest_of_copy,
    share_input,
)
from secagg.mpc.three.opening import Opening, receive_opening
from secagg.mpc.three.streams import Purpose
from secagg.network.simulated import simulate
from secagg.prg import Stream, derive_key
from secagg.ring import Ring
from shared import opened
from transcripts import Chosen, run_with, sent

COMPUTING = ("ada", "bob", "cleo")
GROUPS = [XOR, RingGroup(RING64), RingGroup(Ring(8)), RingGroup(Ring(5))]


def secret(group, shape, seed=0):
    ring = getattr(group, "ring", RING64)
    made_up = np.random.default_rng(seed)
    if ring.bits == 64:
        return np.asarray(made_up.integers(0, 1 << 64, shape, np.uint64))
    return np.asarray(made_up.integers(0, ring.modulus, shape)).astype(ring.dtype)


def test_both_holders_of_a_key_draw_the_same_and_the_third_does_not(run_three):
    async def program(engine):
        return engine.channel.k_own[Purpose.MUL].bytes(32), engine.channel.k_next[Purpose.MUL].bytes(32)

    keys = run_three(program)
    for i in range(3):
        assert keys[i][1] == keys[(i + 1) % 3][0]
    assert len({own for own, _ in keys}) == 3


# Which draw of the parties' randomness is whose contribution to which key: P_i draws first for k_i, then for k_{i+1}.
CONTRIBUTIONS = [(i, which, (i + which) % 3) for i in range(3) for which in (0, 1)]


def keystreams(*, session=bytes(32), label="", instead=None):
    """Return what k_0, k_1, k_2 give for each purpose after the real set-up.

    All parties draw the same bytes, so that contributions, and the secrets of all pairs, are equal: streams differ by
    what the set-up binds them to, and by nothing else.

    Args:
      instead: (party, number of its draw) whose bytes are others.
    """

    async def program(party):
        engine = await ThreeEngine.set_up(party, COMPUTING, label=label)
        return [
            [pair[p].bytes(16) for p in Purpose] for pair in (engine.channel.k_own, engine.channel.k_next)
        ]

    rngs = {
        name: Chosen(bytes(32), {instead[1]: bytes([9]) * 32} if instead and instead[0] == i else None)
        for i, name in enumerate(COMPUTING)
    }
    results = run_with(dict.fromkeys(COMPUTING, program), session=session, rngs=rngs)
    for i in range(3):
        assert results[i][1] == results[(i + 1) % 3][0]
    return [own for own, _ in results]


def differ(one, other):
    return all(a != b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("purpose", ["mul", "mull", Purpose.MUL.name, None])
def test_a_stream_is_opened_by_a_purpose_and_by_no_text(run_three, purpose):
    async def program(engine):
        engine.channel.k_own[Purpose.MUL].bytes(8)
        with pytest.raises(UsageError, match=r"expected one of Purpose\.INPUT, .*, got "):
            engine.channel.k_own[purpose]
        assert repr(engine.channel.k_own) == "<PairStreams for mul>"

    run_three(program)


def test_streams_of_equal_secrets_differ_by_session_label_pair_and_purpose():
    variants = [
        keystreams(),
        keystreams(session=bytes(31) + b"\1"),
        keystreams(session=b"\1" + bytes(31)),
        keystreams(label="a"),
        keystreams(label="b"),
    ]
    streams = [stream for variant in variants for pair in variant for stream in pair]
    assert len(set(streams)) == len(streams) == 5 * 3 * len(Purpose)
    assert keystreams() == variants[0]  # a function of session, label and contributions


@pytest.mark.parametrize(("party", "draw", "key"), CONTRIBUTIONS)
def test_both_contributions_to_a_pair_secret_count_and_nobody_elses(party, draw, key):
    before, after = keystreams(), keystreams(instead=(party, draw))
    for k in range(3):
        assert differ(before[k], after[k]) if k == key else before[k] == after[k]


def test_a_second_engine_of_the_same_label_has_fresh_secrets():
    async def program(party):
        engines = [await ThreeEngine.set_up(party, COMPUTING) for _ in range(2)]
        return [engine.channel.k_own[Purpose.MUL].bytes(16) for engine in engines]

    rngs = {name: Chosen(bytes([i]) * 32) for i, name in enumerate(COMPUTING)}
    for first, second in run_with(dict.fromkeys(COMPUTING, program), session=bytes(32), rngs=rngs):
        assert first != second


@pytest.mark.parametrize("group", [XOR, RingGroup(RING64)], ids=["xor", "64"])
def test_an_outside_input_draws_two_seeds_and_expands_them_for_this_purpose_alone(group):
    async def give(party):
        await share_input(party, COMPUTING, group, np.zeros(4, np.uint64))

    async def take(party):
        return await party.receive(InputFromOutside, "owner")

    p0, p1, p2, _ = simulate(dict.fromkeys(COMPUTING, take) | {"owner": give}).values()
    assert p0.seeds[0] != p0.seeds[1]
    assert (p1.seeds, p2.seeds) == ((p0.seeds[1],), (p0.seeds[0],))
    expanded = [
        group.draw(Stream(derive_key(s, label="secagg.mpc.three/outside input")), (4,)) for s in p0.seeds
    ]
    for m in (p1, p2):
        assert np.array_equal(m.share, group.subtract(np.zeros(4, np.uint64), group.add(*expanded)))
    for seed, share in zip(p0.seeds, expanded, strict=True):
        assert not np.array_equal(Stream(seed).words(4), share)


@pytest.mark.parametrize("group", GROUPS, ids=["xor", "64", "8", "5"])
@pytest.mark.parametrize("owner", [*COMPUTING, "owner"])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 4)])
def test_inputs_open_to_whom_they_are_meant(group, owner, shape):
    x = secret(group, shape)
    cases = [None, ["ada"], ["bob", "cleo"], ["analyst"], ["analyst", "auditor", "cleo"], []]

    async def compute(party):
        engine = await ThreeEngine.set_up(party, COMPUTING)
        shares = await engine.input(group, owner, shape, x if party.me == owner else None)
        return shares.parts, [await engine.open(shares, to) for to in cases]

    async def give(party):
        await share_input(party, COMPUTING, group, x)

    async def receive(party):
        times = sum(party.me in (to or ()) for to in cases)
        return [await receive_opening(party, COMPUTING, group, shape) for _ in range(times)]

    programs = {"owner": give, "analyst": receive, "auditor": receive} | dict.fromkeys(COMPUTING, compute)
    results = simulate(programs).results
    for name in ("analyst", "auditor"):
        assert len(results[name]) == {"analyst": 2, "auditor": 1}[name]
        for got in results[name]:
            assert np.array_equal(got, x)
            assert got.dtype == group.dtype
    for i, name in enumerate(COMPUTING):
        (_, second), opened = results[name]
        assert np.array_equal(second, results[COMPUTING[(i + 1) % 3]][0][0])
        for to, got in zip(cases, opened, strict=True):
            if name in (COMPUTING if to is None else to):
                assert np.array_equal(got, x)
                assert got.shape == shape
            else:
                assert got is None


def test_computing_parties_may_stand_anywhere_in_the_roster():
    x = np.arange(5, dtype=np.uint64)
    computing = ("d", "a", "c")

    async def program(party):
        if party.me not in computing:
            return await receive_opening(party, computing, XOR, (5,))
        engine = await ThreeEngine.set_up(party, computing)
        shares = await engine.input(XOR, "c", (5,), x if party.me == "c" else None)
        return await engine.open(shares, ["a", "b", "e"])

    results = simulate(dict.fromkeys("abcde", program)).results
    for name in "abe":
        assert np.array_equal(results[name], x)
    assert results["c"] is None
    assert results["d"] is None


@pytest.mark.parametrize(
    "computing",
    [("ada", "bob"), ("ada", "bob", "bob"), ("ada", "bob", "stranger"), ("bob", "cleo", "analyst")],
)
def test_engine_takes_three_parties_of_the_roster_with_this_one_among_them(computing):
    async def program(party):
        with pytest.raises(UsageError, match="computing parties"):
            await ThreeEngine.set_up(party, computing)
        with pytest.raises(UsageError, match="computing parties"):
            ThreeEngine(Channel(party, computing, k_own=cast(Any, None), k_next=cast(Any, None)))

    async def rest(party):
        return None

    simulate({"ada": program, "bob": rest, "cleo": rest, "analyst": rest}).values()


def test_input_value_belongs_at_its_owner(run_three):
    async def program(engine):
        x = np.zeros(3, np.uint64)
        with pytest.raises(UsageError, match="at its owner"):
            await engine.input(XOR, engine.channel.next, (3,), x)
        with pytest.raises(UsageError, match="at its owner"):
            await engine.input(XOR, engine.party.me, (3,))
        for wrong in (np.zeros(4, np.uint64), np.zeros(3, np.uint32)):
            with pytest.raises(ShapeError, match="expected an input"):
                await engine.input(XOR, engine.party.me, (3,), wrong)

    run_three(program)


def test_parties_out_of_step_open_nothing():
    async def program(party):
        engine = await ThreeEngine.set_up(party, COMPUTING)
        if party.me == "bob":
            engine.channel.k_own[Purpose.MUL].words(1)
        x = np.zeros(3, np.uint64)
        return await engine.open(Shares(engine, XOR, (x, x)))

    outcome = simulate(dict.fromkeys(COMPUTING, program))
    assert isinstance(outcome.errors["bob"], RemoteProtocolError)
    assert outcome.errors["bob"].peer == "ada"
    assert "out of step" in str(outcome.errors["bob"])


def test_parties_out_of_step_open_no_product():
    async def program(party):
        engine = await ThreeEngine.set_up(party, COMPUTING)
        if party.me == "bob":
            engine.channel.k_own[Purpose.MUL].words(1)
        x = Shares(engine, XOR, (np.zeros(3, np.uint64), np.zeros(3, np.uint64)))
        return await engine.open_conjunction(x, x, x)

    errors = simulate(dict.fromkeys(COMPUTING, program)).errors
    for name, peer in (("ada", "bob"), ("bob", "ada")):
        error = errors[name]
        assert isinstance(error, RemoteProtocolError)
        assert error.peer == peer
        assert "out of step" in str(error)


def test_a_product_is_opened_of_bits_of_one_shape(run_three):
    async def program(engine):
        x, y = (engine.public(XOR, np.zeros(n, np.uint64)) for n in (3, 4))
        for three in ((x, x, y), (x, y, x), (y, x, x)):
            with pytest.raises(ShapeError, match="expected bits of one shape"):
                await engine.open_conjunction(*three)

    run_three(program)


def test_operations_side_by_side_are_in_step_when_one_opens(share):
    """What is drawn while an opening is on its way does not count."""

    async def program(party):
        engine = await ThreeEngine.set_up(party, COMPUTING)
        x = share(engine, np.arange(4))
        alone, product = await party.parallel(opened(x), x * x)
        return alone, await opened(product)

    for alone, product in simulate(dict.fromkeys(COMPUTING, program)).values():
        assert alone.tolist() == [0, 1, 2, 3]
        assert product.tolist() == [0, 1, 4, 9]


def wrong_sender(message, honest_program, *, sender="cleo"):
    """Run two honest parties and one that sends `message` to the party before it, after the set-up."""

    async def honest(party):
        engine = await ThreeEngine.set_up(party, COMPUTING)
        return await honest_program(engine)

    async def wrong(party):
        engine = await ThreeEngine.set_up(party, COMPUTING)
        party.send(message[0](engine), message[1])

    programs = dict.fromkeys(COMPUTING, honest) | {sender: wrong}
    return simulate(programs).errors


@pytest.mark.parametrize(
    ("share", "complaint"), [(np.zeros(4, np.uint64), "shape"), (np.zeros(3, np.uint32), "dtype")]
)
def test_wrong_shares_are_errors_that_name_the_sender(share, complaint):
    async def multiply(engine):
        x = SharedArray(engine, RingGroup(RING64), (np.zeros(3, np.uint64), np.zeros(3, np.uint64)))
        return await (x * x)

    async def reveal(engine):
        return await engine.open(Shares(engine, XOR, (np.zeros(3, np.uint64), np.zeros(3, np.uint64))))

    async def take(engine):
        return await engine.input(XOR, "cleo", (3,))

    def before(engine):
        return engine.channel.previous

    def after(engine):
        return engine.channel.next

    cases = [
        ("bob", (before, Reshare(share)), multiply),
        ("ada", (after, Opening(0, (share,))), reveal),
        ("ada", (after, InputFromComputing(share)), take),
    ]
    for victim, message, program in cases:
        error = wrong_sender(message, program)[victim]
        assert isinstance(error, RemoteProtocolError)
        assert error.peer == "cleo"
        assert complaint in str(error)


def test_opening_with_a_wrong_number_of_shares_names_the_sender():
    async def reveal(engine):
        return await engine.open(Shares(engine, XOR, (np.zeros(3, np.uint64), np.zeros(3, np.uint64))))

    two = Opening(0, (np.zeros(3, np.uint64),) * 2)
    error = wrong_sender((lambda engine: engine.channel.next, two), reveal)["ada"]
    assert isinstance(error, RemoteProtocolError)
    assert error.peer == "cleo"


def test_short_pair_secret_names_the_sender():
    async def honest(party):
        return await ThreeEngine.set_up(party, COMPUTING)

    async def wrong(party):
        for peer in party.others:
            party.send(peer, PairSecret(bytes(31)))

    errors = simulate({"ada": honest, "bob": honest, "cleo": wrong}).errors
    for error in (errors["ada"], errors["bob"]):
        assert isinstance(error, RemoteProtocolError)
        assert error.peer == "cleo"


@pytest.mark.parametrize(
    "message",
    [
        InputFromOutside((bytes(32),), None),
        InputFromOutside((bytes(32), bytes(32)), np.zeros(3, np.uint64)),
        InputFromOutside((bytes(31), bytes(32)), None),
    ],
)
def test_wrong_outside_input_names_its_owner(message):
    async def compute(party):
        engine = await ThreeEngine.set_up(party, COMPUTING)
        return await engine.input(XOR, "owner", (3,))

    async def give(party):
        party.send("ada", message)

    errors = simulate(dict.fromkeys(COMPUTING, compute) | {"owner": give}).errors
    assert isinstance(errors["ada"], RemoteProtocolError)
    assert errors["ada"].peer == "owner"


def given_by(owner_program, *, group=XOR):
    """Return how each computing party ends with an input of "owner", whose program is the caller's."""

    async def compute(party):
        engine = await ThreeEngine.set_up(party, COMPUTING)
        await engine.input(group, "owner", (3,))
        return "computed with"

    return simulate(dict.fromkeys(COMPUTING, compute) | {"owner": owner_program}, record=True)


@pytest.mark.parametrize("share", [0, 1, 2])
@pytest.mark.parametrize("group", [XOR, RingGroup(RING64)], ids=["xor", "64"])
def test_different_copies_of_a_share_for_its_two_holders_are_found_before_use_and_name_the_owner(
    group, share
):
    seeds, x2 = [bytes([i]) * 32 for i in range(2)], np.arange(3, dtype=np.uint64)
    other_seed, other_x2 = bytes([9]) * 32, x2 ^ np.array([0, 0, 1 << 63], np.uint64)
    messages = {
        "ada": InputFromOutside((seeds[0], seeds[1]), None),
        "bob": InputFromOutside((other_seed if share == 1 else seeds[1],), x2),
        "cleo": InputFromOutside((other_seed if share == 0 else seeds[0],), other_x2 if share == 2 else x2),
    }

    async def give(party):
        for name, message in messages.items():
            party.send(name, message)

    outcome = given_by(give, group=group)
    holders = {COMPUTING[share], COMPUTING[share - 1]}
    found = {n for n, e in outcome.errors.items() if type(e) is RemoteProtocolError}
    assert found
    assert found <= holders
    assert {outcome.errors[n].peer for n in holders} == {"owner"}
    assert all("different copies" in str(outcome.errors[n]) for n in found)


def test_what_holders_compare_goes_to_those_who_hold_it():
    x = np.arange(3, dtype=np.uint64)

    async def give(party):
        await share_input(party, COMPUTING, XOR, x)

    outcome = given_by(give)
    assert set(outcome.results.values()) == {"computed with", None}
    digests = {
        (m.sender, m.receiver): m.message.digest
        for m in sent(outcome.transcript)
        if type(m.message) is HeldInCommon
    }
    assert len(digests) == 6
    for i, name in enumerate(COMPUTING):
        following = COMPUTING[(i + 1) % 3]
        assert digests[name, following] == digests[following, name]
    assert len(set(digests.values())) == 3


def test_what_holders_compare_depends_on_session_owner_and_every_byte():
    x = np.arange(3, dtype=np.uint64)
    digests = [
        digest_of_copy(bytes(32), "owner", x),
        digest_of_copy(bytes(31) + b"\1", "owner", x),
        digest_of_copy(bytes(32), "other", x),
        digest_of_copy(bytes(32), "owner", x ^ np.array([0, 0, 1 << 63], np.uint64)),
        digest_of_copy(bytes(32), "owner", bytes(32)),
        digest_of_copy(bytes(32), "owner", bytes(31) + b"\1"),
    ]
    assert len(set(digests)) == 6
    assert digest_of_copy(bytes(32), "owner", np.repeat(x, 2)[::2]) == digests[0]  # wherever it lies


def test_a_digest_of_another_length_names_its_sender():
    async def compute(party):
        engine = await ThreeEngine.set_up(party, COMPUTING)
        if party.me != "cleo":
            return await engine.input(XOR, "owner", (3,))
        for peer in ("ada", "bob"):
            party.send(peer, HeldInCommon(bytes(31)))
        return None

    async def give(party):
        await share_input(party, COMPUTING, XOR, np.zeros(3, np.uint64))

    errors = simulate(dict.fromkeys(COMPUTING, compute) | {"owner": give}).errors
    assert {blamed(errors[name]) for name in ("ada", "bob")} == {"cleo"}


def test_keys_and_shares_do_not_show(run_three):
    async def program(engine):
        engine.channel.k_own[Purpose.MUL].words(1)
        assert repr(engine.channel.k_own) == "<PairStreams for mul>"
        assert repr(engine) == f"ThreeEngine(P{engine.channel.index} = {engine.party.me!r})"

    run_three(program)
