"""The programs over a party: every driver, dropouts everywhere, faults, cost, and what the wire shows.

The module is long because whole runs of the same few clients serve every claim.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
import pytest

from costs import measured
from secagg import wire
from secagg.errors import (
    PeerMissingError,
    RemoteProtocolError,
    SecaggError,
    ShapeError,
    TooFewPartiesError,
    UsageError,
)
from secagg.ledger import Ledger
from secagg.network.simulated import Fault, simulate
from secagg.party import Party, Program
from secagg.prg import Stream
from secagg.protocols.masked_sum import (
    Client,
    Consent,
    Consents,
    Included,
    Keys,
    MaskedInput,
    PeerKeys,
    PeerShares,
    Server,
    Shares,
    Stayed,
    SumInSession,
    Unmasking,
    aggregate,
    contribute,
    cost,
    reference,
)
from secagg.protocols.masked_sum.keys import self_seed
from secagg.protocols.masked_sum.masks import Mask, add_masks
from secagg.protocols.masked_sum.terms import pack_set
from secagg.protocols.threat_model import ThreatModel
from secagg.wire import Message
from uniform import CHI_SQUARE_LIMIT, chi_square

MakeWorld = Callable[..., Any]
Results = tuple[dict[str, Any], dict[str, Ledger]]
Drive = Callable[[Mapping[str, Program[Any]]], Results]


def check_sum(world: Any, result: Any) -> None:
    """Assert that a result is the sum of the vectors that it says it is of."""
    kept = {name: world.xs[name] for name in result.contributors}
    np.testing.assert_array_equal(result.total, reference(kept, world.terms))
    assert {*result.contributors, *result.dropped} == set(world.terms.roles.clients)


def test_several_rounds_in_one_session_have_keys_of_their_own(world: MakeWorld) -> None:
    w = world(4)

    async def server(p: Party) -> list[Any]:
        return [await aggregate(p, terms=dataclasses.replace(w.terms, round=i)) for i in range(2)]

    def client(name: str) -> Program[Any]:
        async def program(p: Party) -> None:
            for i in range(2):
                await contribute(
                    p, w.xs[name], terms=dataclasses.replace(w.terms, round=i), identity=w.identities[name]
                )

        return program

    out = simulate({"server": server} | {n: client(n) for n in w.terms.roles.clients}, record=True)
    for result in out.values()[0]:
        check_sum(w, result)
    sent = [m.keys.tobytes() for _, _, m in messages(out.transcript, Keys)]
    assert len(set(sent)) == len(sent) == 8


def test_a_clients_keys_come_from_its_own_stream(world: MakeWorld) -> None:
    w = world(4)
    sent = set()
    for stream in (Stream(bytes(32)), Stream(b"\1" * 32), None, None):
        party = Party("c0", ["server", *w.terms.roles.clients], session=bytes(32), rng=stream)
        program = contribute(party, w.xs["c0"], terms=w.terms, identity=w.identities["c0"])
        program.send(None)
        program.close()
        sent.add(b"".join(map(bytes, party.outbox[0].frame)))
    assert len(sent) == 4


def test_one_round_is_not_run_twice_in_a_session(world: MakeWorld) -> None:
    # Keys and signatures of the first run would be good in the second. Under other terms it is another round.
    w = world(4)
    other = world(4, length=8)
    refused: list[str] = []

    async def server(p: Party) -> None:
        await aggregate(p, terms=w.terms)
        await aggregate(p, terms=other.terms)
        with pytest.raises(UsageError, match="safe only once"):
            await aggregate(p, terms=w.terms)

    def client(name: str) -> Program[Any]:
        async def program(p: Party) -> None:
            await contribute(p, w.xs[name], terms=w.terms, identity=w.identities[name])
            await contribute(p, other.xs[name], terms=other.terms, identity=w.identities[name])
            before = p.ledger.total().sent.messages
            with pytest.raises(UsageError, match="safe only once"):
                await contribute(p, w.xs[name], terms=w.terms, identity=w.identities[name])
            assert p.ledger.total().sent.messages == before
            refused.append(name)

        return program

    assert not simulate({"server": server} | {n: client(n) for n in w.terms.roles.clients}).errors
    assert sorted(refused) == sorted(w.terms.roles.clients)


# Dropouts at every round.

MODELS: tuple[ThreatModel, ...] = ("semi-honest", "malicious")
STEPS = dict(zip(MODELS, (4, 5), strict=True))  # messages that a client sends


@pytest.mark.slow
@pytest.mark.parametrize("leavers", [("c1",), ("c1", "c2")])
def test_a_crash_at_any_message_leaves_the_right_sum(
    world: MakeWorld, variant: dict[str, Any], leavers: tuple[str, ...]
) -> None:
    w = world(**(variant | {"clients": 10}))
    for message in range(STEPS[w.terms.parameters.threat_model]):
        faults = [Fault("crash", message, sender=name) for name in leavers]
        out = simulate(w.programs, faults=faults)
        assert not out.errors
        result = out.results["server"]
        check_sum(w, result)
        # keys, shares, vector: who crashed before it had sent that is not in the sum; afterwards it is
        assert result.dropped == (leavers if message < 3 else ())


@pytest.mark.slow
def test_declared_cost_is_what_the_ledger_measured_whoever_stayed(
    world: MakeWorld, variant: dict[str, Any]
) -> None:
    w = world(**variant)
    n = len(w.terms.roles.clients)
    everybody = frozenset(range(n))
    for message in range(STEPS[w.terms.parameters.threat_model] + 1):
        faults = [Fault("crash", message, sender="c1")]
        out = simulate(w.programs, faults=faults, insecure_seed=3)
        left = [
            everybody - {1} if message <= step else everybody
            for step in range(STEPS[w.terms.parameters.threat_model])
        ]
        if not w.terms.malicious:
            left.insert(3, left[2])
        stayed = Stayed(*left)
        session = session_of(3, list(w.programs))
        for name, ledger in out.ledgers.items():
            if name != "c1" or message == STEPS[w.terms.parameters.threat_model]:
                assert measured(name, ledger) == cost(name, terms=w.terms, session=session, stayed=stayed), (
                    name,
                    message,
                )


def session_of(seed: int, roster: list[str]) -> bytes:
    """Return the session of a simulation with this seed."""
    seen = []

    async def look(p: Party) -> None:
        seen.append(p.session)

    simulate(dict.fromkeys(roster, look), insecure_seed=seed)
    return seen[0]


@pytest.mark.slow
def test_as_many_dropouts_as_planned_are_borne_and_one_more_opens_nothing(world: MakeWorld) -> None:
    for threat_model in MODELS:
        w = world(10, threat_model=threat_model)
        assert w.terms.parameters.n_dropouts == 2
        for message in range(STEPS[threat_model]):
            for count in (2, 3):
                faults = [Fault("crash", message, sender=f"c{i}") for i in range(count)]
                out = simulate(w.programs, faults=faults)
                if count == 2:
                    check_sum(w, out.results["server"])
                else:
                    error = out.errors["server"]
                    assert isinstance(error, TooFewPartiesError)
                    assert "opened" in str(error)
                    assert "server" not in out.results


class LeftError(SecaggError):
    """What a client of a test ends with."""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "dropped"), [(Shares, ("c1",)), (MaskedInput, ("c1",)), (Unmasking, ())])
def test_a_client_that_leaves_a_real_network_ends_nobody_elses_run(
    world: MakeWorld, over_tcp: Drive, kind: type[wire.Message], dropped: tuple[str, ...]
) -> None:
    def leave(_: Any) -> Any:
        raise LeftError

    w = world(5)
    ended, _ = over_tcp(lying(w, "c1", leave, kind))
    result = ended.pop("server")
    check_sum(w, result)
    assert result.dropped == dropped
    assert isinstance(ended.pop("c1"), LeftError)
    assert {stayed.contributors for stayed in ended.values()} == {result.contributors}


def test_a_late_vector_stays_out_of_the_sum(world: MakeWorld) -> None:
    w = world(5)
    out = simulate(w.programs, faults=[Fault("delay", 2, sender="c3", seconds=7.0)])
    result = out.results["server"]
    assert result.dropped == ("c3",)
    check_sum(w, result)
    assert isinstance(out.errors["c3"], PeerMissingError)


# Lies, end to end.


def lying(w: Any, name: str, lie: Callable[[Any], Any], kind: type[wire.Message]) -> dict[str, Program[Any]]:
    """Return the programs with one client that alters the messages of one kind that it sends."""

    async def program(p: Party) -> None:
        client = Client(SumInSession(w.terms, p.session), name, w.identities[name])

        def send(message: wire.Message) -> None:
            p.send("server", lie(message) if isinstance(message, kind) else message)

        send(client.advertise())
        send(client.share(await p.receive(PeerKeys, "server")))
        send(client.mask(w.xs[name], await p.receive(PeerShares, "server")))
        send(client.unmask(await p.receive(Included, "server")))

    return {**w.programs, name: program}


@pytest.mark.parametrize(
    ("kind", "lie"),
    [
        (Keys, lambda m: msgspec.structs.replace(m, signature=m.signature ^ 1)),
        (Keys, lambda m: msgspec.structs.replace(m, keys=m.keys[:1])),
        (Shares, lambda m: msgspec.structs.replace(m, sealed=m.sealed[:1])),
        (MaskedInput, lambda m: msgspec.structs.replace(m, packed=m.packed[:-1])),
        (MaskedInput, lambda m: msgspec.structs.replace(m, packed=m.packed | np.uint8(255))),
        (MaskedInput, lambda _: Unmasking(np.zeros((1, 33), np.uint8))),
    ],
)
def test_a_client_that_sends_garbage_is_left_out_and_the_sum_is_right(
    world: MakeWorld, kind: type[wire.Message], lie: Callable[[Any], Any]
) -> None:
    w = world(5)
    out = simulate(lying(w, "c2", lie, kind))
    result = out.results["server"]
    assert result.dropped == ("c2",)
    check_sum(w, result)
    assert set(out.errors) == {"c2"}


def test_garbage_behind_the_vector_does_not_take_it_out_of_the_sum(world: MakeWorld) -> None:
    w = world(5)
    programs = lying(w, "c2", lambda m: msgspec.structs.replace(m, shares=m.shares[:2]), Unmasking)
    result = simulate(programs).results["server"]
    assert result.dropped == ()
    check_sum(w, result)


def test_a_client_that_seals_garbage_for_everybody_ends_the_run_and_is_named(world: MakeWorld) -> None:
    # Its vector is in the sum, and its self mask cannot be had.
    w = world(5)
    programs = lying(w, "c2", lambda m: msgspec.structs.replace(m, sealed=m.sealed ^ 1), Shares)
    out = simulate(programs)
    error = out.errors["server"]
    assert isinstance(error, TooFewPartiesError)
    assert error.peer == "c2"


def test_a_server_that_shows_two_groups_different_survivors_gets_no_answers(world: MakeWorld) -> None:
    w = world(10, threat_model="malicious")
    answers: list[Unmasking] = []

    async def server(p: Party) -> None:
        s = Server(SumInSession(w.terms, p.session))
        steps: tuple[tuple[type[Message], Any, Any], ...] = (
            (Keys, s.take_keys, s.close_keys),
            (Shares, s.take_shares, s.close_shares),
        )
        for kind, take, close in steps:
            for name, message in (await p.gather(kind, w.terms.roles.clients)).items():
                take(name, message)
            for name, reply in close().items():
                p.send(name, reply)
        await p.gather(MaskedInput, w.terms.roles.clients)
        for i, name in enumerate(w.terms.roles.clients):
            p.send(name, Included(pack_set(frozenset(range(10)) - ({9} if i < 5 else {8}), 10)))
        asked = w.terms.roles.clients[:8]
        got = await p.gather(Consent, asked)
        signatures = np.stack([m.signature for m in got.values()])
        for name in asked:
            p.send(name, Consents(pack_set(frozenset(range(8)), 10), signatures))
        answers.extend((await p.gather(Unmasking, asked, quorum=0)).values())

    out = simulate({**w.programs, "server": server})
    assert not answers
    for name in w.terms.roles.clients[:8]:
        error = out.errors[name]
        assert isinstance(error, RemoteProtocolError)
        assert error.peer == "server"


def test_messages_of_another_session_are_refused(world: MakeWorld) -> None:
    # c2 takes part under another session: its signature does not fit, so it is left out.
    w = world(5)

    async def elsewhere(p: Party) -> None:
        where = SumInSession(w.terms, bytes(32))
        p.send("server", Client(where, "c2", w.identities["c2"]).advertise())
        await p.receive(PeerKeys, "server")

    out = simulate({**w.programs, "c2": elsewhere})
    assert out.results["server"].dropped == ("c2",)
    check_sum(w, out.results["server"])


# What is refused of the caller.


def test_a_vector_that_does_not_fit_is_refused_before_anything_is_sent(world: MakeWorld) -> None:
    w = world(5)

    async def wrong(p: Party) -> Any:
        return await contribute(p, np.zeros(8, np.uint32), terms=w.terms, identity=w.identities["c0"])

    out = simulate({**w.programs, "c0": wrong})
    assert isinstance(out.errors["c0"], ShapeError)
    assert out.ledgers["c0"].total().sent.messages == 0
    check_sum(w, out.results["server"])


def test_programs_for_another_role_or_roster_are_refused(world: MakeWorld) -> None:
    w = world(4)
    swapped = {**w.programs, "c0": w.programs["server"], "server": w.programs["c0"]}
    out = simulate(swapped)
    assert isinstance(out.errors["c0"], UsageError)
    assert isinstance(out.errors["server"], UsageError)
    del w.programs["c3"]
    out = simulate(w.programs)
    assert all("c3" in str(e) for e in out.errors.values())


# What the wire shows.


def messages(transcript: list[tuple[str, str, bytes]], kind: type[Any]) -> list[tuple[str, str, Any]]:
    found = []
    for sender, receiver, frame in transcript:
        cut = wire.decode_envelope(frame, peer=sender)
        if cut.envelope.kind == kind.KIND:
            found.append((sender, receiver, wire.decode_body(cut, kind, peer=sender)[0]))
    return found


@pytest.mark.parametrize("fill", [0, 77])
def test_masked_vectors_are_uniform_whatever_the_inputs_and_so_are_their_sums(
    world: MakeWorld, fill: int
) -> None:
    d = 1 << 16
    xs = {f"c{i}": np.full(d, fill, np.uint8) for i in range(5)}
    w = world(5, length=d, bits=8, xs=xs)
    assert chi_square(xs["c0"]) > 1e6  # the statistic does see an input
    out = simulate(w.programs, insecure_seed=fill, record=True)
    seen = {sender: m.packed for sender, _, m in messages(out.transcript, MaskedInput)}
    assert len(seen) == 5
    for values in seen.values():
        assert chi_square(values) < CHI_SQUARE_LIMIT
    names = sorted(seen)
    for a, b in itertools.pairwise(names):
        assert chi_square(seen[a] + seen[b]) < CHI_SQUARE_LIMIT
        assert chi_square(seen[a] - seen[b]) < CHI_SQUARE_LIMIT
    # All of them less the masks of pairs, which cancel: the self masks remain.
    assert chi_square(np.asarray(np.sum(list(seen.values()), axis=0, dtype=np.uint8))) < CHI_SQUARE_LIMIT
    assert set(out.results["server"].total.tolist()) == {5 * fill % 256}


def test_what_the_server_can_take_off_leaves_single_vectors_uniform(world: MakeWorld) -> None:
    # The server knows the self masks of survivors and the masking key of who dropped out. Off a survivor's vector it
    # takes both; the masks in common with other survivors remain.
    d = 1 << 16
    w = world(5, length=d, bits=8, xs={f"c{i}": np.zeros(d, np.uint8) for i in range(5)})
    where = SumInSession(w.terms, bytes(32))
    clients = {
        n: Client(where, n, w.identities[n], root=bytes([i + 1]) * 32)
        for i, n in enumerate(w.terms.roles.clients)
    }
    keys = {n: c.advertise() for n, c in clients.items()}
    server = Server(where)
    for n, m in keys.items():
        server.take_keys(n, m)
    peers = server.close_keys()
    for n, c in clients.items():
        server.take_shares(n, c.share(peers[n]))
    inboxes = server.close_shares()
    for i, (n, c) in enumerate(clients.items()):
        y = c.mask(w.xs[n], inboxes[n]).packed.copy()
        add_masks(y, [Mask(self_seed(where, c._secrets.self_secret, i), minus=True)])
        assert chi_square(y) < CHI_SQUARE_LIMIT


@pytest.mark.slow
def test_the_wire_shows_the_same_lengths_and_order_for_all_inputs(
    world: MakeWorld, variant: dict[str, Any]
) -> None:
    shapes = []
    for seed in range(3):
        w = world(**variant, seed=seed)
        out = simulate(w.programs, insecure_seed=7, record=True)
        shapes.append([(sender, receiver, len(frame)) for sender, receiver, frame in out.transcript])
    assert all(shape == shapes[0] for shape in shapes)


def test_clients_talk_to_the_server_alone_and_what_it_carries_is_sealed(world: MakeWorld) -> None:
    w = world(5)
    out = simulate(w.programs, record=True)
    assert all("server" in (sender, receiver) for sender, receiver, _ in out.transcript)
    sealed = b"".join(m.sealed.tobytes() for _, _, m in messages(out.transcript, PeerShares))
    told = [row.tobytes() for _, _, m in messages(out.transcript, Unmasking) for row in m.shares]
    assert told
    assert not any(share[:16] in sealed for share in told)
