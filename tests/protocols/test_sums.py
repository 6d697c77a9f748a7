"""The contract of sums: each test makes one claim over all of them.

The module is long because what each sum needs to take part in the contract is written out in it.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import encrypted_sums
from altering import altering
from blame import blamed
from costs import measured
from secagg.cost.operation import Cost
from secagg.errors import PeerMissingError, RemoteProtocolError, SecaggError, TooFewPartiesError
from secagg.ledger import Ledger
from secagg.network.simulated import ACTIONS, Action, Fault, Outcome, simulate
from secagg.party import Party, Program
from secagg.protocols import additive_sum, bounded_sum, masked_sum
from secagg.protocols.he_sum import single_key, threshold_rlwe
from secagg.protocols.roles import Roles, SumResult
from secagg.ring import Ring
from secagg.wire import Message
from transcripts import kinds

Drive = Callable[[Mapping[str, Program[Any]]], tuple[dict[str, Any], dict[str, Ledger]]]
Federations: TypeAlias = Callable[[Roles], tuple[encrypted_sums.Federation, Iterator[int]]]
FOUR, P, D = ("c0", "c1", "c2", "c3"), ("p0", "p1", "p2"), 5
BOUND, RING = 50, Ring(64)
WHERE_IT_CAME_FROM: Collection[Action] = set(ACTIONS) - {"drop", "reorder"}


@dataclass
class Case:
    """A sum of clients' integers: who takes part in what, the vectors, and what is declared and right.

    start: what begins a run, and returns each party's program in it.
    declared: what a party's part costs, of a roster and the numbers of the clients that take part.
    blamed: faults, besides a crash, of which everybody's error is about the party whose message they hit.
    last_upload: number of the client's message with which its vector is in the sum.
    timeout_s: how long a client is waited for.
    sent_in_vain: what others than clients have sent when too few vectors are there; no part of a result is among it.
    tells_others: whether parties learn who is in the sum that neither add up nor learn it.
    """

    roles: Roles
    xs: dict[str, Any]
    start: Callable[[], Callable[[str], Program[Any]]]
    declared: Callable[[str, tuple[str, ...], frozenset[int]], Cost]
    blamed: Collection[Action] = ()
    last_upload: int = 0
    timeout_s: float = 30.0
    sent_in_vain: Collection[str] = ()
    tells_others: bool = False
    weights: Mapping[str, int] = field(default_factory=dict)

    def programs(self) -> dict[str, Program[Any]]:
        """Return what everybody runs, for one run."""
        roles, program = self.roles, self.start()
        names = dict.fromkeys((*roles.clients, *roles.aggregators, *roles.key_holders, *roles.results))
        return {name: program(name) for name in names}

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
            error = result.error if getattr(result, "encoded", got) is None else 0.0  # type: ignore[attr-defined]
            np.testing.assert_allclose(got, total, rtol=0.0, atol=error)
            if isinstance(result, bounded_sum.BoundedSum):
                assert result.weight == sum(self.weights.get(n, 1) for n in result.contributors)

    def check_cost(self, ledgers: Mapping[str, Ledger], stayed: Collection[int] | None = None) -> None:
        """Assert that each party's part cost what is declared of it; of those who left nothing is."""
        clients, roster = self.roles.clients, tuple(ledgers)
        numbers = frozenset(range(len(clients)) if stayed is None else stayed)
        depth = max(ledger.depth for ledger in ledgers.values())
        for name, ledger in ledgers.items():
            if name in clients and clients.index(name) not in numbers:
                continue
            declared, cost = self.declared(name, roster, numbers), measured(name, ledger)
            assert declared.payload_bytes == cost.payload_bytes
            if declared.messages is None:  # rounds are those of the whole run, and batches may overlap
                assert depth <= declared.rounds <= depth + 1
            else:
                assert declared == cost


CaseOf = Callable[..., Case]


