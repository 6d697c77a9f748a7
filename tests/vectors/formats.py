"""Our own formats as test vectors: what each is read with, good examples, and examples that have to be refused.

A vector is data for JSON: a name, what goes in, and what comes out or which error is raised. For a format that is read,
bytes go in and the same bytes come out, encoded anew from what was decoded. For a format that is computed, such as a
stream or a commitment, everything goes in that it is computed from. Bytes are in hexadecimal.

The module is long because each of our formats stands here once, with its good and bad examples.
"""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from numpy.typing import NDArray

from databases import DATABASES
from kept_files import KEPT_FILES
from made import Fields, Format, identity_of
from node_files import NODE_FILES
from secagg import signing, wire
from secagg.he import key_files, paillier
from secagg.jobs.signature import read_record, sign_record, verify_record
from secagg.mpc.additive import Seed, expand, reconstruct
from secagg.network import hello
from secagg.network.identity import fingerprint
from secagg.network.stepwise import Stepwise
from secagg.party import Party
from secagg.prg import Stream, derive_key
from secagg.protocols import group_by, masked_sum
from secagg.protocols.masked_sum.client import ClientState
from secagg.protocols.masked_sum.masks import Mask, add_masks
from secagg.ring import Ring
from secagg.wire import Message
from wire_kinds import wire_kinds

PEER: Final = "north"


class Example(Message, frozen=True):
    """A message of every kind of field that a message may have."""

    number: int
    fraction: float
    text: str
    key: bytes
    names: list[str]
    pair: tuple[bytes, ...]
    absent: str | None
    words: NDArray[np.uint64]
    bits: NDArray[np.bool_]
    rows: NDArray[np.int16]


class Other(Message, frozen=True):
    """Another message."""

    words: NDArray[np.uint64]


# What a message is called on the wire; the names of these classes' modules are no part of any format.
Example.KIND, Other.KIND = "vectors.Example", "vectors.Other"


# Frames and stored messages.


def stored_message(given: Fields) -> dict[str, Any]:
    kinds: dict[str, type[Message]] = {Example.KIND: Example, Other.KIND: Other}
    kind = kinds[given["kind"]]
    return {"bytes": wire.to_bytes(wire.from_bytes(bytes.fromhex(given["bytes"]), kind, peer=PEER)).hex()}


def frame(given: Fields) -> dict[str, Any]:
    cut = wire.decode_envelope(bytes.fromhex(given["bytes"]), peer=PEER)
    message, _ = wire.decode_body(cut, Example, peer=PEER)
    e = cut.envelope
    parts, payload = wire.encode_message(
        message, session=e.session, sender=e.sender, lane=e.lane, sequence=e.sequence, depth=e.depth
    )
    described = {n: getattr(e, n) for n in ("sender", "sequence", "depth", "kind")}
    return {"bytes": b"".join(parts).hex(), "lane": list(e.lane), "payload": payload, **described}


def control_frame(given: Fields) -> dict[str, Any]:
    data = bytes.fromhex(given["bytes"])
    frame_type, _, _ = wire.decode_prefix(data[: wire.PREFIX.size], peer=PEER)
    kinds: dict[wire.FrameType, type[Message]] = {
        wire.FrameType.HELLO: hello.Hello,
        wire.FrameType.ABORT: hello.Abort,
    }
    kind = kinds[frame_type]
    content = wire.decode_control(data, kind, peer=PEER)
    return {"type": frame_type.name, "bytes": wire.encode_control(frame_type, content).hex()}


def example() -> Example:
    return Example(
        -5, 0.25, "é", b"\0\xff", ["a", ""], (b"x", b""), None,
        np.array([0, 1, 2**64 - 1], np.uint64), np.array([[True, False]]), np.array([[-1], [2]], np.int16),
    )  # fmt: skip


