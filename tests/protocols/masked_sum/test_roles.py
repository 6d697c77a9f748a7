"""The role classes, stepped by hand.

The module is long because each round of the three roles is stepped on its own.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import itertools
import pickle
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from secagg.errors import (
    RangeError,
    RemoteProtocolError,
    ShapeError,
    UsageError,
    WireError,
)
from secagg.prg import Stream
from secagg.protocols.masked_sum import (
    Client,
    Included,
    Phase,
    Stage,
    SumInSession,
    Unmasking,
    choose,
    reference,
)
from secagg.protocols.masked_sum.keys import Secrets, commit, public_bytes, secret_key, self_seed
from secagg.protocols.masked_sum.masks import Mask, add_masks
from secagg.protocols.masked_sum.shamir import SHARE_BYTES, Basis, read_share
from secagg.protocols.masked_sum.terms import pack_set, unpack_set
from secagg.protocols.threat_model import ThreatModel
from secagg.ring import Ring, RingArray
from sums import with_changes

MakePlay = Callable[..., Any]


# What it computes.


@pytest.mark.parametrize("bits", [8, 13, 16, 20, 32, 33, 48, 63, 64])
def test_the_sum_equals_the_plain_sum_in_any_ring(play: MakePlay, bits: int) -> None:
    p = play(bits=bits, length=11).until_request().play_answers()
    result = p.server.finish()
    assert result.total.dtype == p.terms.ring.dtype
    np.testing.assert_array_equal(result.total, reference(p.xs, p.terms))
    assert result.contributors == p.names
    assert result.dropped == result.suspects == ()


@pytest.mark.parametrize("threat_model", ["semi-honest", "malicious"])
@pytest.mark.parametrize("n", [2, 3])
def test_two_and_three_clients_are_enough(play: MakePlay, n: int, threat_model: ThreatModel) -> None:
    p = play(n, threat_model=threat_model).until_request().play_answers()
    np.testing.assert_array_equal(p.server.finish().total, reference(p.xs, p.terms))
    assert len(p.keys) == len(p.answers) == n


def test_the_plain_sum_is_that_of_python_integers(play: MakePlay) -> None:
    p = play(bits=13)
    expected = [sum(int(x[i]) for x in p.xs.values()) % 2**13 for i in range(7)]
    assert reference(p.xs, p.terms).tolist() == expected


def test_who_drops_out_after_the_shares_is_left_out_and_the_masks_in_common_with_it_come_off(
    play: MakePlay, variant: dict[str, Any]
) -> None:
    p = play(**variant).until_inputs()
    p.play_inputs(without=["c1"]).play_consents().play_answers()
    result = p.server.finish()
    assert result.dropped == ("c1",)
    kept = {name: x for name, x in p.xs.items() if name != "c1"}
    np.testing.assert_array_equal(result.total, reference(kept, p.terms))


def test_who_drops_out_after_its_vector_stays_in_the_sum(play: MakePlay, variant: dict[str, Any]) -> None:
    p = play(**variant).until_inputs().play_inputs()
    p.play_consents(without=["c1"]).play_answers(without=["c1"])
    result = p.server.finish()
    assert result.dropped == ()
    np.testing.assert_array_equal(result.total, reference(p.xs, p.terms))


@pytest.mark.slow
def test_who_drops_out_before_the_shares_has_no_masks_to_come_off(
    play: MakePlay, variant: dict[str, Any]
) -> None:
    for early in (True, False):
        p = play(**variant)
        p.play_keys(without=["c1"] if early else []).play_shares(without=["c1"])
        p.play_inputs().play_consents().play_answers()
        kept = {name: x for name, x in p.xs.items() if name != "c1"}
        np.testing.assert_array_equal(p.server.finish().total, reference(kept, p.terms))


def test_threads_give_the_same_sum(play: MakePlay) -> None:
    p = play(6, length=70_000, bits=32).until_inputs()
    with ThreadPoolExecutor(2) as pool:
        for name in p.names:
            twin = Client.from_bytes(p.clients[name].to_bytes(), p.where, p.identities[name])
            masked = p.clients[name].mask(p.xs[name], p.inboxes[name], executor=pool)
            np.testing.assert_array_equal(masked.packed, twin.mask(p.xs[name], p.inboxes[name]).packed)
            if name != "c0":
                p.server.take_input(name, masked)
        p.request = p.server.close_inputs()
        p.play_answers()
        total = p.server.finish(executor=pool).total
    np.testing.assert_array_equal(total, reference({n: x for n, x in p.xs.items() if n != "c0"}, p.terms))


def test_masks_are_added_and_subtracted_as_the_streams_of_their_seeds() -> None:
    seeds = [bytes([i]) * 32 for i in range(5)]
    for dtype in (np.uint8, np.uint16, np.uint32, np.uint64):
        x: RingArray = np.arange(100_001).astype(dtype)
        expected = x.copy()
        for i, seed in enumerate(seeds):
            mask = np.empty_like(x)
            Stream(seed).fill(mask)
            expected = expected + mask if i < 2 else expected - mask
        y = x.copy()
        add_masks(y, [Mask(seed, i >= 2) for i, seed in enumerate(seeds)])
        np.testing.assert_array_equal(y, expected)


def test_threads_expand_many_masks_to_the_same_vector() -> None:
    masks = [Mask(i.to_bytes(32, "little"), minus=i % 3 == 0) for i in range(100)]
    alone, together = np.arange(50_000, dtype=np.uint32), np.arange(50_000, dtype=np.uint32)
    add_masks(alone, masks)
    with ThreadPoolExecutor(3) as pool:
        add_masks(together, iter(masks), executor=pool)
    np.testing.assert_array_equal(alone, together)
    assert (alone != np.arange(50_000)).any()


def test_the_vector_given_is_not_changed(play: MakePlay) -> None:
    p = play().until_inputs()
    before = p.xs["c0"].copy()
    p.clients["c0"].mask(p.xs["c0"], p.inboxes["c0"])
    np.testing.assert_array_equal(p.xs["c0"], before)


def test_a_vector_of_another_ring_or_length_is_refused_and_a_right_one_still_taken(play: MakePlay) -> None:
    p = play(bits=20).until_inputs()
    client = p.clients["c0"]
    for bad, error in (
        (np.zeros(8, np.uint32), ShapeError),
        (np.zeros((7, 1), np.uint32), ShapeError),
        (np.zeros(7, np.uint64), ShapeError),
        (np.full(7, 1 << 20, np.uint32), RangeError),
    ):
        with pytest.raises(error):
            client.mask(bad, p.inboxes["c0"])
    assert client.mask(p.xs["c0"], p.inboxes["c0"]).packed.shape == (18,)


# Never both secrets of one client.


def test_of_each_client_one_share_is_told_and_which_one_its_fate_says(
    play: MakePlay, variant: dict[str, Any]
) -> None:
    p = play(**variant).until_inputs().play_inputs(without=["c2"]).play_consents().play_answers()
    threshold = p.terms.parameters.threshold
    told: dict[int, dict[int, int]] = {}
    for name, answer in p.answers.items():
        me = p.number(name)
        held = [o for o in p.where.graph.holders(me) if p.names[o] in p.inboxes]
        assert answer.shares.shape == (len(held), SHARE_BYTES)
        for row, owner in enumerate(held):
            told.setdefault(owner, {})[me + 1] = read_share(answer.shares[row].tobytes())
    for owner, shares in told.items():
        points = tuple(shares)[:threshold]
        secret = Basis(points).combine([shares[x] for x in points])
        name = p.names[owner]
        if name == "c2":
            assert public_bytes(secret_key(secret)) == p.keys[name].keys[1].tobytes()
        else:
            assert commit(p.where, secret, owner) == p.shares[name].commitment.tobytes()


def test_as_many_shares_as_the_threshold_give_a_secret_and_one_fewer_do_not(
    play: MakePlay, variant: dict[str, Any]
) -> None:
    p = play(**variant).until_request().play_answers()
    threshold = p.terms.parameters.threshold
    for owner, name in enumerate(p.names):
        shares = {}
        for holder in p.where.graph.holders(owner):
            row = p.where.graph.holders(holder).index(owner)
            shares[holder + 1] = read_share(p.answers[p.names[holder]].shares[row].tobytes())
        points = tuple(shares)
        for some in (points[:threshold], points[-threshold:]):
            secret = Basis(some).combine([shares[x] for x in some])
            assert commit(p.where, secret, owner) == p.shares[name].commitment.tobytes()
            with contextlib.suppress(RangeError):
                assert Basis(some[1:]).combine([shares[x] for x in some[1:]]) != secret


def test_no_request_can_name_a_client_both_ways() -> None:
    assert list(Included.__struct_fields__) == ["included"]
    for members in (frozenset[int](), frozenset({0, 8, 9})):
        assert unpack_set(pack_set(members, 10), 10) == members
    for bad in (np.array([0, 4], np.uint8), np.zeros(3, np.uint8), np.zeros((1, 2), np.uint8)):
        with pytest.raises(ShapeError):
            unpack_set(bad, 10)


# State.


@pytest.mark.parametrize("threat_model", ["semi-honest", "malicious"])
def test_a_client_stored_and_restored_before_each_step_does_the_same(
    play: MakePlay, threat_model: ThreatModel
) -> None:
    p = play(threat_model=threat_model)

    def restored(name: str) -> Client:
        p.clients[name] = Client.from_bytes(p.clients[name].to_bytes(), p.where, p.identities[name])
        return p.clients[name]

    for step in (p.play_keys, p.play_shares, p.play_inputs, p.play_consents, p.play_answers):
        for name in p.names:
            before = p.clients[name].phase
            assert restored(name).phase is before
        step()
    np.testing.assert_array_equal(p.server.finish().total, reference(p.xs, p.terms))
    for name in p.names:
        client = restored(name)
        assert client.phase is Phase.OVER
        with pytest.raises(Exception, match="answers no more"):
            client.unmask(p.request)


def test_a_client_restored_before_it_shared_seals_the_same_bytes_again(play: MakePlay) -> None:
    # So a key that seals with a fixed nonce seals one message, even after a crash.
    p = play().play_keys()
    stored = p.clients["c0"].to_bytes()
    first = p.clients["c0"].share(p.peer_keys["c0"])
    again = Client.from_bytes(stored, p.where, p.identities["c0"]).share(p.peer_keys["c0"])
    np.testing.assert_array_equal(first.sealed, again.sealed)
    np.testing.assert_array_equal(first.commitment, again.commitment)


def test_a_stored_client_of_another_round_or_altered_is_refused(play: MakePlay) -> None:
    p = play()
    stored = p.clients["c0"].to_bytes()
    with pytest.raises(UsageError, match="another session"):
        Client.from_bytes(stored, SumInSession(p.terms, bytes(32)), p.identities["c0"])
    with pytest.raises(UsageError, match="another session"):
        Client.from_bytes(stored, play(number=1).where, p.identities["c0"])
    with pytest.raises(UsageError, match="identity"):
        Client.from_bytes(stored, p.where, p.identities["c1"])
    with pytest.raises(WireError):
        Client.from_bytes(stored[:-3], p.where, p.identities["c0"])


# Secrets are not shown.


def test_secrets_are_not_shown_copied_or_pickled(play: MakePlay) -> None:
    root = b"\xa7" * 32
    p = play()
    client = Client(p.where, "c0", p.identities["c0"], root=root)
    for secret in (client, Secrets(root, p.where)):
        assert "a7a7" not in repr(secret).lower()
        assert "\\xa7" not in repr(secret)
        for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError):
                attempt(secret)
    assert client.__rich_repr__() == []
    assert "xa7" not in repr(Mask(root, minus=False))
    for message in (client.advertise(), Unmasking(np.zeros((1, 33), np.uint8))):
        assert repr(message) == f"<{type(message).__name__}>"


def test_a_client_whose_round_is_over_has_forgotten_its_root(play: MakePlay) -> None:
    root = bytes(range(100, 132))
    p = play()
    p.clients["c0"] = Client(p.where, "c0", p.identities["c0"], root=root)
    assert root in p.clients["c0"].to_bytes()
    p.until_request().play_answers()
    assert root not in p.clients["c0"].to_bytes()


def test_a_client_that_refused_has_forgotten_its_root(play: MakePlay) -> None:
    root = bytes(range(100, 132))
    p = play().until_inputs()
    client = Client(p.where, "c0", p.identities["c0"], root=root)
    client.advertise()
    with pytest.raises(RemoteProtocolError, match="made once"):
        client.advertise()
    assert root not in client.to_bytes()


# Freshness: everything is bound to session, round, pair and purpose.


def test_masks_keys_and_masked_vectors_differ_between_rounds_and_sessions(play: MakePlay) -> None:
    seen = set()
    for number in (0, 1):
        p = play(number=number)
        root = bytes(32)  # even if the randomness came again
        p.clients = {
            n: Client(p.where, n, p.identities[n], root=root[:31] + bytes([i])) for i, n in enumerate(p.names)
        }
        p.until_inputs()
        for name in p.names:
            seen.add(p.clients[name].mask(np.zeros_like(p.xs[name]), p.inboxes[name]).packed.tobytes())
    assert len(seen) == 10


def test_every_round_and_session_has_a_circle_of_its_own(play: MakePlay, sparse: Any) -> None:
    # Of 12! orders two are the same with a probability of 2e-9.
    terms = play(parameters=sparse).terms
    rounds = [
        SumInSession(dataclasses.replace(terms, round=number), session)
        for session in (bytes(32), b"\1" * 32)
        for number in (0, 1)
    ]
    near = {tuple(tuple(r.graph.neighbours(i)) for i in range(12)) for r in rounds}
    assert len(near) == 4


def test_the_context_depends_on_every_term(play: MakePlay) -> None:
    t = play().terms
    malicious = choose(5, max_corrupt=0.2, max_dropout=0.2, threat_model="malicious")
    others = [
        t,
        with_changes(t, aggregators=("other",), results=("other",)),
        with_changes(t, clients=t.roles.clients[::-1]),
        with_changes(t, identities=t.identities[::-1]),
        with_changes(t, length=8),
        with_changes(t, ring=Ring(21)),
        with_changes(t, parameters=choose(5, max_corrupt=0, max_dropout=0)),
        with_changes(t, parameters=malicious),
        with_changes(t, parameters=dataclasses.replace(t.parameters, threshold=5)),
    ]
    contexts = [
        SumInSession(dataclasses.replace(terms, round=number), session).context
        for terms in others
        for session in (bytes(32), b"\1" * 32)
        for number in (0, 1)
    ]
    assert len(set(contexts)) == len(contexts)


def test_the_context_depends_on_each_number_of_the_graph(play: MakePlay) -> None:
    chosen = choose(9, max_corrupt=1 / 9, max_dropout=2 / 9, threat_model="malicious")
    t = dataclasses.replace(play(9).terms, parameters=chosen)
    graph = dataclasses.replace(t.parameters, quorum=6)
    assert (graph.threshold, graph.min_clients) == (7, 7)
    changes: list[dict[str, Any]] = [
        {"quorum": 7},
        {"min_clients": 6},
        {"threshold": 6},
        {"n_corrupt": 0},
        {"n_dropouts": 1},
        {"threat_model": "semi-honest"},
    ]
    terms = [
        dataclasses.replace(t, parameters=dataclasses.replace(graph, **change)) for change in [{}, *changes]
    ]
    assert len({each.fingerprint() for each in terms}) == len(terms)
    assert len({SumInSession(each, bytes(32)).context for each in terms}) == len(terms)


# What is refused of the caller.


def test_terms_that_cannot_be_are_refused(play: MakePlay) -> None:
    t = play().terms
    wrong: list[dict[str, Any]] = [
        {"aggregators": ("c0",), "results": ("c0",)},
        {"aggregators": ("",), "results": ("",)},
        {"aggregators": ("server", "other")},
        {"results": ("c0",)},
        {"key_holders": ("server",)},
        {"clients": (*t.roles.clients[:4], "c0")},
        {"identities": t.identities[:4]},
        {"identities": (*t.identities[:4], t.identities[0])},
        {"identities": (*t.identities[:4], b"short")},
        {"length": 0},
        {"ring": Ring(7)},
        {"parameters": choose(6)},
    ]
    for change in wrong:
        with pytest.raises(UsageError):
            with_changes(t, **change)
    changes: list[dict[str, Any]] = [
        {"round": -1},
        {"round": 1 << 64},
        {"timeout_s": 0.0},
        {"timeout_s": float("nan")},
    ]
    for change in changes:
        with pytest.raises(UsageError, match=r"round|timeout_s"):
            dataclasses.replace(t, **change)
    for session in (bytes(31), b""):
        with pytest.raises(UsageError, match="session"):
            SumInSession(t, session)


def test_a_client_that_is_none_or_holds_another_identity_is_refused(play: MakePlay) -> None:
    p = play()
    with pytest.raises(UsageError, match="nobody"):
        Client(p.where, "nobody", p.identities["c0"])
    with pytest.raises(UsageError, match="identity"):
        Client(p.where, "c0", p.identities["c1"])
    with pytest.raises(UsageError):
        Client(p.where, "c0", p.identities["c0"], root=bytes(31))


def test_the_server_closes_each_round_once_and_in_order(play: MakePlay) -> None:
    p = play()
    for close in (p.server.close_shares, p.server.close_inputs, p.server.close_consents, p.server.finish):
        with pytest.raises(UsageError):
            close()
    p.until_request().play_answers()
    p.server.finish()
    assert p.server.stage is Stage.OVER
    for close in (p.server.close_keys, p.server.close_inputs, p.server.finish):
        with pytest.raises(UsageError):
            close()


@pytest.mark.slow
def test_the_server_holds_one_vector_however_many_clients_there_are(play: MakePlay) -> None:
    peaks = []
    for n in (4, 16):
        p = play(n, length=50_000, bits=32).until_inputs()
        inputs = [(name, p.clients[name].mask(p.xs[name], p.inboxes[name])) for name in p.names]
        tracemalloc.start()
        for name, message in inputs:
            p.server.take_input(name, message)
        p.server.close_inputs()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 200_000 * 1.2  # one vector of 4 bytes an element, not sixteen
    assert peaks[1] < peaks[0] + 50_000


def test_every_pair_of_clients_cancels(play: MakePlay, sparse: Any) -> None:
    # The sum of all masked vectors less the self masks is the plain sum: with two clients in common one adds and the
    # other subtracts. Taking off the masks of a pair twice, or the wrong way round, shows.
    p = play(parameters=sparse, bits=32).until_inputs().play_inputs()
    total = np.zeros(7, np.uint32)
    for message in p.inputs.values():
        total += message.packed.view(np.uint32)
    minus = [self_seed(p.where, p.clients[n]._secrets.self_secret, p.number(n)) for n in p.names]
    add_masks(total, [Mask(seed, minus=True) for seed in minus])
    np.testing.assert_array_equal(total, reference(p.xs, p.terms))
    for a, b in itertools.combinations(range(12), 2):
        assert (b in p.where.graph.neighbours(a)) == (a in p.where.graph.neighbours(b))
