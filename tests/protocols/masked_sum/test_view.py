"""What a server can compute of the vectors, with the clients that work with it: exactly, mask by mask.

A vector on the wire is x with masks added and subtracted. Masks whose seeds the adversary can derive from what it was
told come off; the others are unknown and uniform. It learns a combination of the x if in it the unknown masks cancel.
Rows modulo 2 are enough to find them all: divide a combination modulo 2**bits in which they cancel by the largest
power of two that divides all its coefficients, and it is one modulo 2 that is not zero.

The module is long because the adversary's algebra is written out in it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from secagg.errors import RangeError, RemoteProtocolError
from secagg.protocols.masked_sum import (
    Client,
    Consents,
    GraphParameters,
    Included,
    PeerKeys,
    PeerShares,
    Unmasking,
    checks,
    choose,
)
from secagg.protocols.masked_sum import keys as k
from secagg.protocols.masked_sum.masks import Mask, add_masks
from secagg.protocols.masked_sum.messages import SEALED_BYTES
from secagg.protocols.masked_sum.shamir import SHARE_BYTES, Basis, read_share
from secagg.protocols.masked_sum.terms import pack_set

pytestmark = pytest.mark.slow

MakePlay = Callable[..., Any]
MASKING, SELF = 0, 1
# Circles in which no run of half the neighbours holds too many corrupt clients, whoever they are, for the order to
# matter: what the probabilities of the larger ones are about.
CIRCLES = (
    GraphParameters(12, 1, 2, "malicious", 8, 7, 10, 8, -10.0, -10.0),
    GraphParameters(14, 1, 4, "malicious", 10, 8, 10, 8, -10.0, -10.0),
    GraphParameters(14, 0, 5, "malicious", 10, 7, 9, 8, -10.0, -10.0),
)
COMPLETE = (
    choose(6, max_corrupt=0, max_dropout=0.4, threat_model="malicious"),
    choose(8, max_corrupt=0.2, max_dropout=0.3, threat_model="malicious"),
    choose(10, max_corrupt=0.3, max_dropout=0.3, threat_model="malicious"),
)
RUNS = 6


class Adversary:
    """A server and the clients that work with it: carries messages as it likes, keeps all, derives what follows."""

    def __init__(self, play: Any, corrupt: Iterable[int] = ()) -> None:
        self.play, self.where = play, play.where
        self.n = len(self.where.terms.roles.clients)
        self.corrupt = frozenset(corrupt)
        self.honest = frozenset(range(self.n)) - self.corrupt
        self.clients: list[Client] = [play.clients[name] for name in play.names]
        self.keys: dict[int, Any] = {i: c.advertise() for i, c in enumerate(self.clients)}
        self.letters: dict[tuple[int, int], np.ndarray[Any, Any]] = {}
        self.commitments: dict[int, bytes] = {}
        self.uploads: list[tuple[int, list[Mask]]] = []
        self.shares: dict[tuple[int, int], dict[int, int]] = {}  # by owner and secret, by the holder's point

    def show_keys(self, i: int, present: Iterable[int]) -> None:
        """Show a client the keys of those of its neighbours."""
        peers = sorted(set(present).intersection(self.where.graph.neighbours(i)))
        keys = np.stack([self.keys[p].keys for p in peers])
        signatures = np.stack([self.keys[p].signature for p in peers])
        sent = self.clients[i].share(PeerKeys(pack_set(frozenset(peers), self.n), keys, signatures))
        self.commitments[i] = sent.commitment.tobytes()
        for row, receiver in enumerate(peers):
            self.letters[i, receiver] = sent.sealed[row]
            if receiver in self.corrupt:
                self._open(i, receiver, sent.sealed[row].tobytes())

    def _open(self, sender: int, receiver: int, sealed: bytes) -> None:
        public = [self.keys[i].keys.tobytes() for i in (sender, receiver)]
        sealing = self.clients[receiver]._secrets.sealing
        agreed = k.agree(sealing, public[0][:32], owner="sender")
        opened = k.Letter(self.where, agreed, sender, receiver, (public[0], public[1])).open(sealed)
        assert opened is not None
        for kind in (MASKING, SELF):
            share = opened[kind * SHARE_BYTES : (kind + 1) * SHARE_BYTES]
            self.shares.setdefault((sender, kind), {})[receiver + 1] = read_share(share)

    def ask_for_vector(self, i: int, shared: frozenset[int], client: Client | None = None) -> None:
        """Tell a client who shared, and take its vector."""
        client, name = client or self.clients[i], self.play.names[i]
        near = [p for p in sorted(client._peer_keys) if p in shared]
        rows = [self.letters.get((p, i), np.zeros(SEALED_BYTES, np.uint8)) for p in near]
        sealed = np.stack(rows) if rows else np.zeros((0, SEALED_BYTES), np.uint8)
        x = self.play.xs[name]
        sent = client.mask(x, PeerShares(pack_set(shared, self.n), sealed))
        masks = list(client._masks())
        ring = self.where.terms.ring
        y = ring.unpack(sent.packed, x.shape).copy()
        add_masks(y, [Mask(mask.seed, not mask.minus) for mask in masks])
        np.testing.assert_array_equal(ring.reduce(y), x)  # these are all the masks there are on it
        self.uploads.append((i, masks))

    def take(self, i: int, shared: frozenset[int], included: frozenset[int], answer: Unmasking) -> None:
        """Keep the shares that a client told when these sets were shown to it."""
        held = [p for p in self.where.graph.holders(i) if p in shared]
        for owner, row in zip(held, answer.shares, strict=True):
            kind = SELF if owner in included else MASKING
            try:
                self.shares.setdefault((owner, kind), {})[i + 1] = read_share(row.tobytes())
            except RangeError:
                continue

    def known_seeds(self) -> set[bytes]:
        """Return the seeds that follow from corrupt clients' secrets and from the shares told."""
        masking = {i: self.clients[i]._secrets.masking for i in self.corrupt}
        own = {i: self.clients[i]._secrets.self_secret for i in self.corrupt}
        for (owner, kind), shares in self.shares.items():
            try:
                secret = Basis(tuple(shares)).combine(list(shares.values()))
            except RangeError:
                continue
            if kind == SELF and k.commit(self.where, secret, owner) == self.commitments.get(owner):
                own[owner] = secret
            key = k.secret_key(secret)
            if kind == MASKING and k.public_bytes(key) == self.keys[owner].keys[1].tobytes():
                masking[owner] = key
        seeds = {k.self_seed(self.where, secret, i) for i, secret in own.items()}
        for i, key in masking.items():
            for j in set(self.keys) - {i}:
                agreed = k.agree(key, self.keys[j].keys[1].tobytes(), owner="peer")
                seeds.add(k.pair_seed(self.where, agreed, i, j))
        return seeds

    def learned(self) -> list[frozenset[int]]:
        """Return independent sums of vectors in which no unknown mask is left, by whose they are."""
        known, numbers = self.known_seeds(), itertools.count()
        unknown: dict[bytes, int] = {}
        basis: dict[int, tuple[int, int]] = {}
        found = []
        for place, (_, masks) in enumerate(self.uploads):
            row, who = 0, 1 << place
            for mask in masks:
                if mask.seed not in known:
                    row ^= 1 << unknown.setdefault(mask.seed, next(numbers))
            while row and row.bit_length() in basis:
                other = basis[row.bit_length()]
                row, who = row ^ other[0], who ^ other[1]
            if row:
                basis[row.bit_length()] = (row, who)
            else:
                found.append(frozenset(i for p, (i, _) in enumerate(self.uploads) if who >> p & 1))
        return found