def framed(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "session": bytes(range(16)), "sender": 1, "lane": (0, 2), "sequence": 7, "depth": 9,
    } | changes  # fmt: skip
    return b"".join(wire.encode_message(example(), **fields)[0])


def refused(data: bytes) -> tuple[str, Fields]:
    return "WireError", {"bytes": data.hex()}


def altered(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([value]) + data[at + 1 :]


def messages() -> Format:
    good = wire.to_bytes(example())
    kind = Example.KIND
    header = int.from_bytes(good[8:12], "little")
    return Format(
        "messages as they are kept in files",
        stored_message,
        {"all kinds of fields": {"kind": kind, "bytes": good.hex()},
         "no elements": {"kind": Other.KIND, "bytes": wire.to_bytes(Other(np.zeros(0, np.uint64))).hex()}},
        {
            name: ("WireError", {"kind": kind, "bytes": data.hex()})
            for name, data in {
                "nothing": b"",
                "no magic": b"x" + good[1:],
                "version 2": altered(good, 3, 2),
                "an unknown frame type": altered(good, 4, 9),
                "a frame for peers": altered(good, 4, 1),
                "the last byte is missing": good[:-1],
                "a byte too many": good + b"\0",
                "a header beyond the frame": good[:8] + (1 << 20).to_bytes(4, "little") + good[12:],
                "a header cut off": good[:8] + (header - 1).to_bytes(4, "little") + good[12:],
                "another kind": wire.to_bytes(Other(np.zeros(2, np.uint64))),
                "a dtype of another name": good.replace(b"<u8", b"<u3"),
                "an array of floats": good.replace(b"<u8", b"<f8"),
                "a boolean that is neither": good.replace(b"\1\0" + bytes(14), b"\2\0" + bytes(14)),
            }.items()
        },
    )  # fmt: skip


def frames() -> Format:
    good = framed()
    envelope = wire.decode_envelope(good, peer=PEER).envelope
    cut = msgspec.msgpack.encode(envelope)
    nothing = msgspec.Raw(b"\xc0" * len(bytes(envelope.body)))
    other_body = msgspec.msgpack.encode(msgspec.structs.replace(envelope, body=nothing))

    return Format(
        "messages between parties",
        frame,
        {"in a lane": {"bytes": good.hex()}, "in none": {"bytes": framed(lane=()).hex()}},
        {
            "a session of 15 bytes": refused(good.replace(b"\xc4\x10" + bytes(range(15)), b"\xc4\x0f" + bytes(range(15)))),
            "a kind that is a number": refused(good.replace(b"\xaf" + Example.KIND.encode(), b"\x01" * 16)),
            "another kind of body": refused(good.replace(cut, other_body)),
            "a frame for files": refused(altered(good, 4, 6)),
            "arrays that end early": refused(good[:-16]),
        },
    )  # fmt: skip


def control_frames() -> Format:
    said = hello.Hello("1.0", "north", ["north", "south"], bytes(32), b"\1" * 32, {"query": bytes(16)})
    ended = hello.Abort("south", "it was stopped", b"")
    good = {
        "hello": wire.encode_control(wire.FrameType.HELLO, said),
        "abort": wire.encode_control(wire.FrameType.ABORT, ended),
    }
    data = good["abort"]
    return Format(
        "frames of the network's own",
        control_frame,
        {name: {"bytes": each.hex()} for name, each in good.items()},
        {
            "a longer frame than an end may be": refused(data[:12] + (1 << 14).to_bytes(8, "little") + data[20:]),
            "a hello in an abort": refused(altered(good["hello"], 4, 4)),
            "cut off": refused(data[:-1]),
        },
    )  # fmt: skip


# Streams, masks and shares.


def stream(given: Fields) -> dict[str, Any]:
    key = derive_key(
        bytes.fromhex(given["secret"]), label=given["label"], context=bytes.fromhex(given["context"])
    )
    # Each from its own beginning, so that one that draws otherwise does not move the others.
    return {
        "key": key.hex(),
        "bytes": Stream(key).bytes(40).hex(),
        "words": [str(n) for n in Stream(key).words(3)],
        "ring": [int(n) for n in Stream(key).ring(5, given["bits"])],
        "below": [int(n) for n in Stream(key).below(given["bound"], 5)],
        "permutation": Stream(key).permutation(8).tolist(),
    }


def streams() -> Format:
    good: Fields = {
        "secret": bytes(range(32)).hex(),
        "label": "vectors",
        "context": "",
        "bits": 13,
        "bound": 1000,
    }
    return Format(
        "streams of secrets: HKDF-SHA256, AES-256-CTR, and what is drawn from them",
        stream,
        {"13 bits": good, "another context": {**good, "context": "00"}, "64 bits": {**good, "bits": 64, "bound": 2**64}},
        {"a ring of 65 bits": ("UsageError", {**good, "bits": 65}), "a bound of 0": ("UsageError", {**good, "bound": 0})},
    )  # fmt: skip


def masks(given: Fields) -> dict[str, Any]:
    ring = Ring(given["bits"])
    x = np.array(given["vector"], ring.dtype)
    add_masks(x, [Mask(bytes.fromhex(seed), negative) for seed, negative in given["seeds"]])
    return {"masked": ring.reduce(x).tolist()}


def masked_vectors() -> Format:
    seeds = [[bytes([i] * 32).hex(), bool(i % 2)] for i in range(3)]
    good: Fields = {"bits": 20, "vector": [0, 1, 2**20 - 1, 5], "seeds": seeds}
    return Format(
        "masks of a masked sum: the streams of their seeds, added or subtracted",
        masks,
        {"three masks": good, "of 8 bits": {**good, "bits": 8, "vector": [0, 255, 7]}},
        {"a seed of 31 bytes": ("UsageError", {**good, "seeds": [[bytes(31).hex(), False]]})},
    )


def shares(given: Fields) -> dict[str, Any]:
    ring, shape = Ring(given["bits"]), (given["length"],)
    rest = ring.unpack(np.frombuffer(bytes.fromhex(given["rest"]), np.uint8), shape)
    seeds = [Seed(bytes.fromhex(seed)) for seed in given["seeds"]]
    return {
        "expanded": [expand(seed, shape, ring).tolist() for seed in seeds],
        "secret": reconstruct([*seeds, rest], shape, ring).tolist(),
        "rest": ring.pack(rest).tobytes().hex(),
    }


def additive_shares() -> Format:
    seeds = [(b"a" * 32).hex(), (b"b" * 32).hex()]
    good: Fields = {"bits": 13, "length": 3, "seeds": seeds, "rest": "ffffff7f00"}
    return Format(
        "additive shares: seeds, and the packed difference",
        shares,
        {"13 bits": good, "one seed": {**good, "seeds": seeds[:1]}},
        {
            "a bit behind the last element": ("RangeError", {**good, "rest": "ffffff7f80"}),
            "a byte too few": ("ShapeError", {**good, "rest": "ffffff7f"}),
            "a seed of 31 bytes": ("ShapeError", {**good, "seeds": [bytes(31).hex()]}),
        },
    )


# Keys and states.


def key_file(given: Fields) -> dict[str, Any]:
    password = None if given["password"] is None else given["password"].encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "secret")
        path.touch(0o600)
        path.write_bytes(bytes.fromhex(given["bytes"]))
        key = key_files.load_secret(path, paillier.SecretKey, password=password)
    return {"key_id": key.public_key.key_id.hex(), "bytes": encoded_key(key, password).hex()}