def least(clients: tuple[str, ...]) -> int:
    """How many clients of a case are needed: of more than three all but one."""
    return 3 if len(clients) > 3 else 2


def numbers(names: tuple[str, ...], seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {name: rng.integers(-9, 10, D) for name in names}


def additive(roles: Roles, _: Federations, seed: int = 0) -> Case:
    xs = numbers(roles.clients, seed)
    terms = additive_sum.Terms(roles, (D,), RING, least(roles.clients))

    def program(name: str) -> Program[Any]:
        x = RING.from_signed(xs[name]) if name in xs else None
        return partial(additive_sum.take_part, x=x, terms=terms)

    return Case(
        roles,
        xs,
        lambda: program,
        lambda me, *_: additive_sum.cost(me, terms=terms),
        # Where a message is lost that others wait for, those who wait for them in turn may be the first to give up.
        blamed=ACTIONS if roles.clients == roles.aggregators else WHERE_IT_CAME_FROM,
        last_upload=len(roles.aggregators) - 1,
        sent_in_vain=("Arrived", "Agreed"),
    )


def bounded(roles: Roles, _: Federations, seed: int = 0, *, weighted: bool = False, batch: int = 8) -> Case:
    xs = numbers(roles.clients, seed)
    weights = {name: i % 4 for i, name in enumerate(roles.clients)} if weighted else {}
    bounds = bounded_sum.Bounds(D, BOUND, D * BOUND**2, 3 if weighted else None)
    terms = bounded_sum.Terms(roles, bounds, least(roles.clients), batch=batch)

    def program(name: str) -> Program[Any]:
        x = RING.from_signed(xs[name]) if name in xs else None
        return partial(bounded_sum.take_part, x=x, terms=terms, weight=weights.get(name))

    def declared(me: str, roster: tuple[str, ...], stayed: frozenset[int]) -> Cost:
        return bounded_sum.cost(me, terms=terms, roster=roster, n_uploads=len(stayed))

    in_vain = ("PairSecret", "Arrived", "Agreed", "Verdict")
    return Case(roles, xs, lambda: program, declared, last_upload=1, sent_in_vain=in_vain, weights=weights)


def masked(roles: Roles, _: Federations, seed: int = 0, **options: Any) -> Case:
    xs, n = numbers(roles.clients, seed), len(roles.clients)
    keys = {name: Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i, name in enumerate(xs)}
    public = tuple(key.public_key().public_bytes_raw() for key in keys.values())
    parameters = masked_sum.choose(n, max_corrupt=0, **{"max_dropout": 0.25, **options})
    terms = masked_sum.Terms(roles, public, D, RING, parameters)

    def program(name: str) -> Program[Any]:
        x = RING.from_signed(xs[name]) if name in xs else None
        return partial(masked_sum.take_part, x=x, terms=terms, identity=keys.get(name))

    def declared(me: str, _: tuple[str, ...], stayed: frozenset[int]) -> Cost:
        return masked_sum.cost(me, terms=terms, stayed=masked_sum.Stayed(*[stayed] * 5))

    return Case(roles, xs, lambda: program, declared, last_upload=2, tells_others=True)


def options_of(roles: Roles) -> dict[str, Any]:
    """Return what makes an encrypted sum of such roles."""
    return {
        "clients": roles.clients,
        "aggregator": roles.aggregators[0],
        "results": roles.results,
        "key_holders": roles.key_holders,
        "min_clients": least(roles.clients),
        "clip": 10.0,
        "shape": (D,),
    }


def encrypted(roles: Roles, _: Federations, seed: int = 0, *, scheme_name: str) -> Case:
    if scheme_name != "rlwe":
        pytest.importorskip({"paillier": "gmpy2", "ckks": "tenseal"}[scheme_name])
    made = encrypted_sums.single(scheme_name, seed=seed, **options_of(roles))
    key = encrypted_sums.secret_key(scheme_name).public_key
    return Case(
        roles,
        made.xs,
        lambda: made.programs.__getitem__,
        lambda me, *_: single_key.cost(me, terms=made.terms, public_key=key),
        blamed=WHERE_IT_CAME_FROM if scheme_name == "ckks" else {"duplicate"},
        timeout_s=made.terms.timeout_s,
        sent_in_vain=("PublicKeyMessage",),
    )


def shared_paillier(roles: Roles, _: Federations, seed: int = 0) -> Case:
    pytest.importorskip("gmpy2")
    from secagg.protocols.he_sum import threshold_paillier

    made = encrypted_sums.shared_paillier(seed=seed, **options_of(roles))
    key = encrypted_sums.dealt(len(roles.key_holders), small=True)[0]
    return Case(
        roles,
        made.xs,
        lambda: made.programs.__getitem__,
        lambda me, *_: threshold_paillier.cost(me, terms=made.terms, public_key=key),
        blamed=WHERE_IT_CAME_FROM,
        timeout_s=made.terms.timeout_s,
    )


def shared_rlwe(roles: Roles, federation_of: Federations, seed: int = 0) -> Case:
    federation, rounds = federation_of(roles)
    xs = encrypted_sums.make_arrays(federation.terms, seed)

    def start() -> Callable[[str], Program[Any]]:
        # A round is decrypted once.
        return federation.case(xs=xs, round=next(rounds)).programs.__getitem__

    def declared(me: str, _: tuple[str, ...], stayed: frozenset[int]) -> Cost:
        options: dict[str, Any] = {"terms": federation.terms, "release_plan": federation.release_plan}
        return threshold_rlwe.cost(me, **options, n_uploads=len(stayed))

    timeout_s = federation.terms.timeout_s
    return Case(
        roles, xs, start, declared, WHERE_IT_CAME_FROM, timeout_s=timeout_s, sent_in_vain=("Relayed",)
    )


SERVER = Roles(FOUR, ("server",), ("server",))
AGG, HOLDERS, ABC = ("agg",), ("h1", "h2", "h3"), ("a", "b", "c")
APART = Roles(FOUR, AGG, ("r", "agg"), ("k",))
SUMS: dict[str, Callable[..., Case]] = {
    "additive": partial(additive, Roles(FOUR, ("x", "y"), ("r",))),
    "bounded": partial(bounded, Roles(FOUR, P, ("r", "p1"))),
    "masked": partial(masked, SERVER),
    "masked, malicious server": partial(masked, SERVER, threat_model="malicious"),
    "rlwe": partial(encrypted, APART, scheme_name="rlwe"),
    "paillier": partial(encrypted, APART, scheme_name="paillier"),
    "ckks": partial(encrypted, Roles(FOUR, AGG, ("k",), ("k",)), scheme_name="ckks"),
    "paillier of several": partial(shared_paillier, Roles(FOUR, AGG, ("r", "h2"), HOLDERS)),
    "rlwe of several": partial(shared_rlwe, Roles(FOUR, AGG, ("r", "h2"), HOLDERS)),
}
OTHERS: dict[str, Callable[..., Case]] = {
    "additive, everyone": partial(additive, Roles(ABC, ABC, ABC)),
    "additive, aggregators among the clients": partial(additive, Roles((*ABC, "d"), ("b", "d"), (*ABC, "d"))),
    "additive, clients learn": partial(additive, Roles(ABC, ("x", "y"), ABC)),
    "additive, three aggregators": partial(additive, Roles((*ABC, "d", "e"), ("x", "y", "z"), ("r",))),
    "additive, two clients": partial(additive, Roles(("a", "b"), ("a", "x"), ("r", "x"))),
    "bounded, weighted": partial(bounded, Roles(FOUR, P, ("r", "p1")), weighted=True, batch=3),
    "bounded, a client learns": partial(bounded, Roles(ABC, P, ("c", "p0", "r"))),
    "ckks, the key holder is a client": partial(
        encrypted, Roles(("a", "k", "b"), AGG, ("k",), ("k",)), scheme_name="ckks"
    ),
}
ONE_HOLDER = {
    "the key holder learns too": Roles(ABC, AGG, ("r", "k"), ("k",)),
    "the key holder is a client": Roles(("a", "k", "b"), AGG, ("k",), ("k",)),
    "the aggregator is a client and learns": Roles(("a", "agg", "b"), AGG, AGG, ("k",)),
    "clients learn": Roles(ABC, AGG, ("a", "c"), ("k",)),
    "three parties with all roles": Roles(("a", "k", "agg"), AGG, ("agg", "k", "a"), ("k",)),
    "two parties": Roles(("agg", "k"), AGG, ("agg", "k"), ("k",)),
}
SEVERAL_HOLDERS = {
    "apart": Roles(ABC, AGG, ("r",), HOLDERS),
    "the aggregator is a client and learns": Roles(("a", "agg", "b"), AGG, AGG, HOLDERS),
    "key holders are clients": Roles(("h1", "h2", "a"), AGG, ("r",), HOLDERS),
    "clients learn": Roles(ABC, AGG, ("a", "c"), HOLDERS),
    "everybody has all roles": Roles((*HOLDERS, "agg"), AGG, ("agg", *HOLDERS), HOLDERS),
}
for what, roles_ in ONE_HOLDER.items():
    for scheme in ("rlwe", "paillier"):
        OTHERS[f"{scheme}, {what}"] = partial(encrypted, roles_, scheme_name=scheme)
for what, roles_ in SEVERAL_HOLDERS.items():
    OTHERS[f"paillier of several, {what}"] = partial(shared_paillier, roles_)
    OTHERS[f"rlwe of several, {what}"] = partial(shared_rlwe, roles_)
OTHERS["rlwe of several, two holders who are all clients"] = partial(
    shared_rlwe, Roles(("h1", "h2"), AGG, ("h1", "h2"), ("h1", "h2"))
)
LAYOUTS = SUMS | OTHERS
SLOW = {"ckks", "paillier", "paillier of several", "rlwe of several"}
EACH = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in SUMS]

