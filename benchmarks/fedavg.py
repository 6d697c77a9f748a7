"""Federated averaging of a real model through every scheme, each party a process of its own, over TLS.

Clients train scikit-learn's multilayer perceptron on their own parts of its bundled digits, round after round from
the mean of their weights. Beside it stands the same with plain means: the accuracy must be equal within 0.5%.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.parties import one_thread, run_parties

one_thread()

import numpy as np  # noqa: E402  # after one_thread
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from secagg.fixed_point import Plan, plan  # noqa: E402
from secagg.party import Party  # noqa: E402
from secagg.protocols.he_sum.terms import Sum, Terms  # noqa: E402

Weights = NDArray[np.float64]
CLIP, FRAC_BITS = 8.0, 20
SCHEMES = ("rlwe", "ckks", "paillier", "threshold-paillier", "threshold-rlwe")
HIDDEN = 32
HOLDERS = ("holder0", "holder1", "holder2")


class Model:
    """A perceptron whose weights are one vector."""

    def __init__(self) -> None:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        images, labels = load_digits(return_X_y=True)
        split = train_test_split(images / 16.0, labels, test_size=0.25, random_state=0)
        self.images, self.test_images, self.labels, self.test_labels = split

    def fresh(self) -> Any:
        from sklearn.neural_network import MLPClassifier

        network = MLPClassifier((HIDDEN,), learning_rate_init=3e-3, random_state=0)
        network.partial_fit(self.images[:1], self.labels[:1], classes=np.arange(10))
        return network

    def start(self) -> Weights:
        return flat(self.fresh())

    def trained(self, weights: Weights, part: slice, epochs: int) -> Weights:
        network = self.fresh()
        load(network, weights)
        for _ in range(epochs):
            network.partial_fit(self.images[part], self.labels[part])
        return flat(network)

    def accuracy(self, weights: Weights) -> float:
        network = self.fresh()
        load(network, weights)
        return float(network.score(self.test_images, self.test_labels))


def flat(network: Any) -> Weights:
    return np.concatenate([a.ravel() for a in (*network.coefs_, *network.intercepts_)])


def load(network: Any, weights: Weights) -> None:
    start = 0
    for array in (*network.coefs_, *network.intercepts_):
        array[...] = weights[start : start + array.size].reshape(array.shape)
        start += array.size


def part(client: int, clients: int) -> slice:
    return slice(client, None, clients)


def numbers(clients: int) -> Plan:
    return plan(clip=CLIP, frac_bits=FRAC_BITS, parties=clients)


def plain(clients: int, rounds: int, epochs: int) -> Weights:
    model = Model()
    weights = model.start()
    for _ in range(rounds):
        updates = [model.trained(weights, part(i, clients), epochs) for i in range(clients)]
        weights = np.asarray(np.mean(updates, axis=0))
    return weights


async def average(
    party: Party,
    *,
    scheme: str,
    clients: tuple[str, ...],
    rounds: int,
    epochs: int,
    keys: Any,
    folder: str,
) -> Weights | None:
    """Train at clients, sum under the scheme, and go on from the mean; return the weights where they are learnt."""
    model = Model()
    weights = model.start()
    holders = HOLDERS if scheme.startswith("threshold") else HOLDERS[:1]
    for number in range(rounds):
        terms = Terms(
            clients, "aggregator", holders, holders[:1], numbers(len(clients)), weights.shape, len(clients), number
        )
        values = None
        if party.me in clients:
            values = model.trained(weights, part(clients.index(party.me), len(clients)), epochs)
        total = await summed(party, values, scheme, terms, keys, folder)
        weights = await spread(party, total, weights, len(clients), holders[0])
    return weights if party.me == holders[0] else None


async def summed(
    party: Party, values: Weights | None, scheme: str, terms: Terms, keys: Any, folder: str
) -> Sum | None:
    if scheme == "threshold-paillier":
        from secagg.he.paillier.threshold import KeyShare, ThresholdPublicKey
        from secagg.he.key_files import load_secret
        from secagg.protocols.he_sum import threshold_paillier

        share = None
        if party.me in terms.key_holders:
            share = load_secret(Path(folder) / party.me, KeyShare)
        return await threshold_paillier.he_sum(
            party, values, terms=terms, public_key=ThresholdPublicKey.from_bytes(keys), key_share=share
        )
    if scheme == "threshold-rlwe":
        from secagg.he.rlwe.flooding import plan_release
        from secagg.he.rlwe.releases import Releases
        from secagg.protocols.he_sum import threshold_rlwe

        signing = {name: Ed25519PrivateKey.from_private_bytes(seed) for name, seed in keys.items()}
        public = {name: key.public_key() for name, key in signing.items()}
        record = None
        if party.me in terms.key_holders:
            record = Releases(Path(folder) / party.me, expected_epoch=0)
        common: dict[str, Any] = {
            "terms": terms,
            "release_plan": plan_release(terms.plan, holders=len(HOLDERS), releases=1, length=terms.length),
            "identities": threshold_rlwe.Identities(public, public),
            "identity": signing.get(party.me),
            "releases": record,
        }
        key = await threshold_rlwe.agree_key(party, **common)  # a key of its own for each round
        total = await threshold_rlwe.he_sum(party, values, key=key, **common)
        if record is not None:
            record.close()
        return total
    from secagg.protocols.he_sum import single_key

    secret_key = keys.get(party.me)
    if secret_key == scheme:
        secret_key = generate(scheme)
        keys[party.me] = secret_key  # kept for the rounds to come
    return await single_key.he_sum(party, values, terms=terms, scheme_name=scheme, secret_key=secret_key)