def encoded_key(key: key_files.Secret, password: bytes | None, salt: bytes = b"s" * 32) -> bytes:
    """Return what `save_secret` writes, with a salt that is given."""
    message = key.to_message()
    content = wire.to_bytes(message)
    if password is not None:
        cipher, bound = key_files._cipher(password, salt), key_files._bound(message.KIND, salt)
        sealed = np.frombuffer(cipher.encrypt(key_files._NONCE, content, bound), np.uint8)
        content = wire.to_bytes(key_files.SealedSecret(message.KIND, salt, sealed))
    return content + hashlib.sha256(content).digest()


def secret_keys() -> Format:
    key = paillier.SecretKey.generate(2048, rng=Stream(bytes(32)))
    opened, sealed = encoded_key(key, None), encoded_key(key, b"correct horse")
    kept = key.to_message()
    swapped = wire.to_bytes(msgspec.structs.replace(kept, q=kept.p))
    other = swapped + hashlib.sha256(swapped).digest()
    return Format(
        "files of secret keys",
        key_file,
        {
            "open": {"password": None, "bytes": opened.hex()},
            "under a password": {"password": "correct horse", "bytes": sealed.hex()},
        },
        {
            "one bit altered": ("UsageError", {"password": None, "bytes": altered(opened, 60, opened[60] ^ 1).hex()}),
            "cut off": ("UsageError", {"password": None, "bytes": opened[:-1].hex()}),
            "factors of another key": ("UsageError", {"password": None, "bytes": other.hex()}),
            "another password": ("UsageError", {"password": "horse", "bytes": sealed.hex()}),
            "a password for an open file": ("UsageError", {"password": "correct horse", "bytes": opened.hex()}),
            "of a later version": ("UsageError", {"password": None, "bytes": altered(opened, 3, 2).hex()}),
            "no password for a sealed file": ("UsageError", {"password": None, "bytes": sealed.hex()}),
        },
    )  # fmt: skip