pytestmark = pytest.mark.usefixtures("one_table")


@pytest.fixture(scope="module")
def case_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Case]]:
    """Make a case by the name of its layout. Cases of the same roles share a key, which several holders made."""
    made: dict[Roles, tuple[encrypted_sums.Federation, Iterator[int]]] = {}

    def federation_of(roles: Roles) -> tuple[encrypted_sums.Federation, Iterator[int]]:
        if roles not in made:
            directory = tmp_path_factory.mktemp("records")
            made[roles] = encrypted_sums.federate(directory, **options_of(roles)), itertools.count(1)
        return made[roles]

    yield lambda name, seed=0: LAYOUTS[name](federation_of, seed)
    for federation, _ in made.values():
        federation.close()


@pytest.fixture(scope="module")
def messages_of(case_of: CaseOf) -> Callable[[str], int]:
    """Return how many messages a run without faults sends, by the name of its layout."""
    return functools.cache(lambda name: simulate(case_of(name).programs()).messages)


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
def test_every_layout_gives_the_sum_at_the_declared_cost(
    drivers: Mapping[str, Drive], case_of: CaseOf, layout: str
) -> None:
    check_run(case_of(layout), drivers["simulated"])


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["stepwise", "tcp"])
@pytest.mark.parametrize(
    "layout",
    [
        *SUMS,
        "additive, everyone",
        "rlwe, three parties with all roles",
        "rlwe of several, everybody has all roles",
    ],
)
def test_every_driver_gives_the_sum_at_the_declared_cost(
    drivers: Mapping[str, Drive], drive_without_restoring: Drive, case_of: CaseOf, layout: str, driver: str
) -> None:
    # TenSEAL draws from a generator of its own, so that a party under CKKS cannot be restored.
    restored = driver != "stepwise" or layout != "ckks"
    check_run(case_of(layout), drivers[driver] if restored else drive_without_restoring)


