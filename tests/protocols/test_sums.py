"""The contract of sums: each test makes one claim over all of them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blame import blamed
from costs import measured
from secagg import fixed_point
from secagg.cost.operation import Cost
from secagg.errors import PeerMissingError, RemoteProtocolError, SecaggError, TooFewPartiesError
from secagg.he.rlwe.keys import SecretKey
from secagg.ledger import Ledger
from secagg.network.simulated import ACTIONS, Action, Fault, Outcome, simulate
from secagg.party import Party, Program
from secagg.protocols import additive_sum, bounded_sum, masked_sum
from secagg.protocols.he_sum import single_key
from secagg.protocols.he_sum.terms import Terms as EncryptedTerms
from secagg.protocols.roles import Roles, SumResult
from secagg.ring import Ring

Drive = Callable[[Mapping[str, Program[Any]]], tuple[dict[str, Any], dict[str, Ledger]]]
FOUR, P, D = ("c0", "c1", "c2", "c3"), ("p0", "p1", "p2"), 5
BOUND, RING = 50, Ring(64)
KEY = SecretKey.generate()


@dataclass
class Case:
    """A sum of clients' integers: who takes part in what, the vectors, and what is declared and right.

    tells_others: whether parties learn who is in the sum that neither add up nor learn it.
    blames_senders: whether everybody's error is about the party whose message was altered.
    last_upload: number of the client's message with which its vector is in the sum.
    """

    roles: Roles
    xs: dict[str, Any]
    take_part: Callable[[str], Program[Any]]
    declared: Callable[[str, tuple[str, ...]], Cost]
    tells_others: bool = False
    blames_senders: bool = False
    last_upload: int = 0
    weights: Mapping[str, int] = field(default_factory=dict)

    @property
    def programs(self) -> dict[str, Program[Any]]:
        roles = self.roles
        names = dict.fromkeys((*roles.clients, *roles.aggregators, *roles.key_holders, *roles.results))
        return {name: self.take_part(name) for name in names}

    def check(self, results: Mapping[str, Any], contributors: tuple[str, ...] | None = None) -> None:
        """Assert that each result is right: of these, or of whom it names, and at whom it may be known."""
        roles = self.roles
        for name, result in results.items():
            if result is None:
                assert name not in roles.results
                continue
            assert isinstance(result, SumResult)
            assert contributors in (None, result.contributors)
            assert sorted((*result.contributors, *result.dropped)) == sorted(roles.clients)
            assert not result.rejected
            if name not in roles.results:
                assert result.total is None
                continue
            total = sum(self.weights.get(n, 1) * self.xs[n] for n in result.contributors)
            assert result.total is not None
            got = RING.to_signed(result.total) if result.total.dtype == np.uint64 else result.total
            np.testing.assert_array_equal(got, total)
            if isinstance(result, bounded_sum.BoundedSum):
                assert result.weight == sum(self.weights.get(n, 1) for n in result.contributors)


def numbers(names: tuple[str, ...], seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {name: rng.integers(-9, 10, D) for name in names}


def additive(roles: Roles, seed: int = 0) -> Case:
    xs = numbers(roles.clients, seed)
    terms = additive_sum.Terms(roles, (D,), RING, min_clients=2)

    def program(name: str) -> Program[Any]:
        x = RING.from_signed(xs[name]) if name in xs else None
        return partial(additive_sum.take_part, x=x, terms=terms)

    uploads = len(roles.aggregators) - 1
    declared: Any = lambda me, _: additive_sum.cost(me, terms=terms)  # noqa: E731
    return Case(roles, xs, program, declared, blames_senders=True, last_upload=uploads)


def bounded(roles: Roles, seed: int = 0, *, weighted: bool = False, batch: int = 8) -> Case:
    xs = numbers(roles.clients, seed)
    weights = {name: i % 4 for i, name in enumerate(roles.clients)} if weighted else {}
    bounds = bounded_sum.Bounds(D, BOUND, D * BOUND**2, 3 if weighted else None)
    terms = bounded_sum.Terms(roles, bounds, min_clients=2, batch=batch)

    def program(name: str) -> Program[Any]:
        x = RING.from_signed(xs[name]) if name in xs else None
        return partial(bounded_sum.take_part, x=x, terms=terms, weight=weights.get(name))

    def declared(me: str, roster: tuple[str, ...]) -> Cost:
        return bounded_sum.cost(me, terms=terms, roster=roster)

    return Case(roles, xs, program, declared, last_upload=1, weights=weights)


def masked(roles: Roles, seed: int = 0, **options: Any) -> Case:
    xs, n = numbers(roles.clients, seed), len(roles.clients)
    keys = {name: Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i, name in enumerate(xs)}
    public = tuple(key.public_key().public_bytes_raw() for key in keys.values())
    parameters = masked_sum.choose(n, max_corrupt=0, **{"max_dropout": 0.25, **options})
    terms = masked_sum.Terms(roles, public, D, RING, parameters)

    def program(name: str) -> Program[Any]:
        x = RING.from_signed(xs[name]) if name in xs else None
        return partial(masked_sum.take_part, x=x, terms=terms, identity=keys.get(name))

    def declared(me: str, _: tuple[str, ...]) -> Cost:
        return masked_sum.cost(me, terms=terms)

    return Case(roles, xs, program, declared, tells_others=True, last_upload=2)


def encrypted(roles: Roles, seed: int = 0) -> Case:
    xs = numbers(roles.clients, seed)
    plan = fixed_point.plan(clip=10.0, frac_bits=0, parties=len(xs), bits=64)
    terms = EncryptedTerms(roles, plan, (D,), min_clients=2, timeout_s=30.0)

    def program(name: str) -> Program[Any]:
        key = KEY if name in roles.key_holders else None
        return partial(single_key.take_part, x=xs.get(name), terms=terms, scheme_name="rlwe", secret_key=key)

    return Case(roles, xs, program, lambda me, _: single_key.cost(me, terms=terms, public_key=KEY.public_key))


SERVER = Roles(FOUR, ("server",), ("server",))
SUMS: dict[str, Callable[..., Case]] = {
    "additive": partial(additive, Roles(FOUR, ("x", "y"), ("r",))),
    "bounded": partial(bounded, Roles(FOUR, P, ("r", "p1"))),
    "masked": partial(masked, SERVER),
    "masked, malicious server": partial(masked, SERVER, threat_model="malicious"),
    "encrypted": partial(encrypted, Roles(FOUR, ("agg",), ("r", "agg"), ("k",))),
}
ABC = ("a", "b", "c")
LAYOUTS: dict[str, Callable[..., Case]] = SUMS | {
    "additive, everyone": partial(additive, Roles(ABC, ABC, ABC)),
    "additive, aggregators among the clients": partial(additive, Roles((*ABC, "d"), ("b", "d"), (*ABC, "d"))),
    "additive, clients learn": partial(additive, Roles(ABC, ("x", "y"), ABC)),
    "additive, three aggregators": partial(additive, Roles((*ABC, "d", "e"), ("x", "y", "z"), ("r",))),
    "additive, two clients": partial(additive, Roles(("a", "b"), ("a", "x"), ("r", "x"))),
    "bounded, weighted": partial(bounded, Roles(FOUR, P, ("r", "p1")), weighted=True, batch=3),
    "bounded, a client learns": partial(bounded, Roles(ABC, P, ("c", "p0", "r"))),
    "encrypted, three parties with all roles": partial(
        encrypted, Roles(("a", "k", "g"), ("g",), ("g", "k"), ("k",))
    ),
}


OF_ROLES = {"contribute", "aggregate", "receive"}
NOT_OFFERED: dict[str, set[str]] = {
    "additive_sum": set(),
    "bounded_sum": set(),
    "masked_sum": {"receive"},
    "he_sum.single_key": OF_ROLES,
    "he_sum.threshold_paillier": OF_ROLES,
    "he_sum.threshold_rlwe": OF_ROLES,
}


@pytest.mark.parametrize("name", NOT_OFFERED)
def test_what_sums_offer_has_one_form(name: str) -> None:
    if "paillier" in name:
        pytest.importorskip("gmpy2")
    module, missing = importlib.import_module(f"secagg.protocols.{name}"), NOT_OFFERED[name]
    client, other = ["party", "x"], ["party"]
    forms = {"take_part": client, "contribute": client, "aggregate": other, "receive": other, "cost": ["me"]}
    for function in forms.keys() - missing:
        parameters = inspect.signature(getattr(module, function)).parameters.values()
        assert [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY] == forms[function]
        assert "terms" in {p.name for p in parameters if p.default is p.empty}
    assert not [function for function in missing if hasattr(module, function)]


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_and_driver_gives_the_sum_at_the_declared_cost(drive: Drive, layout: str) -> None:
    case = LAYOUTS[layout]()
    results, ledgers = drive(case.programs)
    case.check(results, case.roles.clients)
    roles, roster = case.roles, tuple(case.programs)
    for name in {*roles.results, *(roles.aggregators if not roles.key_holders else ())}:
        assert results[name] is not None
    for name in set(roles.clients).difference(roles.results, roles.aggregators):
        assert (results[name] is not None) == case.tells_others
    depth = max(ledger.depth for ledger in ledgers.values())
    for name, ledger in ledgers.items():
        declared, cost = case.declared(name, roster), measured(name, ledger)
        assert declared.payload_bytes == cost.payload_bytes
        if (
            declared.messages is None
        ):  # rounds are those of the whole run, and a batch may begin before the last has ended
            assert depth <= declared.rounds <= depth + 1
        else:
            assert declared == cost


def leaving(program: Program[Any]) -> Program[Any]:
    async def run(p: Party) -> None:
        await program(p)
        raise RuntimeError("gone")

    return run


@pytest.mark.parametrize("name", SUMS)
def test_a_client_that_is_missing_is_left_out_and_one_that_is_gone_after_its_upload_is_in_the_sum(
    name: str,
) -> None:
    case = SUMS[name]()
    for message in range(case.last_upload + 2):
        gone = {"c1": leaving(case.programs["c1"])}
        out = simulate(case.programs | gone, faults=[Fault("crash", message, sender="c1")])
        assert set(out.errors) <= {"c1"}
        case.check(out.results, ("c0", "c2", "c3") if message <= case.last_upload else FOUR)
        assert set(case.roles.results) <= set(out.results)


@pytest.mark.parametrize("name", SUMS)
def test_of_too_few_clients_nothing_is_opened_and_a_missing_one_is_named(name: str) -> None:
    case = SUMS[name]()
    out = simulate(case.programs, faults=[Fault("crash", 0, sender=c) for c in FOUR[:3]])
    assert all(getattr(result, "total", None) is None for result in out.results.values())
    for aggregator in case.roles.aggregators:
        error = out.errors[aggregator]
        assert isinstance(error, TooFewPartiesError)
        assert error.peer in FOUR[:3]


def check_fault(case: Case, out: Outcome[Any], fault: Fault, ends: tuple[str, str]) -> None:
    case.check(out.results)
    sender, roles = ends[0], case.roles
    for error in out.errors.values():
        assert isinstance(error, RemoteProtocolError | PeerMissingError)
        assert error.peer in {*ends, *roles.aggregators, *roles.key_holders}
        assert blamed(error) in str(error)
    # Where a message of those is lost who add up, those who wait for others may be the first whose time is over.
    if case.blames_senders and fault.action not in ("drop", "reorder"):
        assert {blamed(error) for error in out.errors.values()} <= {sender}
    dropped = {result.dropped for result in out.results.values() if result is not None}
    assert all(set(names) <= set(ends) for names in dropped)
    if sender in roles.clients:  # no client ends anybody else's run
        assert set(roles.results).difference(roles.clients) <= set(out.results)
        stays = fault.action in ("delay", "duplicate")
        assert case.tells_others or dropped == {() if stays else (sender,)}
    elif case.tells_others and fault.action != "crash":
        assert set(roles.aggregators) <= set(out.results)
    if fault.action == "delay":
        assert not out.errors


@pytest.mark.slow
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", [*SUMS, "additive, clients learn", "additive, three aggregators"])
def test_a_fault_at_any_message_ends_in_the_right_sum_or_an_error_that_names_a_peer(
    name: str, action: Action
) -> None:
    case = LAYOUTS[name]()
    plain = simulate(case.programs, insecure_seed=1, record=True)
    for message in range(0, plain.messages, 3 if name == "bounded" else 1):
        fault = Fault(action, message, seconds=1.0)
        out = simulate(case.programs, insecure_seed=1, faults=[fault])
        check_fault(case, out, fault, plain.transcript[message][:2])


@pytest.mark.parametrize("name", LAYOUTS)
def test_lengths_and_order_on_the_wire_are_the_same_for_all_inputs(name: str) -> None:
    crash = Fault("crash", LAYOUTS[name]().last_upload, sender="c2")
    for faults in ((), (crash,)) if name in SUMS else ((),):
        shown = set()
        for seed in range(3):
            out = simulate(LAYOUTS[name](seed).programs, insecure_seed=7, record=True, faults=faults)
            shown.add(tuple((sender, receiver, len(frame)) for sender, receiver, frame in out.transcript))
        assert len(shown) == 1


@pytest.mark.parametrize("name", SUMS)
def test_a_client_that_leaves_a_real_network_ends_nobody_elses_run(over_tcp: Drive, name: str) -> None:
    case = SUMS[name]()

    async def leave(p: Party) -> None:
        raise SecaggError("cannot")

    results, _ = over_tcp(case.programs | {"c1": leave})
    assert isinstance(results.pop("c1"), SecaggError)
    case.check(results, ("c0", "c2", "c3"))


@pytest.mark.parametrize("name", SUMS)
def test_uploads_of_equal_vectors_differ_from_run_to_run(name: str) -> None:
    runs = []
    for seed in (1, 2):
        case = SUMS[name]()
        case.xs.update(dict.fromkeys(FOUR, case.xs["c0"]))
        out = simulate(case.programs, insecure_seed=seed, record=True)
        runs.append({frame[-40:] for sender, _, frame in out.transcript if sender in FOUR})
    assert runs[0].isdisjoint(runs[1])
