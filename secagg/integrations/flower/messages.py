"""What goes through Flower's messages: one record, of one array, whose name is the step and whose bytes are the message.

Flower cuts arrays into pieces on their way, whatever their size; it knows nothing of what is in this one.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final, NamedTuple

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, RecordDict
from numpy.typing import NDArray

from secagg import wire
from secagg.errors import RemoteProtocolError, UsageError, WireError
from secagg.integrations.flower.terms import LABEL, Encoding, Protection
from secagg.signing import digest
from secagg.wire import Message

RECORD: Final = "secagg"
_STYPE: Final = "secagg.wire"

TASK, KEYS, SHARES, INPUT, CONSENT, UNMASK = "task", "keys", "shares", "input", "consent", "unmask"


class Task(Message, frozen=True):
    """Task, server -> client, beside what the strategy sends."""

    protection: Protection
    encoding: Encoding
    weight_key: str


class Ready(Message, frozen=True):
    """Task, client -> server: it keeps an update of this layout.

    nonce: 32 fresh bytes. layout: a `Layout` as bytes. signature: over run, kind of sum, nonce and layout.
    """

    name: str
    nonce: bytes
    layout: bytes
    signature: bytes


class Crowd(Message, frozen=True):
    """Keys, server -> client: who takes part, the nonce of each, and one that the server drew when it had them all."""

    names: tuple[str, ...]
    nonces: tuple[bytes, ...]
    server_nonce: bytes


class Kept(Message, frozen=True):
    """What a client keeps between steps. Secret.

    kind: "train" or "evaluate". step: the next one. asked: see `Agreement`. vector: the update, without noise, until it
    is sent: int64 of `WeightedCoder`, float64 for `PrivateCoder`. client: the masked protocol's own state, from `keys` on.
    """

    kind: str
    step: str
    nonce: bytes
    task: bytes
    asked: bytes
    layout: bytes
    crowd: Crowd | None
    vector: NDArray[np.generic] | None
    client: NDArray[np.uint8] | None


class Step(NamedTuple):
    """A message not yet decoded, and the step that it belongs to."""

    name: str
    frame: bytes


def pack(step: str, message: Message) -> RecordDict:
    """Return content for Flower's message."""
    return RecordDict({RECORD: record(step, wire.to_bytes(message))})


def record(step: str, frame: bytes) -> ArrayRecord:
    """Return the record that carries a message."""
    return ArrayRecord({step: Array("uint8", (len(frame),), _STYPE, frame)})


def unpack(content: RecordDict, *, peer: str) -> Step:
    """Return the message in the content of Flower's message.

    Raises:
      WireError: there is none.
    """
    carried = content.get(RECORD)
    if not isinstance(carried, ArrayRecord) or len(carried) != 1:
        raise WireError(f"expected a message of a protected sum from {peer}, got another", peer=peer)
    ((step, array),) = carried.items()
    return Step(step, bytes(array.data))


def asked_of(content: RecordDict, message_type: str) -> bytes:
    """Return a digest of what a message asks of the app: its type and all of its content but this package's record."""
    records = [
        (key, type(record).__name__, sorted(record.items(), key=lambda item: item[0]))
        for key, record in sorted(content.items())
        if key != RECORD
    ]
    return digest(f"{LABEL}/asked", [json.dumps([message_type, records], default=_in_json).encode()])


def keep(context: Context, run: int, kept: Kept) -> None:
    """Put what a client keeps where Flower keeps it; replaces what was there in one step."""
    # The state belongs to a series of runs. A run's number needs 64 bits without sign, which an integer of a
    # ConfigRecord has not.
    context.state[RECORD] = ConfigRecord({"run": str(run), "kept": wire.to_bytes(kept)})


def take_out(context: Context, run: int, *, server: str) -> Kept:
    """Return what a client keeps, and leave nothing behind: what fails from now on is over.

    Raises:
      RemoteProtocolError: it keeps nothing of this run; it was restarted, or has answered already.
    """
    stored = context.state.pop(RECORD, None)
    if isinstance(stored, ConfigRecord) and stored.get("run") == str(run):
        kept = stored["kept"]
        if isinstance(kept, bytes):
            return wire.from_bytes(kept, Kept)
    raise RemoteProtocolError(
        f"{server} goes on with a sum that this node keeps nothing of: it was restarted in between, failed in it, or has "
        "another run under way",
        peer=server,
    )


def _in_json(value: Any) -> dict[str, Any]:
    # Records hold no dictionaries, so this stands for nothing else.
    if isinstance(value, Array):
        data = hashlib.sha256(value.data).hexdigest()
        return {"array": [value.dtype, list(value.shape), value.stype, data]}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    raise UsageError(f"a record holds a {type(value).__name__}, of which no digest can be made")