def check_run(case: Case, drive: Drive) -> None:
    results, ledgers = drive(case.programs())
    roles = case.roles
    case.check(results, roles.clients)
    case.check_cost(ledgers)
    for name in {*roles.results, *(roles.aggregators if not roles.key_holders else ())}:
        assert results[name] is not None
    for name in set(roles.clients).difference(roles.results, roles.aggregators):
        assert (results[name] is not None) == case.tells_others


def leaving(program: Program[Any]) -> Program[Any]:
    async def run(p: Party) -> None:
        await program(p)
        raise RuntimeError("gone")

    return run


@pytest.mark.parametrize("name", [*EACH, "additive, three aggregators"])
def test_a_client_that_is_missing_or_late_is_left_out_and_one_that_is_gone_after_its_upload_is_in_the_sum(
    case_of: CaseOf, name: str
) -> None:
    case = case_of(name)
    clients = case.roles.clients
    gone, others = clients[1], (clients[0], *clients[2:])
    for message in range(case.last_upload + 2):
        programs = case.programs()
        out = simulate(
            programs | {gone: leaving(programs[gone])}, faults=[Fault("crash", message, sender=gone)]
        )
        assert set(out.errors) <= {gone}
        case.check(out.results, others if message <= case.last_upload else clients)
        assert set(case.roles.results) <= set(out.results)
        if not message:
            case.check_cost(out.ledgers, [i for i, client in enumerate(clients) if client != gone])
    for action in ("drop", "delay"):
        fault = Fault(action, case.last_upload, sender=gone, seconds=case.timeout_s + 2.0)
        out = simulate(case.programs(), faults=[fault])
        assert set(out.errors) <= {gone}
        case.check({name: result for name, result in out.results.items() if name != gone}, others)
        assert out.seconds >= case.timeout_s
        if not out.errors:  # of one who waits for an answer in vain: it waits longer
            assert out.seconds < 1.5 * case.timeout_s


