"""Whole runs on constant inputs: all that a party receives is uniform but for what is opened or public.

Every field of every message that a run sends is declared below. A message that is not declared fails the test,
so a new one has to say how it must look. See `transcripts` for statistics and false alarms.

The module is long because each message of each protocol is declared in it.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import transcripts
from secagg.mpc.additive import Seed, expand
from secagg.mpc.bits import LANES
from secagg.mpc.groups import XOR
from secagg.mpc.three import inputs as mpc_inputs
from secagg.mpc.three.channel import PairSecret, Reshare
from secagg.mpc.three.comparison import CarrySharing, Thermometers
from secagg.mpc.three.inputs import HeldInCommon, InputFromComputing, InputFromOutside
from secagg.mpc.three.opening import Opening
from secagg.mpc.three.shuffle import Permuted
from secagg.network.simulated import Fault, Outcome, simulate
from secagg.prg import Stream
from secagg.protocols import additive_sum, bounded_sum, masked_sum
from secagg.protocols.additive_sum.program import Part, PartialSum
from secagg.protocols.agreement import Agreed, Arrived
from secagg.protocols.bounded_sum.messages import (
    PassedRest,
    PassedSeeds,
    Rest,
    Seeds,
    Verdict,
)
from secagg.protocols.bounded_sum.program import _expand
from secagg.protocols.group_by import Field, Query, Rows, find_groups, reference
from secagg.protocols.group_by.announcement import Announcement, Heard
from secagg.protocols.group_by.layout import bit_fields
from secagg.protocols.group_by.owner import PlacedRows
from secagg.protocols.masked_sum import keys as masked_keys
from secagg.protocols.masked_sum.messages import (
    Consent,
    Consents,
    Included,
    Keys,
    MaskedInput,
    PeerKeys,
    PeerShares,
    Shares,
    Unmasking,
)
from secagg.protocols.pseudonyms import HashKeyPart
from secagg.protocols.threat_model import ThreatModel
from secagg.ring import Ring
from transcripts import Sent, View, check_over_runs, elements, lanes

pytestmark = pytest.mark.slow

# How a field must look: uniform; secret bytes that are drawn once; opened, and so what its test says; or public.
MASKED, FRESH, OPENED, PUBLIC = "masked", "fresh", "opened", "public"
FORMS: Final[Mapping[Any, Mapping[str, str]]] = {
    PairSecret: {"contribution": FRESH, "terms": PUBLIC},
    HashKeyPart: {"contribution": FRESH},
    Announcement: {"rows": PUBLIC, "commitment": PUBLIC, "contribution": PUBLIC},
    Heard: {"digests": PUBLIC},
    HeldInCommon: {"digest": PUBLIC},  # to those who hold what it is of
    InputFromComputing: {"share": MASKED},
    InputFromOutside: {"seeds": FRESH, "share": MASKED, "name": PUBLIC},
    Reshare: {"share": MASKED},
    Permuted: {"rows": MASKED},
    Opening: {"position": PUBLIC, "shares": OPENED, "name": PUBLIC},
    Thermometers: {"planes": MASKED},
    CarrySharing: {"planes": MASKED},
    Part: {"part": MASKED},
    PartialSum: {"received": PUBLIC, "statement": PUBLIC, "packed": OPENED},
    Seeds: {"seeds": FRESH},
    Rest: {"share": MASKED},
    PassedSeeds: {"seeds": FRESH},
    PassedRest: {"share": MASKED},
    Verdict: {"status": OPENED},
    Arrived: {"received": PUBLIC},
    Agreed: {"statement": PUBLIC},
    Keys: {"keys": PUBLIC, "signature": PUBLIC},
    PeerKeys: {"present": PUBLIC, "keys": PUBLIC, "signatures": PUBLIC},
    Shares: {"commitment": MASKED, "sealed": MASKED},
    PeerShares: {"shared": PUBLIC, "sealed": MASKED},
    MaskedInput: {"packed": MASKED},
    Included: {"included": PUBLIC},
    Consent: {"signature": PUBLIC},
    Consents: {"signers": PUBLIC, "signatures": PUBLIC},
    Unmasking: {"shares": OPENED},
}


def by_form(messages: Iterable[Sent], form: str) -> list[tuple[Sent, str, Any]]:
    """Return the fields of that form, as (frame, name, value); fails on a field that has none."""
    found = []
    for m in messages:
        for name, value in transcripts.fields(m.message).items():
            forms = FORMS.get(type(m.message), {})
            assert name.split("[")[0] in forms, f"say in FORMS how {m.message.KIND}.{name} must look"
            if forms[name.split("[")[0]] == form and value is not None:
                found.append((m, name, value))
    return found


def assert_fresh(runs: Iterable[list[Sent]], copies: Callable[[Sent], int]) -> None:
    """Check that secret bytes never come twice: in a run a value goes to as many receivers as it is meant for."""
    everywhere: Counter[bytes] = Counter()
    for messages in runs:
        seen: dict[bytes, list[Sent]] = defaultdict(list)
        for m, _, value in by_form(messages, FRESH):
            rows = [value] if isinstance(value, bytes) else [row.tobytes() for row in value.reshape(-1, 32)]
            for secret in rows:
                assert len(secret) == 32
                seen[secret].append(m)
        for secret, where in seen.items():
            assert len(where) == copies(where[0]), [m.message.KIND for m in where]
            assert len({m.receiver for m in where}) == len(where)
            everywhere[secret] += 1
    assert set(everywhere.values()) == {1}


def assert_spare_bytes_are_zero(messages: Iterable[Sent]) -> None:
    """Check that a frame holds its arrays and zeros between them, and nothing of the memory around."""
    for m in messages:
        arrays = [v for v in transcripts.fields(m.message).values() if isinstance(v, np.ndarray)]
        if arrays:
            tail = np.frombuffer(m.frame, np.uint8)[-sum(-(-a.nbytes // 16) * 16 for a in arrays) or None :]
            for array in arrays:
                used, padded = array.nbytes, -(-array.nbytes // 16) * 16
                assert not tail[used:padded].any()
                tail = tail[padded:]


# Group-by.

FIELDS = (Field("n", 3, at_least=2), Field("banks", 1, at_least=2, opened=False))


def table(names: Iterable[str], value: int = 0) -> Rows:
    listed = [*names]
    return Rows(np.array([*listed, None], object)[:-1], np.full((len(listed), 2), value, np.uint64))


def group_by(query: Query, tables: list[Rows], seed: int) -> Outcome[Any]:
    holders = dict(zip(query.input_parties, tables, strict=True))
    names = dict.fromkeys((*query.input_parties, *query.computing_parties))
    programs = {n: partial(find_groups, query=query, rows=holders.get(n)) for n in names}
    outcome = simulate(programs, record=True, insecure_seed=seed)
    outcome.values()
    return outcome


def view_of_lanes(messages: list[Sent], me: str) -> View:
    """Return what a computing party receives in a run with 64 buckets, a bucket a sample, openings left out."""
    view = View(LANES)
    for m, name, value in by_form(messages, MASKED):
        if m.receiver == me:
            as_bits = elements if isinstance(m.message, Permuted) else lanes
            view.add(f"{m.message.KIND}.{name} {len(view.names)}", as_bits(value, LANES))
    for m, name, seed in by_form(messages, FRESH):
        if m.receiver == me and isinstance(m.message, InputFromOutside):
            whole = next(
                o.message.share for o in messages if o.sender == m.sender and _share_of(o) is not None
            )
            drawn = mpc_inputs._expand(XOR, seed, whole.shape, m.sender)
            view.add(f"{m.sender}'s {name}", lanes(drawn, LANES))
    return view


def _share_of(m: Sent) -> Any:
    return m.message.share if isinstance(m.message, InputFromOutside) else None


BANKS = ("A", "B", "C", "D", "E")


@pytest.mark.parametrize(
    ("banks", "computing", "runs"),
    [
        (2, ("A", "x", "y"), 55),  # so many that all relations between messages show
        (3, ("A", "B", "C"), 8),
        (3, ("x", "y", "z"), 8),
        (5, ("C", "x", "A"), 6),
    ],
)
def test_all_that_is_received_while_joining_groups_is_uniform_but_for_openings(banks, computing, runs):
    query = Query(BANKS[:banks], computing, FIELDS)
    made = [
        transcripts.sent(group_by(query, [table(["i0", "i1"])] * banks, seed).transcript)
        for seed in range(runs)
    ]
    for me in computing:
        view = view_of_lanes(made[0], me)
        for messages in made[1:]:
            view = view.stack(view_of_lanes(messages, me))
        view.check(rank=banks == 2, pairs=banks == 2)
    inputs: dict[type, int] = {HashKeyPart: banks - 1, InputFromOutside: 2}
    assert_fresh(made, lambda m: inputs.get(type(m.message), 1))
    for messages in made:
        assert_spare_bytes_are_zero(messages)


@pytest.mark.parametrize(
    ("banks", "computing"), [(2, ("A", "x", "y")), (3, ("x", "y", "z")), (4, ("A", "B", "x"))]
)
def test_opened_rows_hold_their_fields_and_zeros_and_their_shares_nothing_else(banks, computing, monkeypatch):
    query = Query(BANKS[:banks], computing, FIELDS)
    tables = [table([f"i{k}" for k in range(2 + b)], value=1) for b in range(banks)]
    opened: dict[int, tuple[PlacedRows, Any]] = {}
    read = PlacedRows.read

    def note(placed: PlacedRows, rows: Any) -> Any:
        opened[placed._position] = placed, rows.copy()
        return read(placed, rows)

    monkeypatch.setattr(PlacedRows, "read", note)
    outcome = group_by(query, tables, 1)
    expected = reference(query, tables)
    for position, plain in enumerate(expected):
        placed, rows = opened[position]
        layout = placed.layout
        offsets = [*bit_fields(layout), bit_fields(layout)[-1] + query.sum_widths[query.opened[-1]]]
        capacity = layout.buckets.capacities[position]
        padding = (1 << layout.identity_bits) - 1 | position << offsets[-1]
        want = {bucket: [padding] * capacity for bucket in range(LANES)}
        for at, low, flag, total in zip(
            placed._at, placed._low, plain.flagged.tolist(), plain.sums[:, 0].tolist(), strict=True
        ):
            identity = int(low) & (1 << layout.identity_bits) - 1
            fields = (identity, int(flag), total, position)
            bucket = want[int(at) // capacity]  # there is one word: the bucket is the lane
            bucket.remove(padding)
            bucket.append(sum(v << o for v, o in zip(fields, offsets, strict=True)))
        words = rows.reshape(LANES, capacity, layout.row_words)
        for number in range(LANES):
            got = [sum(int(w) << 64 * i for i, w in enumerate(row)) for row in words[number]]
            assert sorted(got) == sorted(want[number])
    # Labels go in bytes of their own, and their spare bits carry nothing.
    openings = [m for m in transcripts.sent(outcome.transcript) if isinstance(m.message, Opening)]
    verdicts = [m for m in openings if m.message.shares[0].shape == (banks,)]
    assert len(verdicts) == 3
    assert not np.bitwise_xor.reduce([m.message.shares[0] for m in verdicts]).any()
    assert all((m.message.shares[0] <= 1).all() for m in verdicts)
    labels = [m for m in openings if m.message.shares[0].dtype == np.uint8 and m not in verdicts]
    assert len(labels) == 3
    shares = [m.message.shares[0] for m in labels]
    assert (np.bitwise_or.reduce(shares) < 1 << query.origin_planes).all()
    counts = Counter(np.bitwise_xor.reduce(shares).reshape(-1).tolist())
    assert counts == {i: LANES * layout.buckets.capacities[i] for i in range(banks)}
    # What an owner gets of its rows is uniform but for what the shares add up to.
    for owner in query.input_parties:
        ours = [m for m in openings if m.receiver == owner and m not in labels and m not in verdicts]
        mine = [s for m in ours for s in m.message.shares]
        assert len(mine) == (1 if owner in computing else 3)
        view = View(len(mine[0]))
        for i, share in enumerate(mine[:2]):
            view.add(f"share {i}", elements(share, len(share)))
        view.check(rank=False)


# Additive sums.


@pytest.mark.parametrize("roles", ["everyone", "apart"])
@pytest.mark.parametrize("fill", [0, (1 << 20) - 1])
def test_parts_and_all_but_one_partial_sum_are_uniform_and_independent(roles, fill):
    length, ring = 2048, Ring(20)
    clients = ("a", "b", "c")
    aggregators, results = (clients, clients) if roles == "everyone" else (("x", "y", "z"), ("r", "x"))
    terms = additive_sum.Terms(additive_sum.Roles(clients, aggregators, results), (length,), ring, 2)
    vector = np.full(length, fill, ring.dtype)
    programs = {
        name: partial(additive_sum.take_part, x=vector if name in clients else None, terms=terms)
        for name in dict.fromkeys((*clients, *aggregators, *results))
    }
    outcome = simulate(programs, record=True, insecure_seed=1)
    outcome.values()
    messages = transcripts.sent(outcome.transcript)
    assert_spare_bytes_are_zero(messages)
    seeds: Counter[bytes] = Counter()
    for me in programs:
        view, partial_sums = View(length), 0
        for m, name, value in [*by_form(messages, MASKED), *by_form(messages, OPENED)]:
            if m.receiver != me:
                continue
            if value.size == 32:
                share = expand(Seed(value.tobytes()), (length,), ring)
                seeds[value.tobytes()] += 1
            else:
                share = ring.unpack(value, (length,))  # refuses spare bits that are not zero
            partial_sums += isinstance(m.message, PartialSum)
            if isinstance(m.message, PartialSum) and partial_sums == len(set(aggregators) - {me}):
                continue  # the last one follows from the others and the sum
            view.add(f"{m.message.KIND}.{name} of {m.sender}", elements(share, length, ring.bits))
        if view.names:
            view.check()
    assert set(seeds.values()) == {1}
    assert len(seeds) == 6


# Masked sums.


def masked_run(
    threat_model: ThreatModel, length: int, seed: int, *, fill: int = 0, faults: Iterable[Fault] = ()
) -> tuple[masked_sum.Terms, list[Sent]]:
    names = tuple(f"c{i}" for i in range(5))
    identities = {n: Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i, n in enumerate(names)}
    public = tuple(key.public_key().public_bytes_raw() for key in identities.values())
    parameters = masked_sum.choose(5, max_corrupt=0.2, max_dropout=0.2, threat_model=threat_model)
    terms = masked_sum.Terms(
        masked_sum.Roles(names, ("server",), ("server",)), public, length, Ring(32), parameters
    )
    x = np.full(length, fill, np.uint32)
    programs: dict[str, Any] = {"server": partial(masked_sum.aggregate, terms=terms)}
    programs |= {n: partial(masked_sum.contribute, x=x, terms=terms, identity=identities[n]) for n in names}
    outcome = simulate(programs, record=True, insecure_seed=seed, faults=list(faults))
    assert "server" in outcome.results
    return terms, transcripts.sent(outcome.transcript)


@pytest.mark.parametrize("threat_model", ["semi-honest", "malicious"])
@pytest.mark.parametrize("fill", [0, (1 << 32) - 1])
def test_masked_inputs_are_uniform_and_independent_even_without_self_masks_but_for_their_sum(
    threat_model, fill, monkeypatch
):
    length = 1024
    self_seeds: dict[int, bytes] = {}
    make = masked_keys.self_seed

    def note(where: Any, secret: bytes, client: int) -> bytes:
        self_seeds[client] = make(where, secret, client)
        return self_seeds[client]

    monkeypatch.setattr(masked_keys, "self_seed", note)
    terms, messages = masked_run(threat_model, length, 2, fill=fill)
    whole, bare = View(length), View(length)
    for m in messages:
        if isinstance(m.message, MaskedInput):
            y = terms.ring.unpack(m.message.packed, (length,))
            whole.add(m.sender, elements(y, length))
            own = Stream(self_seeds[terms.roles.clients.index(m.sender)]).ring(length, 32)
            if len(bare.names) < 4:  # the fifth follows from the sum
                bare.add(m.sender, elements(y - own, length))
    assert len(whole.names) == 5
    whole.check()
    bare.check()  # which the server has when it has unmasked
    assert len(set(self_seeds.values())) == 5


@pytest.mark.parametrize("threat_model", ["semi-honest", "malicious"])
def test_all_that_masked_clients_send_is_uniform_over_runs_and_unsealed_by_nobody(threat_model):
    runs = [masked_run(threat_model, 9, seed)[1] for seed in range(80)]
    seen: dict[str, list[Any]] = defaultdict(list)
    for messages in runs:
        assert_spare_bytes_are_zero(messages)
        count: Counter[str] = Counter()
        for m, name, value in by_form(messages, MASKED):
            key = f"{m.sender} {m.receiver} {m.message.KIND}.{name}"
            seen[f"{key} {count[key]}"].append(value)
            count[key] += 1
        sealed = b"".join(m.message.sealed.tobytes() for m in messages if isinstance(m.message, Shares))
        for m, _, shares in by_form(messages, OPENED):
            for share in shares:
                assert share.tobytes()[:16] not in sealed, m.sender
    check_over_runs(seen)


# Bounded sums.


def test_all_that_aggregators_receive_of_vectors_is_uniform_but_for_one_bit_a_client():
    clients, d, bound = tuple(f"c{i}" for i in range(32)), 31, 5
    bounds = bounded_sum.Bounds(d, bound, d * bound**2)
    terms = bounded_sum.Terms(
        bounded_sum.Roles(clients, ("p0", "p1", "p2"), ("r",)), bounds, min_clients=2, batch=32
    )
    rows = {name: np.zeros(d, np.uint64) for name in clients}
    rows["c3"] = np.full(d, bound + 1, np.uint64)

    def client(row: Any) -> Any:
        return lambda party: bounded_sum.upload(party, row, terms=terms)

    programs: dict[str, Any] = {name: client(row) for name, row in rows.items()}
    programs |= {n: partial(bounded_sum.take_part, terms=terms) for n in ("p0", "p1", "p2", "r")}
    outcome = simulate(programs, record=True, insecure_seed=1)
    assert outcome.results["r"].rejected == ("c3",)
    messages = transcripts.sent(outcome.transcript)
    samples = 64 * len(clients)  # 2 d + 1 comparisons a client and one lane that is always zero
    for me, count in (("p0", 0), ("p1", 1), ("p2", 1)):
        checks, uploads = View(samples), View(d * len(clients))
        shares = []
        for m, name, value in by_form(messages, MASKED):
            if m.receiver == me and isinstance(m.message, Rest | PassedRest):
                shares.append(value)
            elif m.receiver == me:
                checks.add(f"{m.message.KIND}.{name} {len(checks.names)}", lanes(value, samples))
        checks.check()
        assert len(shares) == count * len(clients)
        if shares:
            uploads.add("rest", elements(np.concatenate(shares), uploads.samples))
        seeds: dict[str, list[Any]] = defaultdict(list)
        for m, _, value in by_form(messages, FRESH):
            if m.receiver == me and isinstance(m.message, Seeds):
                for i, seed in enumerate(value):
                    seeds[f"seed {i}"].append(_expand(seed, bounds))
            elif m.receiver == me and isinstance(m.message, PassedSeeds):
                seeds["seed"] += [_expand(seed, bounds) for seed in value]
        for name, expanded in seeds.items():
            uploads.add(name, elements(np.concatenate(expanded), uploads.samples))
        assert len(uploads.names) == 2
        uploads.check()
    assert_fresh([messages], lambda m: 1 if isinstance(m.message, PairSecret) else 2)
    verdicts: list[Any] = []
    total: list[Any] = []
    for m in messages:
        if isinstance(m.message, Opening):
            (verdicts if m.receiver in terms.roles.aggregators else total).append(m.message.shares)
    # Lanes behind the last client hold ORs of other bits until they are cut off.
    assert np.bitwise_xor.reduce([shares[0] for shares in verdicts]).tolist() == [1 << 3]
    assert [len(shares) for shares in sorted(total, key=len)] == [1, 2]
    opened = list(itertools.chain(*total))
    assert not sum(opened[1:], start=opened[0]).any()
    sums = View(d)
    for i, share in enumerate(opened[:2]):
        sums.add(f"share {i}", elements(share, d))
    sums.check(rank=False)