# Each seed makes one mask.


def test_a_seed_is_one_clients_own_or_of_one_pair_of_neighbours_with_opposite_signs(
    play: MakePlay, variant: dict[str, Any]
) -> None:
    used: dict[bytes, list[tuple[int, bool]]] = {}
    for number in range(2):
        p = play(**variant, number=number)
        a = Adversary(p)
        for i in range(a.n):
            a.show_keys(i, range(a.n))
        a.uploads.clear()
        for i in range(a.n):
            a.ask_for_vector(i, frozenset(range(a.n)))
        seen: dict[bytes, list[tuple[int, bool]]] = {}
        for i, masks in a.uploads:
            for mask in masks:
                seen.setdefault(mask.seed, []).append((i, mask.minus))
        pairs = sorted(tuple(i for i, _ in ends) for ends in seen.values() if len(ends) > 1)
        near = p.where.graph.neighbours
        assert pairs == [(i, j) for i in range(a.n) for j in near(i) if i < j]
        assert sorted(ends[0][0] for ends in seen.values() if len(ends) == 1) == list(range(a.n))
        assert all([minus for _, minus in ends] in ([False], [False, True]) for ends in seen.values())
        assert not used.keys() & seen.keys()
        used |= seen


# A server that keeps to the protocol.


@pytest.mark.parametrize("seed", range(8))
def test_a_server_that_looks_learns_the_sum_of_the_survivors_and_nothing_else(
    play: MakePlay, variant: dict[str, Any], seed: int
) -> None:
    # Who drops out, when, and who works with the server change with the seed; as many as there may be.
    p = play(**variant)
    n, parameters = len(p.names), p.terms.parameters
    rng = np.random.default_rng(seed)
    order = rng.permutation(n).tolist()
    # The circle of twelve with eight neighbours bears no corrupt client whatever the order.
    corrupt = order[: 0 if parameters.malicious and not parameters.complete else parameters.n_corrupt]
    leavers = order[len(corrupt) :][: parameters.n_dropouts]
    leaves = dict(zip(leavers, rng.integers(0, 5, len(leavers)).tolist(), strict=True))
    a = Adversary(p, corrupt)

    def there(step: int) -> frozenset[int]:
        return frozenset(i for i in range(n) if leaves.get(i, 9) > step)

    shared, included = there(1), there(2)
    for i in sorted(shared):
        a.show_keys(i, there(0))
    for i in sorted(included & a.honest):
        a.ask_for_vector(i, shared)
    assert a.learned() == []
    request: Included | Consents = Included(pack_set(included, n))
    if parameters.malicious:
        signers = sorted(included & a.honest)
        sets = checks.signed_sets(a.where, shared, included)
        signed = {i: a.clients[i].consent(request).signature.tobytes() for i in signers}  # type: ignore[arg-type]
        signed |= {i: k.sign_sets(p.identities[p.names[i]], a.where, i, sets) for i in a.corrupt & included}
        request = consents(a, signed)
    for i in sorted(there(3) & included & a.honest):
        a.take(i, shared, included, a.clients[i].unmask(request))
    assert a.learned() == [included & a.honest]