def sum_of_three() -> tuple[masked_sum.SumInSession, list[Ed25519PrivateKey]]:
    identities = [Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in range(3)]
    public = tuple(key.public_key().public_bytes_raw() for key in identities)
    parameters = masked_sum.choose(3)
    terms = masked_sum.Terms(
        masked_sum.Roles(("a", "b", "c"), ("server",), ("server",)), public, 4, Ring(20), parameters
    )
    return masked_sum.SumInSession(terms, bytes(range(32))), identities


def stored_client(given: Fields) -> dict[str, Any]:
    where, identities = sum_of_three()
    client = masked_sum.Client.from_bytes(bytes.fromhex(given["bytes"]), where, identities[given["client"]])
    return {"name": client.name, "phase": client.phase.name, "bytes": client.to_bytes().hex()}


def stored_clients() -> Format:
    where, identities = sum_of_three()
    server = masked_sum.Server(where)
    clients = {
        name: masked_sum.Client(where, name, key, root=bytes([i + 9]) * 32)
        for i, (name, key) in enumerate(zip("abc", identities, strict=True))
    }
    new = clients["a"].to_bytes()
    for name, client in clients.items():
        server.take_keys(name, client.advertise())
    advertised = clients["a"].to_bytes()
    peers = server.close_keys()
    for name, client in clients.items():
        server.take_shares(name, client.share(peers[name]))
    shared = clients["a"].to_bytes()
    inbox = server.close_shares()
    clients["a"].mask(np.arange(4, dtype=where.terms.ring.dtype), inbox["a"])
    masked = clients["a"].to_bytes()
    given = {"new": new, "advertised": advertised, "shared": shared, "masked": masked}
    state = wire.from_bytes(shared, ClientState)

    def changed(**changes: Any) -> Fields:
        return {"client": 0, "bytes": wire.to_bytes(msgspec.structs.replace(state, **changes)).hex()}

    return Format(
        "clients of a masked sum, stored between rounds; the sum is `sum_of_three`",
        stored_client,
        {name: {"client": 0, "bytes": data.hex()} for name, data in given.items()},
        {
            "of another round": ("UsageError", changed(context=bytes(32))),
            "of a client that is not in it": ("UsageError", changed(client=3)),
            "of a phase that is none": ("UsageError", changed(phase=99)),
            "with another client's identity key": ("UsageError", {"client": 1, "bytes": shared.hex()}),
            "cut off": ("WireError", {"client": 0, "bytes": shared[:-1].hex()}),
        },
    )