@pytest.mark.parametrize("name", EACH)
def test_of_too_few_clients_nothing_is_opened_and_a_missing_one_is_named(case_of: CaseOf, name: str) -> None:
    case = case_of(name)
    out = simulate(case.programs(), faults=[Fault("crash", 0, sender=c) for c in FOUR[:2]], record=True)
    assert all(getattr(result, "total", None) is None for result in out.results.values())
    for aggregator in case.roles.aggregators:
        error = out.errors[aggregator]
        assert isinstance(error, TooFewPartiesError)
        assert error.peer in FOUR[:2]
        assert "at least 3" in str(error)
    sent = {kind for sender, _, kind in kinds(out.transcript) if sender not in FOUR}
    assert sent <= set(case.sent_in_vain)


def check_fault(case: Case, out: Outcome[Any], fault: Fault, ends: tuple[str, str]) -> None:
    case.check(out.results)
    sender, roles = ends[0], case.roles
    ended = {*out.results, *out.errors}
    assert set(case.programs()) - ended == ({sender} if fault.action == "crash" else set())
    for error in out.errors.values():
        assert isinstance(error, RemoteProtocolError | PeerMissingError)
        assert error.peer in {*ends, *roles.aggregators, *roles.key_holders}
        assert blamed(error) in str(error)
    if fault.action == "crash" or fault.action in case.blamed:
        assert {blamed(error) for error in out.errors.values()} <= {sender}
    dropped = {result.dropped for result in out.results.values() if result is not None}
    assert all(set(names) <= set(ends) for names in dropped)
    if sender in roles.optional:  # no client ends anybody else's run
        assert set(roles.results).difference(roles.clients) <= set(out.results)
        stays = fault.action in ("delay", "duplicate")
        assert case.tells_others or dropped == {() if stays else (sender,)}
    elif case.tells_others and fault.action != "crash":
        assert set(roles.aggregators) <= set(out.results)
    if fault.action == "delay":
        assert not out.errors