def consents(a: Adversary, signed: dict[int, bytes]) -> Consents:
    rows = np.stack([np.frombuffer(signed[i], np.uint8) for i in sorted(signed)])
    return Consents(pack_set(frozenset(signed), a.n), rows)


# A server that tells everybody what it likes.


@dataclasses.dataclass
class Attack:
    """What came of it: the sums learned; the sums that a quorum agreed on; how many sent a vector though misled."""

    learned: list[frozenset[int]]
    agreed: list[frozenset[int]]
    misled: int


Sets = tuple[frozenset[int], frozenset[int]]  # who shared, who is in the sum


def gaps(a: Adversary, rng: np.random.Generator) -> dict[int, Sets]:
    """Return what each honest client is told: who dropped out are runs in the circle; some are told other runs."""
    parameters, n = a.where.terms.parameters, a.n
    circle = a.where.graph._order or list(range(n))

    def gap(most: int) -> frozenset[int]:
        size, start = int(rng.integers(0, most + 1)), int(rng.integers(0, n))
        return frozenset(circle[(start + j) % n] for j in range(size)) & a.honest

    def statement() -> Sets:
        shared = frozenset(range(n)) - gap(parameters.n_dropouts // 2)
        gone = sorted(
            (gap(parameters.n_dropouts) | gap(parameters.n_dropouts)) & shared, key=lambda _: rng.random()
        )
        return shared, shared.difference(
            gone[: max(0, len(shared) - parameters.min_clients - int(rng.integers(0, 2)))]
        )

    two = (statement(), statement())
    spare = len(two[0][1]) - parameters.quorum
    misled = rng.permutation(sorted(a.honest))[: rng.integers(0, spare + 1)].tolist()
    return dict.fromkeys(a.honest, two[0]) | {i: (two[1], statement())[rng.integers(0, 2)] for i in misled}


def one_alone(a: Adversary, rng: np.random.Generator) -> dict[int, Sets]:
    """Return what each honest client is told so that one masks its vector with as few neighbours as it accepts.

    To the others these dropped out, so that their masking keys are told, and the one's self mask.
    """
    parameters, n = a.where.terms.parameters, a.n
    one = int(rng.choice(sorted(a.honest)))
    near = sorted(a.where.graph.neighbours(one), key=lambda i: (i in a.honest, rng.random()))
    few, rest = near[: parameters.threshold - 1], sorted(set(range(n)) - {one, *near})
    filled = [one, *few, *rest, *near[parameters.threshold - 1 :]][
        : max(parameters.min_clients, parameters.threshold)
    ]
    gone = [i for i in few if i in a.honest][: n - max(parameters.min_clients, parameters.quorum + 1)]
    everybody = frozenset(range(n))
    told = {i: (everybody, everybody.difference(gone)) for i in a.honest}
    return told | {one: (frozenset(filled), frozenset(filled))}


def attack(p: Any, plan: Callable[[Adversary, np.random.Generator], dict[int, Sets]], seed: int) -> Attack:
    """Tell everybody what the plan says, and ask all who can be made to answer; corrupt clients sign whatever helps."""
    parameters, rng = p.terms.parameters, np.random.default_rng(seed)
    n = len(p.names)
    a = Adversary(p, rng.permutation(n)[: parameters.n_corrupt].tolist())
    told = plan(a, rng)
    alive = set(a.honest)

    def try_each(step: Callable[[int], None]) -> None:
        for i in sorted(alive):
            try:
                step(i)
            except RemoteProtocolError:
                alive.discard(i)

    everybody = frozenset(range(n))
    try_each(lambda i: a.show_keys(i, everybody))
    try_each(lambda i: a.ask_for_vector(i, told[i][0]))
    signed: dict[Sets, dict[int, bytes]] = {}

    def consent(i: int) -> None:
        signature = a.clients[i].consent(Included(pack_set(told[i][1], n))).signature.tobytes()
        signed.setdefault(told[i], {})[i] = signature

    try_each(consent)
    agreed = []
    for sets, signatures in signed.items():
        statement_bytes = checks.signed_sets(a.where, *sets)
        for i in a.corrupt & sets[1]:
            signatures[i] = k.sign_sets(p.identities[p.names[i]], a.where, i, statement_bytes)
        for i in sorted(set(signatures) & a.honest):
            try:
                a.take(i, *sets, a.clients[i].unmask(consents(a, signatures)))
            except RemoteProtocolError:
                continue
            agreed.append(sets[1] & a.honest)
    usual = max(signed, key=lambda sets: len(signed[sets]), default=None)
    return Attack(a.learned(), list(dict.fromkeys(agreed)), sum(told[i] != usual for i, _ in a.uploads))


@pytest.mark.parametrize("plan", [gaps, one_alone])
@pytest.mark.parametrize(
    "parameters", [*COMPLETE, *CIRCLES], ids=lambda p: f"{p.clients}-{p.degree}-{p.n_corrupt}"
)
def test_a_server_that_lies_to_clients_learns_the_sum_that_a_quorum_agreed_on_or_nothing(
    play: MakePlay, parameters: GraphParameters, plan: Any
) -> None:
    answered = misled = 0
    for seed in range(RUNS):
        p = play(parameters=parameters, length=2, bits=8, number=seed)
        result = attack(p, plan, seed)
        assert result.learned in ([], result.agreed)
        assert len(result.agreed) <= 1
        answered += len(result.agreed)
        misled += result.misled
    assert answered  # clients do answer,
    assert misled  # and others sent vectors that do not match


def weakened(parameters: GraphParameters, changes: dict[str, int]) -> GraphParameters:
    """Return parameters that `GraphParameters` refuses."""
    copy = dataclasses.replace(parameters)
    for name, value in changes.items():
        object.__setattr__(copy, name, value)
    return copy


@pytest.mark.parametrize(
    ("parameters", "changes"),
    [
        (
            choose(8, max_corrupt=0, max_dropout=0.3, threat_model="malicious"),
            {"threshold": 4, "min_clients": 4, "quorum": 4},
        ),
        (CIRCLES[-1], {"threshold": 5, "min_clients": 8}),
    ],
)
def test_the_same_attack_shows_one_vector_where_thresholds_are_too_low(
    play: MakePlay, parameters: GraphParameters, changes: dict[str, int]
) -> None:
    p = play(parameters=weakened(parameters, changes), length=2, bits=8)
    assert min(len(who) for who in attack(p, one_alone, 0).learned) == 1


def test_an_older_state_restored_would_show_what_its_answers_have_in_common(play: MakePlay) -> None:
    # Why a state is stored before a message is sent, and only the newest kept. c0's twin, restored from before the
    # first vector was sent, sends another vector under the same masks: their difference is bare.
    p = play()
    a = Adversary(p)
    for i in range(5):
        a.show_keys(i, range(5))
    everybody = frozenset(range(5))
    stored = a.clients[0].to_bytes()
    a.ask_for_vector(0, everybody)
    assert a.learned() == []
    a.ask_for_vector(0, everybody, Client.from_bytes(stored, p.where, p.identities["c0"]))
    assert a.learned() == [frozenset({0})]
    # A client stored after its first vector sends none again.
    stored = a.clients[0].to_bytes()
    with pytest.raises(RemoteProtocolError, match="made once"):
        a.ask_for_vector(0, everybody, Client.from_bytes(stored, p.where, p.identities["c0"]))


def test_clients_that_answered_for_two_sets_would_show_one_vector(play: MakePlay) -> None:
    # What the server gets if every client answers twice, from copies of its state: both secrets of c4.
    p = play(threat_model="semi-honest")
    a = Adversary(p)
    everybody, fewer = frozenset(range(5)), frozenset(range(4))
    for i in range(5):
        a.show_keys(i, everybody)
    for i in range(5):
        a.ask_for_vector(i, everybody)
    twins = [Client.from_bytes(c.to_bytes(), p.where, p.identities[c.name]) for c in a.clients[:4]]
    for i in range(4):
        a.take(i, everybody, everybody, a.clients[i].unmask(Included(pack_set(everybody, 5))))
        assert a.learned() == ([] if i < 3 else [everybody])
    for i, twin in enumerate(twins):
        a.take(i, everybody, fewer, twin.unmask(Included(pack_set(fewer, 5))))
    assert frozenset({4}) in a.learned()