async def both_words(party: Party) -> list[int]:
    """Tell the other party a random word; return both."""
    word = party.rng.words(1)
    party.broadcast(Other(word))
    told = await party.gather(Other, party.others)
    return [int(word[0]), *(int(other.words[0]) for other in told.values())]


def stepwise_state(given: Fields) -> dict[str, Any]:
    party = Stepwise.restore(both_words, bytes.fromhex(given["bytes"]))
    found = party.result() if party.done else None
    return {"steps": party.steps, "result": found, "bytes": party.state().hex()}


def stepwise_states() -> Format:
    north, south = (
        Stepwise(
            both_words, me=me, roster=("north", "south"), session=bytes(range(32)), key=me.encode().ljust(32)
        )
        for me in ("north", "south")
    )
    new = north.state()
    north.step()
    sent = north.state()
    north.step([("south", frame) for _, frame in south.step()])
    states = {"new": new, "waiting": sent, "done": north.state()}
    return Format(
        "parties whose messages the caller carries, stored between steps; the program is `both_words`",
        stepwise_state,
        {name: {"bytes": data.hex()} for name, data in states.items()},
        {
            "of a later version": ("UsageError", {"bytes": altered(sent, 8, 2).hex()}),
            "cut off": ("UsageError", {"bytes": sent[:-1].hex()}),
            "another key": (
                "UsageError",
                {"bytes": sent.replace(b"north" + b" " * 27, b"west".ljust(32)).hex()},
            ),
            "something else": ("UsageError", {"bytes": sent[1:].hex()}),
        },
    )


# Signatures, commitments and records.


def signature(given: Fields) -> dict[str, Any]:
    parts = [bytes.fromhex(part) for part in given["parts"]]
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(given["public_key"]))
    signing.verify(key, bytes.fromhex(given["signature"]), given["label"], parts, peer=PEER)
    return {"digest": signing.digest(given["label"], parts).hex()}


def signatures() -> Format:
    key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    parts = [b"one", b"", b"two"]
    good: Fields = {
        "public_key": key.public_key().public_bytes_raw().hex(), "label": "vectors",
        "parts": [part.hex() for part in parts], "signature": signing.sign(key, "vectors", parts).hex(),
    }  # fmt: skip
    no = "AuthenticationError"
    return Format(
        "signatures over lists of byte strings",
        signature,
        {"three strings": good},
        {
            "another label": (no, {**good, "label": "vector"}),
            "another string": (no, {**good, "parts": [b"one".hex(), "", b"tow".hex()]}),
            "the same bytes cut elsewhere": (no, {**good, "parts": [b"onet".hex(), "", b"wo".hex()]}),
            "an empty string less": (no, {**good, "parts": [b"one".hex(), b"two".hex()]}),
            "another signature": (no, {**good, "signature": bytes(64).hex()}),
        },
    )


def commitment(given: Fields) -> dict[str, Any]:
    rows = group_by.Rows(np.array(given["identifiers"], object), np.array(given["values"], np.uint64))
    salt, session = bytes.fromhex(given["salt"]), bytes.fromhex(given["session"])
    return {"commitment": group_by.commitment(rows, salt, session=session, owner=given["owner"]).hex()}


def commitments() -> Format:
    good: Fields = {
        "identifiers": ["a", "é", ""], "values": [[1, 2], [3, 4], [5, 2**64 - 1]], "salt": bytes(range(32)).hex(),
        "session": bytes(32).hex(), "owner": "north",
    }  # fmt: skip
    return Format(
        "commitments to the rows that an input party puts in",
        commitment,
        {"three rows": good, "another owner": {**good, "owner": "south"}},
        {
            "a salt of 31 bytes": ("UsageError", {**good, "salt": bytes(31).hex()}),
            "a zero character": ("DataError", {**good, "identifiers": ["a", "b\0", "c"]}),
        },
    )