@pytest.mark.slow
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    "name", [*SUMS, "additive, everyone", "additive, clients learn", "additive, three aggregators"]
)
def test_a_fault_at_any_message_ends_in_the_right_sum_or_an_error_that_names_a_peer(
    case_of: CaseOf, messages_of: Callable[[str], int], name: str, action: Action
) -> None:
    case = case_of(name)
    # Each message meets every second of the seven actions; where runs take longer, every fourth or fifth.
    step = 5 if name in ("bounded", "rlwe of several") else 4 if name in SLOW or "masked" in name else 2
    for message in range(ACTIONS.index(action) % step, messages_of(name), step):
        fault = Fault(action, message, seconds=1.0)
        seed = 1 << 20 | ACTIONS.index(action) << 10 | message  # of its own: an upload is decrypted once
        out = simulate(case.programs(), insecure_seed=seed, record=True, faults=[fault])
        check_fault(case, out, fault, out.transcript[message][:2])


@pytest.mark.slow
@pytest.mark.parametrize("name", SUMS)
def test_random_faults_end_in_right_sums_or_errors_that_name_a_peer(
    case_of: CaseOf, messages_of: Callable[[str], int], name: str
) -> None:
    case, messages = case_of(name), messages_of(name)
    for seed in range(15):
        draw = random.Random(seed)
        faults = [
            Fault(draw.choice(ACTIONS), draw.randrange(messages), seconds=draw.choice((0.5, 40.0)))
            for _ in range(draw.choice((2, 3)))
        ]
        programs = case.programs()
        out = simulate(programs, insecure_seed=1 << 21 | seed, faults=faults)
        case.check(out.results)
        for error in out.errors.values():
            assert isinstance(error, RemoteProtocolError | PeerMissingError)
            assert error.peer in programs or any(peer in str(error) for peer in programs)


@pytest.mark.parametrize("name", [*EACH, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_lengths_and_order_on_the_wire_are_the_same_for_all_inputs(case_of: CaseOf, name: str) -> None:
    crash = Fault("crash", case_of(name).last_upload, sender="c2")
    for faults in ((), (crash,)) if name in SUMS else ((),):
        shown = set()
        for seed in range(3):
            case = case_of(name, seed)
            if seed == 2:
                case.xs.update(dict.fromkeys(case.xs, np.full(D, 9)))
            out = simulate(case.programs(), insecure_seed=7 + len(faults), record=True, faults=faults)
            assert set(case.roles.results) <= set(out.results)
            shown.add(tuple((sender, receiver, len(frame)) for sender, receiver, frame in out.transcript))
        assert len(shown) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", EACH)
def test_a_client_that_leaves_a_real_network_ends_nobody_elses_run(
    over_tcp: Drive, case_of: CaseOf, name: str
) -> None:
    """The client leaves before the message with which its vector would be in the sum."""
    case = case_of(name)
    programs = case.programs()

    def leave(p: Party, to: str, message: Message) -> Message:
        if p.ledger.total().sent.messages == case.last_upload:
            raise SecaggError("cannot")
        return message

    results, _ = over_tcp(programs | {"c1": altering(programs["c1"], leave)})
    assert isinstance(results.pop("c1"), SecaggError)
    case.check(results, ("c0", "c2", "c3"))


@pytest.mark.parametrize("name", EACH)
def test_uploads_of_equal_vectors_differ_from_run_to_run_and_from_client_to_client(
    case_of: CaseOf, name: str
) -> None:
    ends = []
    for seed in (1, 2):
        case = case_of(name)
        case.xs.update(dict.fromkeys(FOUR, case.xs["c0"]))
        out = simulate(case.programs(), insecure_seed=seed, record=True)
        ends += [frame[-40:] for sender, _, frame in out.transcript if sender in FOUR]
    assert len(set(ends)) == len(ends)
