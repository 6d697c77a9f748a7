"""What goes through Flower's messages: one record, of one array, whose name is the step and whose bytes are the message.

Flower cuts arrays into pieces on their way, whatever their size; it knows nothing of what is in this one.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Metadata,
    MetricRecord,
    RecordDict,
)
from flwr.app import Message as FlowerMessage
from flwr.app.message import make_message

from secagg import wire
from secagg.errors import RemoteProtocolError, UsageError, WireError
from secagg.signing import digest
from secagg.wire import Message

RECORD: Final = "secagg"
_MEMORY: Final = "secagg-memory"
_STYPE: Final = "secagg.wire"
_SERVER_NODE: Final = 1
_NO_TTL_S: Final = 1e12
_KINDS: Final = (bool, int, float, str, bytes)  # a bool is an int, too: the first that fits counts
_LABEL: Final = "secagg.integrations.flower"


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


def open_reply(reply: FlowerMessage, step: str, peer: str) -> bytes:
    """Return the message in a reply.

    Raises:
      RemoteProtocolError: it failed, or answers something else.
    """
    if reply.has_error():
        # Whatever a node says goes to the log: in one line, and not a long one.
        raise RemoteProtocolError(f"failed at {step}: {reply.error.reason!r:.500}", peer=peer)
    got = unpack(reply.content, peer=peer)
    if got.name != step or len(reply.content) != 1:
        raise RemoteProtocolError(
            f"expected an answer to {step} alone from {peer}, got {got.name!r:.20}", peer=peer
        )
    return got.frame


def as_asked(message: FlowerMessage, context: Context) -> FlowerMessage:
    """Return the message that the app sees where the server may do anything: what `task_digest` covers, and no more.

    Records are made anew, so that equal ones are never one object. Metadata that says nothing of the task is the same at
    all nodes. Of `context` the run configuration is sorted by key: Flower's own order is none.
    """
    seen = message.metadata
    context.run_config = dict(sorted(context.run_config.items()))
    metadata = Metadata(
        run_id=seen.run_id,
        message_id="",
        src_node_id=_SERVER_NODE,
        dst_node_id=context.node_id,
        reply_to_message_id="",
        group_id=seen.group_id,
        created_at=0.0,
        ttl=_NO_TTL_S,
        message_type=seen.message_type,
    )
    return make_message(metadata=metadata, content=_made_anew(message.content))


def task_digest(content: RecordDict, message_type: str, group_id: str = "") -> bytes:
    """Return a digest of what a message asks of the app.

    In it are type and group of the message, and all records but this package's, in the order in which the app meets
    them: names, types, and every bit of arrays and values.
    """
    parts = [message_type.encode(), _text(group_id)]
    for key, record in content.items():
        if key == RECORD:
            continue
        parts += [_text(key), _form(record), str(len(record)).encode()]
        for name, value in record.items():
            parts.append(_text(name))
            if isinstance(value, Array):
                shape = ",".join(str(int(length)) for length in value.shape)
                parts += [b"array", _text(value.dtype), shape.encode(), _text(value.stype), value.data]
            else:
                parts += _value_parts(value)
    return digest(f"{_LABEL}/task", parts)


def setting_of(context: Context) -> bytes:
    """Return a digest of what the server chooses of an app's surroundings: run configuration and series of runs."""
    parts = [str(context.series_id).encode()]
    for name, value in sorted(context.run_config.items()):
        parts += [_text(name), *_value_parts(value)]
    return digest(f"{_LABEL}/setting", parts)


def keep(context: Context, run: int, data: bytes) -> None:
    """Put what a node keeps where Flower keeps it; replaces what was there in one step."""
    # The state belongs to a series of runs. A run's number needs 64 bits without sign, which an integer of a
    # ConfigRecord has not.
    context.state[RECORD] = ConfigRecord({"run": str(run), "kept": data})


def take_out(context: Context, run: int, *, server: str) -> bytes:
    """Return what a node keeps, and leave nothing behind: what fails from now on is over.

    Raises:
      RemoteProtocolError: it keeps nothing of this run; it was restarted, or has answered already.
    """
    stored = context.state.pop(RECORD, None)
    if isinstance(stored, ConfigRecord) and stored.get("run") == str(run):
        kept = stored["kept"]
        if isinstance(kept, bytes):
            return kept
    raise RemoteProtocolError(
        f"{server} goes on with a sum that this node keeps nothing of: it was restarted in between, failed in it, or has "
        "another run under way",
        peer=server,
    )


def remember(context: Context, memory: bytes) -> None:
    """Put what a node remembers of its updates where Flower keeps it; replaces what was there in one step."""
    context.state[_MEMORY] = ConfigRecord({"kept": memory})


def recall(context: Context) -> bytes:
    """Return what a node remembers of its updates; b"" if nothing."""
    stored = context.state.get(_MEMORY)
    kept = stored["kept"] if isinstance(stored, ConfigRecord) else b""
    return kept if isinstance(kept, bytes) else b""


def _made_anew(content: RecordDict) -> RecordDict:
    made = RecordDict()
    for key, record in content.items():
        if key == RECORD:
            continue
        if isinstance(record, ArrayRecord):
            made[key] = ArrayRecord(
                {n: Array(a.dtype, tuple(map(int, a.shape)), a.stype, a.data) for n, a in record.items()}
            )
        elif isinstance(record, MetricRecord):
            made[key] = MetricRecord({name: _plain(value) for name, value in record.items()})
        else:
            made[key] = ConfigRecord({name: _plain(value) for name, value in record.items()})
    return made


def _form(record: ArrayRecord | MetricRecord | ConfigRecord) -> bytes:
    if isinstance(record, ArrayRecord):
        return b"arrays"
    return b"metrics" if isinstance(record, MetricRecord) else b"config"


def _plain(value: Any) -> Any:
    """Return a value as it arrives, of Flower's own types."""
    kind = _kind(value)
    return [kind(item) for item in value] if isinstance(value, list) else kind(value)


def _kind(value: Any) -> type[Any]:
    """Return the type that a value, or all items of a list, have when they arrive; that of an empty list is bool."""
    items = value if isinstance(value, list) else [value]
    for kind in _KINDS:
        if all(isinstance(item, kind) for item in items):
            return kind
    raise UsageError(f"a record holds a {type(value).__name__}, of which no digest can be made")


def _value_parts(value: Any) -> list[bytes]:
    kind = _kind(value)
    if not isinstance(value, list):
        return [kind.__name__.encode(), _bits(kind, value)]
    items = [_bits(kind, item) for item in value]
    return [f"list of {len(items)} {kind.__name__}".encode(), *items]


def _bits(kind: type[Any], value: Any) -> bytes:
    if kind is float:
        return struct.pack(">d", value)  # tells apart zeros, and NaN of different bits
    if kind is bytes:
        return bytes(value)
    return _text(value) if kind is str else str(int(value)).encode()


def _text(text: str) -> bytes:
    # A lone surrogate has no UTF-8.
    return text.encode("utf-8", "surrogatepass")