def session(given: Fields) -> dict[str, Any]:
    nonces = {name: bytes.fromhex(nonce) for name, nonce in given["nonces"].items()}
    committed = {name: hello.nonce_commitment(name, nonce) for name, nonce in nonces.items()}
    for name, nonce in nonces.items():
        told = bytes.fromhex(given["told"].get(name, nonce.hex()))
        hello.check_nonce(hello.Nonce(told), name, committed[name])
    made = hello.derive_session(bytes.fromhex(given["agreement"]), nonces)
    return {"commitments": {name: each.hex() for name, each in committed.items()}, "session": made.hex()}


def sessions() -> Format:
    nonces = {"north": (b"n" * 32).hex(), "south": (b"s" * 32).hex()}
    good: Fields = {"agreement": bytes(32).hex(), "nonces": nonces, "told": {}}
    return Format(
        "session identifiers, and commitments to the nonces that they are made of",
        session,
        {"of two": good, "of another job": {**good, "agreement": (b"\1" * 32).hex()}},
        {"another nonce": ("RemoteProtocolError", {**good, "told": {"south": (b"t" * 32).hex()}}),
         "a nonce of 31 bytes": ("RemoteProtocolError", {**good, "told": {"south": (b"s" * 31).hex()}})},
    )  # fmt: skip


def run_record(given: Fields) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "north.job.json")
        path.write_text(given["json"], "utf-8")
        record = read_record(path)
    verify_record(record, None)
    return {"party": record["party"], "fields": sorted(record)}


def run_records() -> Format:
    north, south = identity_of("north"), identity_of("south")
    parties = [{"name": i.name, "certificate": fingerprint(i.certificate)} for i in (north, south)]
    content: dict[str, Any] = {
        "format": 1, "party": "north", "job": "j", "outcome": "complete", "parties": parties,
        "log2_false_match": -51.25, "note": "é", "private": {"file": "north.j.private.json", "sha256": "00"},
    }  # fmt: skip
    record = sign_record(content, north)

    def text(**changes: Any) -> Fields:
        return {"json": json.dumps({**record, **changes})}

    no = "AuthenticationError"
    return Format(
        "signed run records",
        run_record,
        {
            "as it is written": text(),
            "laid out anew": {"json": json.dumps(record, indent=2, ensure_ascii=False)},
        },
        {
            "another outcome": (no, text(outcome="failed")),
            "a field more": (no, text(flagged=3)),
            "another party's name": (no, text(party="south")),
            "signed by another party": (no, {"json": json.dumps(sign_record(content, south))}),
            "a signature that is no base64": (no, text(signature={**record["signature"], "value": "?"})),
            "a key that comes twice": ("UsageError", {"json": json.dumps(record)[:-1] + ', "job": "j"}'}),
            "an infinite number": ("UsageError", text(log2_false_match=float("inf"))),
            "without a signature": ("UsageError", {"json": json.dumps(content)}),
            "of a later format": ("UsageError", text(format=2)),
            "without a format": (
                "UsageError",
                {"json": json.dumps({k: v for k, v in record.items() if k != "format"})},
            ),
        },
    )


# By name of the file; made when asked for, and once.
FORMATS: Final[Mapping[str, Callable[[], Format]]] = {
    make.__name__: functools.cache(make)
    for make in (
        messages,
        frames,
        control_frames,
        streams,
        masked_vectors,
        additive_shares,
        secret_keys,
        stored_clients,
        stepwise_states,
        signatures,
        commitments,
        sessions,
        run_records,
        *KEPT_FILES,
        *DATABASES,
        *NODE_FILES,
        wire_kinds,
    )
}
