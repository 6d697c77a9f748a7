"""What nodes of federated averaging keep, and encryption keys and ciphertexts as bytes, as test vectors."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from made import Fields, Format
from secagg import wire
from secagg.federated.budget import PrivacyBudget, Spent, _Book
from secagg.federated.error_feedback import Memory, remembered
from secagg.federated.identities import load_peers, save_peers
from secagg.federated.layout import Entry, Layout
from secagg.federated.messages import KEYS, UNMASK, NodeState, Participants, Task
from secagg.federated.node import Node, OwnNode
from secagg.federated.terms import TRAIN, Protection
from secagg.federated.weighted import Encoding
from secagg.fixed_point import Plan
from secagg.he import paillier, rlwe
from secagg.he.paillier.secret_key import SecretKeyMessage
from secagg.he.rlwe.keys import SecretKeyMessage as RlweSecretKeyMessage
from secagg.prg import Stream
from secagg.updates.privacy import Privacy

_NO: Final = "UsageError"
_KEY: Final = Ed25519PrivateKey.from_private_bytes(b"node".ljust(32, b"."))


# The file of public keys


def peer_file(given: Fields) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path, again = Path(folder, "peers.toml"), Path(folder, "again.toml")
        path.write_text(given["toml"], "utf-8")
        peers = load_peers(path)
        save_peers(again, peers)
        name = "toml" if given["toml"].startswith("format") else "rewritten"
        return {"names": list(peers), name: again.read_text("utf-8")}


def peer_files() -> Format:
    content = f'[clients]\n"hospital-a" = "{"11" * 32}"\n"hospital-b" = "{"22" * 32}"\n'
    good = f"format = 1\n\n{content}"
    return Format(
        "public keys of nodes: peers.toml",
        peer_file,
        {"of two nodes": {"toml": good}, "without a format, which is 1": {"toml": content}},
        {
            "of a later format": (_NO, {"toml": good.replace("= 1", "= 2", 1)}),
            "a format that is no number": (_NO, {"toml": good.replace("= 1", '= "1"', 1)}),
            "a key of 31 bytes": (_NO, {"toml": good.replace("11" * 32, "11" * 31)}),
            "two nodes of one key": (_NO, {"toml": good.replace("22", "11")}),
            "without a table": (_NO, {"toml": "format = 1\n"}),
        },
    )


# Budgets


@contextmanager
def _budget() -> Iterator[PrivacyBudget]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "node.key")
        path.touch(0o600)
        path.write_bytes(
            _KEY.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        yield PrivacyBudget(path, TRAIN, Privacy(epsilon=2.0, delta=1e-5, norm=1.0, rounds=10))


def node_budget(given: Fields) -> dict[str, Any]:
    with _budget() as budget:
        budget.file.write_text(given["text"], "utf-8")
        privacy, book = budget._read()
        budget.write(book)
        name = "text" if '"format"' in given["text"] else "rewritten"
        return {
            "privacy": privacy,
            "history": book.history.to_bytes().hex(),
            "seen": {node: spent.to_bytes().hex() for node, spent in book.seen.items()},
            name: budget.file.read_text("utf-8"),
        }


def node_budgets() -> Format:
    sums = (("2026-10-01T06:00:00Z", b"n" * 32), ("2026-10-02T06:00:00Z", b"m" * 32))
    with _budget() as budget:
        budget.write(_Book(bytes(range(16)), sums, {"hospital-b": Spent(b"i" * 16, 3, b"h" * 32)}))
        good = budget.file.read_text("utf-8")
        before = good.replace('"format": 1,\n', "").rpartition("}\n")[0] + "}"
        unnumbered = budget._sealed(before.encode()).decode()
    return Format(
        "budgets of nodes",
        node_budget,
        {"two sums": {"text": good}, "without a format, which is 1": {"text": unnumbered}},
        {
            "of a later format": (_NO, {"text": good.replace('"format": 1', '"format": 2')}),
            "of a later format, with another end": (_NO, {"text": '{"format": 2, "spent": 3}\n'}),
            "a sum less": (_NO, {"text": good.replace(b"m".hex() * 32, b"n".hex() * 32)}),
            "cut off": (_NO, {"text": good[:-2]}),
            "nothing": (_NO, {"text": ""}),
        },
    )


# What a node keeps between two steps


def node_state(given: Fields) -> dict[str, Any]:
    member = OwnNode("a", Path("a.key"), _KEY, {"a": _KEY.public_key().public_bytes_raw()})
    node = Node.from_bytes(bytes.fromhex(given["bytes"]), member, Protection())
    return {"node": repr(node), "task": node.task.weight_key, "bytes": node.to_bytes().hex()}


def node_states() -> Format:
    layout = Layout((Entry("model", "w", "array", "float32", (3,)),), (), "metrics")
    task = wire.to_bytes(Task("1.0", Protection(), Encoding(), "num-examples"))
    before = NodeState(
        run=7, kind=TRAIN, step=KEYS, nonce=b"n" * 32, task=task, task_digest=b"", setting=b"", layout=layout,
        participants=None, vector=np.array([1.0, 2.0, 3.0, 4.0], np.float64), client=None,
    )  # fmt: skip
    after = msgspec.structs.replace(
        before, step=UNMASK, vector=None, client=np.frombuffer(b"the state of the masked sum", np.uint8),
        participants=Participants(("a", "b"), (b"n" * 32, b"m" * 32), b"s" * 32),
    )  # fmt: skip
    good = {"before keys": wire.to_bytes(before), "before the last step": wire.to_bytes(after)}
    data = good["before keys"]
    return Format(
        "what a node of federated averaging keeps between two steps",
        node_state,
        {name: {"bytes": each.hex()} for name, each in good.items()},
        {
            "of a later version": ("WireError", {"bytes": (data[:3] + b"\2" + data[4:]).hex()}),
            "cut off": ("WireError", {"bytes": data[:-1].hex()}),
            "another message": ("WireError", {"bytes": task.hex()}),
        },
    )


def node_memory(given: Fields) -> dict[str, Any]:
    layout = Layout((Entry("model", "w", "array", "float32", (3,)),), (), "metrics")
    data = bytes.fromhex(given["bytes"])
    numbers = remembered(data, 7, layout)
    return {"numbers": numbers.tolist(), "bytes": wire.to_bytes(wire.from_bytes(data, Memory)).hex()}


def node_memories() -> Format:
    layout = Layout((Entry("model", "w", "array", "float32", (3,)),), (), "metrics")
    data = wire.to_bytes(Memory(7, wire.to_bytes(layout), np.array([0.5, -0.25, 0.0])))
    task = wire.to_bytes(Task("1.0", Protection(), Encoding(), "num-examples"))
    return Format(
        "what a node remembers of its updates",
        node_memory,
        {"of three numbers": {"bytes": data.hex()}},
        {
            "of a later version": ("WireError", {"bytes": (data[:3] + b"\2" + data[4:]).hex()}),
            "cut off": ("WireError", {"bytes": data[:-1].hex()}),
            "another message": ("WireError", {"bytes": task.hex()}),
        },
    )


# Keys and ciphertexts, as they are sent and stored


def encrypted(given: Fields) -> dict[str, Any]:
    if given["scheme"] == "rlwe":
        message = wire.from_bytes(bytes.fromhex(given["secret"]), RlweSecretKeyMessage)
        secret = rlwe.SecretKey.from_message(message)
        public = rlwe.PublicKey.from_bytes(secret.public_key.to_bytes())
        return {"key_id": public.key_id.hex(), "secret": wire.to_bytes(secret.to_message()).hex()}
    key = paillier.SecretKey.from_message(wire.from_bytes(bytes.fromhex(given["secret"]), SecretKeyMessage))
    public_key = paillier.PublicKey.from_bytes(bytes.fromhex(given["public"]))
    ciphertext = public_key.read_bytes(bytes.fromhex(given["ciphertext"]))
    return {
        "secret": wire.to_bytes(key.to_message()).hex(),
        "public": public_key.to_bytes().hex(),
        "ciphertext": ciphertext.to_bytes().hex(),
        "values": key.decrypt(ciphertext).tolist(),
    }


def encryption() -> Format:
    key = paillier.SecretKey.generate(2048, rng=Stream(bytes(32)))
    plan = Plan(bits=32, frac_bits=8, clip=100.0, parties=4, max_weight=1)
    sent = key.public_key.encrypt([1.5, -2.0, 0.25], plan, rng=Stream(b"e" * 32))
    good: Fields = {
        "scheme": "paillier", "secret": wire.to_bytes(key.to_message()).hex(),
        "public": key.public_key.to_bytes().hex(), "ciphertext": sent.to_bytes().hex(),
    }  # fmt: skip
    lattice = rlwe.SecretKey.generate(rng=Stream(bytes(32)))
    other = paillier.SecretKey.generate(2048, rng=Stream(b"o" * 32)).public_key
    later = f"{good['ciphertext'][:6]}02{good['ciphertext'][8:]}"
    return Format(
        "encryption keys and ciphertexts, as they are sent",
        encrypted,
        {
            "paillier": good,
            "rlwe": {"scheme": "rlwe", "secret": wire.to_bytes(lattice.to_message()).hex()},
        },
        {
            "a ciphertext of a later version": ("WireError", {**good, "ciphertext": later}),
            "a ciphertext under another key": (
                "RemoteProtocolError",
                {**good, "public": other.to_bytes().hex()},
            ),
            "a ciphertext cut off": ("WireError", {**good, "ciphertext": good["ciphertext"][:-2]}),
            "a public key in place of the secret one": ("WireError", {**good, "secret": good["public"]}),
        },
    )


NODE_FILES: Final[tuple[Callable[[], Format], ...]] = (
    peer_files,
    node_budgets,
    node_states,
    node_memories,
    encryption,
)
