"""A round of federated averaging of a real model through every scheme, each party a process of its own, over TLS.

Clients train scikit-learn's multilayer perceptron on their own parts of its bundled digits, from common weights. The
mean of their weights is summed under encryption, and tested where it is learnt. Beside it stands the plain mean.
"""

from __future__ import annotations

import argparse
import functools
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

from secagg.fixed_point import plan  # noqa: E402
from secagg.party import Party  # noqa: E402
from secagg.protocols.he_sum.terms import EncryptedSum, Terms  # noqa: E402
from secagg.protocols.roles import Roles  # noqa: E402

Weights = NDArray[np.float64]
CLIP, FRAC_BITS = 8.0, 20
HIDDEN = 32
HOLDERS = ("holder0", "holder1", "holder2")


@functools.cache
def digits() -> Any:
    """Return training images, test images, training labels, test labels."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    return train_test_split(images / 16.0, labels, test_size=0.25, random_state=0)


def network(weights: Weights | None = None) -> Any:
    from sklearn.neural_network import MLPClassifier

    images, _, labels, _ = digits()
    made = MLPClassifier((HIDDEN,), learning_rate_init=3e-3, random_state=0)
    made.partial_fit(images[:1], labels[:1], classes=np.arange(10))
    if weights is not None:
        start = 0
        for array in (*made.coefs_, *made.intercepts_):
            array[...] = weights[start : start + array.size].reshape(array.shape)
            start += array.size
    return made


def flat(trained: Any) -> Weights:
    return np.concatenate([a.ravel() for a in (*trained.coefs_, *trained.intercepts_)])


def train(client: int, clients: int, epochs: int) -> Weights:
    """Return the weights after training on every `clients`-th image."""
    images, _, labels, _ = digits()
    own = network()
    for _ in range(epochs):
        own.partial_fit(images[client::clients], labels[client::clients])
    return flat(own)


def accuracy(weights: Weights) -> float:
    _, images, _, labels = digits()
    return float(network(weights).score(images, labels))


async def party_program(
    party: Party, *, scheme: str, clients: int, epochs: int, length: int, public: dict[str, Any], folder: str
) -> Any:
    """Train at clients and sum; return the mean where it is learnt, and the seconds that the sum took."""
    names = tuple(f"client{i}" for i in range(clients))
    holders = HOLDERS if scheme.startswith("threshold") else HOLDERS[:1]
    values = train(names.index(party.me), clients, epochs) if party.me in names else None
    numbers = plan(clip=CLIP, frac_bits=FRAC_BITS, parties=clients)
    terms = Terms(
        Roles(names, ("aggregator",), holders[:1], holders), numbers, (length,), min_clients=clients
    )
    began = time.perf_counter()
    total = await SCHEMES[scheme](party, values, terms, public, Path(folder))
    seconds = time.perf_counter() - began
    return None if total is None else (total.total / clients, total.error / clients, seconds)


async def single(
    scheme: str, party: Party, values: Any, terms: Terms, _public: dict[str, Any], _folder: Path
) -> EncryptedSum | None:
    from secagg.protocols.he_sum import single_key

    secret_key: Any = None
    if party.me in terms.roles.key_holders:
        if scheme == "paillier":
            from secagg.he.paillier import SecretKey as PaillierKey

            secret_key = PaillierKey.generate()
        elif scheme == "ckks":
            from secagg.he.ckks import SecretKey as CkksKey

            secret_key = CkksKey.generate()
        else:
            from secagg.he.rlwe.keys import SecretKey as RlweKey

            secret_key = RlweKey.generate()
    return await single_key.take_part(party, values, terms=terms, scheme_name=scheme, secret_key=secret_key)


async def threshold_paillier(
    party: Party, values: Any, terms: Terms, public: dict[str, Any], folder: Path
) -> EncryptedSum | None:
    from secagg.he.key_files import load_secret
    from secagg.he.paillier.threshold import KeyShare, ThresholdPublicKey
    from secagg.protocols.he_sum import threshold_paillier as protocol

    share = load_secret(folder / party.me, KeyShare) if party.me in terms.roles.key_holders else None
    key = ThresholdPublicKey.from_bytes(public["key"])
    return await protocol.take_part(party, values, terms=terms, public_key=key, key_share=share)


async def threshold_rlwe(
    party: Party, values: Any, terms: Terms, public: dict[str, Any], folder: Path
) -> EncryptedSum | None:
    from secagg.he.rlwe.decryption_log import DecryptionLog
    from secagg.he.rlwe.flooding import plan_release
    from secagg.protocols.he_sum import threshold_rlwe as protocol

    # The parties of this benchmark trust each other with their signing keys; others draw them where they are used.
    signing = {name: Ed25519PrivateKey.from_private_bytes(seed) for name, seed in public["seeds"].items()}
    known = {name: key.public_key() for name, key in signing.items()}
    record = None
    if party.me in terms.roles.key_holders:
        record = DecryptionLog(folder / f"{party.me}.log", expected_epoch=0)
    common: dict[str, Any] = {
        "terms": terms,
        "release_plan": plan_release(terms.plan, holders=len(HOLDERS), releases=1, length=terms.length),
        "identities": protocol.Identities(known, known),
        "identity": signing.get(party.me),
        "log": record,
    }
    key = await protocol.agree_key(party, **common)
    total = await protocol.take_part(party, values, key=key, **common)
    if record is not None:
        record.close()
    return total


SCHEMES: dict[str, Any] = {
    "rlwe": partial(single, "rlwe"),
    "ckks": partial(single, "ckks"),
    "paillier": partial(single, "paillier"),
    "threshold-paillier": threshold_paillier,
    "threshold-rlwe": threshold_rlwe,
}


def prepare(scheme: str, names: Sequence[str], folder: Path) -> dict[str, Any]:
    """Return what all parties know before the run; write what one of them knows to files."""
    if scheme == "threshold-paillier":
        from secagg.he.key_files import save_secret
        from secagg.he.paillier.threshold import deal_threshold_key

        public_key, shares = deal_threshold_key(len(HOLDERS), 2)
        for holder, share in zip(HOLDERS, shares, strict=True):
            save_secret(folder / holder, share)
        return {"key": public_key.to_bytes()}
    if scheme == "threshold-rlwe":
        return {"seeds": {name: Ed25519PrivateKey.generate().private_bytes_raw() for name in names}}
    return {}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=list(SCHEMES))
    parser.add_argument(
        "--tiny", action="store_true", help="one scheme and little training, to see that it runs"
    )
    args = parser.parse_args(argv)
    if args.tiny:
        args.clients, args.epochs, args.schemes = 2, 1, ["rlwe"]
    clients = args.clients
    plain = np.mean([train(i, clients, args.epochs) for i in range(clients)], axis=0)
    one = accuracy(train(0, clients, args.epochs))
    print(
        f"digits, perceptron with {plain.size} weights within +-{CLIP}, {FRAC_BITS} places; {clients} clients, "
        f"{args.epochs} epochs each; accuracy of one client's own model {one:.4f}, of the plain mean {accuracy(plain):.4f}"
    )
    for scheme in args.schemes:
        holders = HOLDERS if scheme.startswith("threshold") else HOLDERS[:1]
        names = [*(f"client{i}" for i in range(clients)), "aggregator", *holders]
        with tempfile.TemporaryDirectory() as folder:
            program = partial(
                party_program,
                scheme=scheme,
                clients=clients,
                epochs=args.epochs,
                length=plain.size,
                public=prepare(scheme, names, Path(folder)),
                folder=folder,
            )
            results = run_parties(dict.fromkeys(names, program))
        (mean, error, seconds), _, _, _ = results[holders[0]]
        worst = float(np.max(np.abs(mean - plain)))
        sent = results["client0"][1]
        print(
            f"{scheme:18} accuracy {accuracy(mean):.4f}, weights off by {worst:.2g} at most (stated {error:.2g}); "
            f"{seconds:5.2f} s with training and keys, client0 sent {total_sent(sent):,} bytes in all"
        )
        if worst > error:
            raise SystemExit(f"{scheme}: the mean is off by more than stated")


def total_sent(ledger: dict[str, Any]) -> int:
    return int(ledger["total"]["sent"]["frame_bytes"])


if __name__ == "__main__":
    main()
