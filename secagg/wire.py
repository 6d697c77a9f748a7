"""Typed messages to bytes and back: versioned, bounded, arrays without copies.

A protocol's messages are frozen `Message` structs. A frame on the wire is

    prefix (24 bytes)   magic "SAG", version, frame type, header length, frame length
    header              MessagePack: envelope, then the message with each array replaced by (dtype, shape)
    arrays              raw little-endian C order, each starting at a multiple of 16

`encode_message` returns the frame as a list of buffers in which the arrays are the caller's own memory. `decode_envelope`
and `decode_body` return arrays that are views of the received buffer. MessagePack and the checks of types come from
msgspec; nothing here can execute what it reads. Every malformed input raises `WireError` and nothing else.

A long message is asked about before its arrays are held: `decode_head` reads its envelope from the first bytes.

What decoding allocates is bounded before it is allocated. A byte of MessagePack can stand for an empty list, for which
Python holds some 70 bytes. So the items of a long header are counted before any is made. Arrays are counted one by one.
Each type of the network's own frames has a largest size.

Longer than most modules: encoding, decoding and their bounds are one format, to be checked against each other.
"""

from __future__ import annotations

import enum
import functools
import math
import struct
import zlib
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Final, NamedTuple, TypeVar, get_args, get_origin

import msgspec
import msgspec.inspect
import numpy as np
from numpy.typing import NDArray

from secagg.errors import ShapeError, UsageError, WireError
from secagg.files import check_format

VERSION: Final = 1
MAX_FRAME_BYTES: Final = 1 << 32
MAX_HEADER_BYTES: Final = 1 << 24
# Numbers, strings, lists and dictionaries in a header: twenty a party for 13,000 parties. As Python's objects they take at
# most some 30 MB. The 16 MiB of a header that holds nothing else would take over 1 GB.
MAX_ITEMS: Final = 1 << 18
MAX_ARRAYS: Final = 256
SMALL_BYTES: Final = 1 << 16  # what any message may take, and what one may take beside its arrays
MAX_NDIM: Final = 8
MAX_LANE_DEPTH: Final = 16
# The longest chain of messages that a peer may claim. Rounds take microseconds at least, so that no run comes near. A
# party whose own chain would be longer says this much, so that nobody can be made to exceed the bound by what it read.
MAX_DEPTH: Final = 1 << 32
ALIGNMENT: Final = 16
PREFIX: Final = struct.Struct("<3sBB3xIQ4x")
_MAGIC: Final = b"SAG"
_VERSION_BYTE: Final = len(_MAGIC)
_DTYPES: Final = {
    d: np.dtype(d) for d in ("|u1", "<u2", "<u4", "<u8", "|i1", "<i2", "<i4", "<i8", "<f4", "<f8", "|b1")
}

Buffer = bytes | bytearray | memoryview
Lane = tuple[int, ...]
# Bounds far above what a run reaches and below where a number would no longer encode once added to.
_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 48)]
M = TypeVar("M", bound="Message")
_TAGS: Final = {0: "no message"}  # the KIND of each tag


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, eq=False):
    """Base of every message between parties.

    Fields may be numbers, strings, bytes, lists and tuples of them, other structs and numpy arrays
    annotated as `NDArray[dtype]`. `repr` shows no field: any of them may be secret.

    KIND names the class, TAG does in 32 bits. No two kinds of one program share a tag.
    """

    KIND: ClassVar[str] = ""
    TAG: ClassVar[int] = 0

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.KIND = f"{cls.__module__.removeprefix('secagg.')}.{cls.__qualname__}"
        cls.TAG = zlib.crc32(cls.KIND.encode())
        if (taken := _TAGS.setdefault(cls.TAG, cls.KIND)) != cls.KIND:
            raise UsageError(f"message {cls.KIND} has the tag of {taken}; give its class another name")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []  # rich prints tracebacks with the values of locals


class FrameType(enum.IntEnum):
    """What a frame is for; MESSAGE is a protocol's, STORED is kept in files, the others are the network's own."""

    MESSAGE = 1
    HELLO = 2
    HEARTBEAT = 3
    ABORT = 4
    BYE = 5
    STORED = 6
    PROBE = 7
    STATE = 8
    UNABLE = 9


_FRAME_TYPES: Final = {int(t): t for t in FrameType}
# A reason for an end is cut to 1,000 characters, of up to 4 bytes each; a hello holds the names of all parties.
_MAX_CONTROL_BYTES: Final = {
    FrameType.HELLO: 1 << 23,
    FrameType.HEARTBEAT: 64,
    FrameType.ABORT: 1 << 13,
    FrameType.BYE: 32,
    FrameType.PROBE: 32,
    FrameType.STATE: 1 << 23,
    FrameType.UNABLE: 1 << 7,
}


class Envelope(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Who sent a message, where it stands in the conversation, and the message not yet decoded.

    session: first 16 bytes of the session identifier.
    sender: position of the sender in the roster.
    lane: which of several protocols that run side by side it belongs to; () where one runs alone.
    sequence: number of the message on its way from sender to receiver, from 0.
    depth: causal depth, one more than that of the deepest message that the sender had read, and at most `MAX_DEPTH`. Nobody
      can check it: it is counted in ledgers, and nothing else may rest on it.
    kind: `Message.KIND`.
    """

    session: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    sender: _Count
    lane: Annotated[tuple[_Count, ...], msgspec.Meta(max_length=MAX_LANE_DEPTH)]
    sequence: _Count
    depth: Annotated[int, msgspec.Meta(ge=0, le=MAX_DEPTH)]
    kind: Annotated[str, msgspec.Meta(max_length=256)]
    body: msgspec.Raw


class Stored(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A message that is kept, not yet decoded, and its kind."""

    kind: Annotated[str, msgspec.Meta(max_length=256)]
    body: msgspec.Raw


class Frame(NamedTuple):
    """A frame cut into envelope and the bytes of its arrays; `size` counts every byte of it."""

    envelope: Envelope
    arrays: memoryview
    size: int


_encode_envelope: Final = msgspec.msgpack.Encoder().encode
_decode_envelope: Final = msgspec.msgpack.Decoder(Envelope).decode
_decode_stored: Final = msgspec.msgpack.Decoder(Stored).decode
# RecursionError: nested lists past the interpreter's limit; the others come from numpy and struct.
_MALFORMED: Final = (msgspec.MsgspecError, RecursionError, ValueError, TypeError, OverflowError, struct.error)


def _padded(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _quoted(error: BaseException) -> str:
    """Return what msgspec says, which may hold text of the peer's, fit for one line of a log."""
    return f"{str(error)!r:.200}"


def encode_message(
    message: Message, *, session: bytes, sender: int, lane: Lane, sequence: int, depth: int
) -> tuple[list[Buffer], int]:
    """Return the frame of a message as buffers to be sent one after the other, and its array bytes.

    Arrays are not copied where they are C-contiguous: they must not change until the frame has been sent.

    Raises:
      ShapeError: an array of a dtype that cannot be sent, or with more than 8 dimensions.
      UsageError: a field that is neither plain data nor an array, or a frame over `MAX_FRAME_BYTES`.
    """
    body, arrays = _cut(message)
    envelope = Envelope(session, sender, lane, sequence, depth, message.KIND, msgspec.Raw(body))
    return _frame(message.KIND, FrameType.MESSAGE, _encode_envelope(envelope), arrays)


def to_bytes(message: Message) -> bytes:
    """Return a message as bytes to be kept, such as a key or a ciphertext; raises as `encode_message` does."""
    body, arrays = _cut(message)
    header = msgspec.msgpack.encode(Stored(message.KIND, msgspec.Raw(body)))
    return b"".join(_frame(message.KIND, FrameType.STORED, header, arrays)[0])


def from_bytes(data: Buffer, kind: type[M], *, peer: str = "") -> M:
    """Return the message that `to_bytes` made bytes of; its arrays are read-only views of the bytes.

    Args:
      kind: what the message must be.
      peer: whom the bytes came from, for errors.

    Raises:
      WireError: the bytes are not a `kind` of this version.
    """
    if not peer:
        try:
            version = memoryview(data).cast("B")[_VERSION_BYTE : _VERSION_BYTE + 1]
            check_format(int.from_bytes(version, "big"), VERSION, what=f"what was stored as {kind.KIND}")
            return from_bytes(data, kind, peer="the stored bytes")
        except (UsageError, WireError) as error:
            raise WireError(str(error)) from None  # nobody is to blame
    view = memoryview(data).cast("B").toreadonly()
    frame_type, header_length, size = decode_prefix(view[: PREFIX.size], peer=peer)
    if frame_type is not FrameType.STORED or size != len(view):
        raise WireError(f"expected {size} bytes of {kind.KIND} from {peer}, got {len(view)}", peer=peer)
    try:
        stored = _decode_stored(view[PREFIX.size : PREFIX.size + header_length])
    except _MALFORMED as error:
        raise WireError(f"malformed {kind.KIND} from {peer}: {_quoted(error)}", peer=peer) from None
    if stored.kind != kind.KIND:
        raise WireError(f"expected {kind.KIND} from {peer}, got {stored.kind!r:.120}", peer=peer)
    return _join(stored.body, view[_padded(PREFIX.size + header_length) :], kind, peer=peer)[0]


def _cut(message: Message) -> tuple[bytes, list[NDArray[Any]]]:
    """Return a message in MessagePack with its arrays replaced by dtype and shape, and the arrays."""
    arrays: list[NDArray[Any]] = []

    def describe(value: object) -> tuple[str, tuple[int, ...]]:
        if not isinstance(value, np.ndarray):
            raise UsageError(
                f"{message.KIND}: expected plain data or numpy arrays, got {type(value).__name__}"
            )
        if value.dtype.str not in _DTYPES or value.ndim > MAX_NDIM:
            raise ShapeError(
                f"{message.KIND}: an array of dtype {value.dtype.str} with {value.ndim} dimensions cannot be sent; "
                f"use one of {', '.join(_DTYPES)} and at most {MAX_NDIM} dimensions"
            )
        arrays.append(np.ascontiguousarray(value))
        return value.dtype.str, value.shape

    try:
        body = msgspec.msgpack.Encoder(enc_hook=describe).encode(message)
    except (TypeError, OverflowError, RecursionError) as error:
        raise UsageError(f"{message.KIND} cannot be encoded: {error}") from None
    try:
        if len(body) > MAX_ITEMS:  # an item takes a byte at least
            _count_items(memoryview(body))
    except ValueError as error:
        raise UsageError(f"{message.KIND}: {error} beside its arrays; send it in parts") from None
    return body, arrays


def _frame(
    kind: str, frame_type: FrameType, header: bytes, arrays: list[NDArray[Any]]
) -> tuple[list[Buffer], int]:
    head = _padded(PREFIX.size + len(header))
    payload = sum(a.nbytes for a in arrays)
    size = head + sum(_padded(a.nbytes) for a in arrays)
    if size > MAX_FRAME_BYTES or len(header) > MAX_HEADER_BYTES or len(arrays) > MAX_ARRAYS:
        raise UsageError(
            f"{kind}: a frame of {size} bytes with a header of {len(header)} and {len(arrays)} arrays is over "
            f"the limits of {MAX_FRAME_BYTES}, {MAX_HEADER_BYTES} and {MAX_ARRAYS}; send it in parts"
        )
    prefix = PREFIX.pack(_MAGIC, VERSION, frame_type, len(header), size)
    frame: list[Buffer] = [b"".join((prefix, header, bytes(head - PREFIX.size - len(header))))]
    for array in arrays:
        if array.nbytes:
            frame.append(array.reshape(-1).view(np.uint8).data)
            if gap := _padded(array.nbytes) - array.nbytes:
                frame.append(bytes(gap))
    return frame, payload


def encode_control(frame_type: FrameType, content: msgspec.Struct | None = None) -> bytes:
    """Return a frame of the network's own, with a struct as content.

    Raises:
      UsageError: the content is longer than a frame of that type may be.
    """
    header = b"" if content is None else msgspec.msgpack.encode(content)
    head = _padded(PREFIX.size + len(header))
    if head > (limit := _MAX_CONTROL_BYTES[frame_type]):
        raise UsageError(f"a frame of type {frame_type.name} takes at most {limit} bytes, not {head}")
    prefix = PREFIX.pack(_MAGIC, VERSION, frame_type, len(header), head)
    return b"".join((prefix, header, bytes(head - PREFIX.size - len(header))))


def decode_prefix(
    prefix: Buffer, *, peer: str, max_frame_bytes: int = MAX_FRAME_BYTES
) -> tuple[FrameType, int, int]:
    """Return frame type, header length and frame length from the first 24 bytes of a frame.

    Raises:
      WireError: not a frame, of another version, or longer than `max_frame_bytes` or its type allow.
    """
    try:
        magic, version, frame_type, header_length, size = PREFIX.unpack(prefix)
    except struct.error:
        raise WireError(
            f"expected {PREFIX.size} bytes of prefix from {peer}, got {len(prefix)}", peer=peer
        ) from None
    if magic != _MAGIC:
        raise WireError(
            f"expected a secagg frame from {peer}, got other bytes; is it running secagg?", peer=peer
        )
    if version != VERSION:
        raise WireError(
            f"{peer} speaks wire version {version}, this party {VERSION}; run the same release", peer=peer
        )
    known = _FRAME_TYPES.get(frame_type)
    if known is None:
        raise WireError(f"frame of unknown type {frame_type} from {peer}", peer=peer)
    max_frame_bytes = min(max_frame_bytes, _MAX_CONTROL_BYTES.get(known, max_frame_bytes))
    if (
        header_length > MAX_HEADER_BYTES
        or not _padded(PREFIX.size + header_length) <= size <= max_frame_bytes
    ):
        raise WireError(
            f"{known.name} frame of {size} bytes with a header of {header_length} from {peer}; the limits are "
            f"{max_frame_bytes} and {MAX_HEADER_BYTES}",
            peer=peer,
        )
    return known, header_length, size


def decode_head(head: Buffer, *, peer: str) -> tuple[Envelope, int]:
    """Return the envelope and the length of a whole MESSAGE frame of which prefix and header have come.

    Raises:
      WireError: they are malformed.
    """
    view = memoryview(head).cast("B")
    _, header_length, size = decode_prefix(view[: PREFIX.size], peer=peer)
    return _envelope(view[PREFIX.size : PREFIX.size + header_length], peer), size


def head_bytes(header_length: int) -> int:
    """Return how many bytes of a frame come before its arrays."""
    return _padded(PREFIX.size + header_length)


def _envelope(header: memoryview, peer: str) -> Envelope:
    try:
        return _decode_envelope(header)
    except _MALFORMED as error:
        raise WireError(f"malformed envelope from {peer}: {_quoted(error)}", peer=peer) from None


def decode_envelope(frame: Buffer, *, peer: str, max_frame_bytes: int = MAX_FRAME_BYTES) -> Frame:
    """Cut a whole MESSAGE frame into its envelope and its arrays' bytes.

    Raises:
      WireError: the bytes are not a well-formed message frame.
    """
    view = memoryview(frame).cast("B")
    frame_type, header_length, size = decode_prefix(
        view[: PREFIX.size], peer=peer, max_frame_bytes=max_frame_bytes
    )
    if frame_type is not FrameType.MESSAGE or size != len(view):
        raise WireError(
            f"expected a message frame of {size} bytes from {peer}, got {len(view)} bytes", peer=peer
        )
    envelope = _envelope(view[PREFIX.size : PREFIX.size + header_length], peer)
    return Frame(envelope, view[_padded(PREFIX.size + header_length) :], size)


@functools.cache  # as many entries as there are kinds of messages
def carries_arrays(kind: type[Message]) -> bool:
    """Return whether a message of a kind, or what it is made of, may hold arrays."""
    # msgspec calls whatever it does not know itself, such as an array, a custom type.
    return any(
        isinstance(part, msgspec.inspect.CustomType) for part in _made_of(msgspec.inspect.type_info(kind))
    )


def _made_of(described: msgspec.inspect.Type) -> Iterator[msgspec.inspect.Type]:
    """Yield the types that a type is made of, itself first."""
    found, queue = set[int](), [described]
    while queue:
        part = queue.pop()
        if id(part) in found:
            continue
        found.add(id(part))
        yield part
        fields = [getattr(part, name) for name in part.__struct_fields__]
        for value in (*fields, *(item for field in fields if isinstance(field, tuple) for item in field)):
            inner = value.type if isinstance(value, msgspec.inspect.Field) else value
            if isinstance(inner, msgspec.inspect.Type):
                queue.append(inner)


@functools.cache  # as many entries as there are pairs of annotations and dtypes
def _fitting(annotation: Any, name: str) -> np.dtype[Any]:
    """Return the dtype of that name if a field so annotated may hold it."""
    if get_origin(annotation) is not np.ndarray and annotation is not np.ndarray:
        raise ValueError(f"cannot decode a field of type {annotation}")
    dtype = _DTYPES[name]
    for argument in get_args(annotation)[1:]:
        for scalar in get_args(argument):
            wanted = get_origin(scalar) or scalar
            if wanted is not Any and not np.issubdtype(dtype, wanted):
                raise ValueError(f"expected an array of {wanted.__name__}, got {dtype}")
    return dtype


def _following() -> tuple[int, ...]:
    """Return by first byte how many bytes of an item follow before the next one; -n: n bytes say how many."""
    following = [0] * 256  # small numbers, short lists and dictionaries, nil, false, true
    following[0xA0:0xC0] = range(32)  # short strings
    following[0xC4:0xC7] = following[0xD9:0xDC] = -1, -2, -4  # bytes and strings
    following[0xC7:0xCA] = -1, -2, -4  # extensions, whose type is a byte more
    following[0xCA:0xCC] = 4, 8  # floats
    following[0xCC:0xD0] = following[0xD0:0xD4] = 1, 2, 4, 8
    following[0xD4:0xD9] = 2, 3, 5, 9, 17
    following[0xDC:0xE0] = 2, 4, 2, 4  # long lists and dictionaries: their items count as they come
    return tuple(following)


_FOLLOWING: Final = _following()


def _count_items(packed: memoryview) -> None:
    """Check that MessagePack holds at most `MAX_ITEMS` items; whether it is well-formed the decoder finds out.

    Raises:
      ValueError: it holds more.
    """
    end = len(packed)
    at = items = 0
    while at < end:
        if items == MAX_ITEMS:
            raise ValueError(f"more than {MAX_ITEMS} items")
        items += 1
        first = packed[at]
        follows = _FOLLOWING[first]
        at += 1
        if follows < 0:
            length = int.from_bytes(packed[at : at - follows], "big")
            at += length - follows + (0xC7 <= first <= 0xC9)
        else:
            at += follows


class _Arrays:
    """Hands out a frame's arrays, in order, while msgspec decodes the body."""

    __slots__ = ("_data", "_offset", "count", "nbytes")

    def __init__(self, data: memoryview) -> None:
        self._data, self._offset, self.count, self.nbytes = data, 0, 0, 0

    def next(self, annotation: Any, described: object) -> NDArray[Any]:
        if self.count == MAX_ARRAYS:
            raise ValueError(f"more than {MAX_ARRAYS} arrays")
        if not (isinstance(described, list) and len(described) == 2):
            raise ValueError("expected (dtype, shape) of an array")
        name, shape = described
        if not isinstance(name, str) or name not in _DTYPES:
            raise ValueError("array of an unknown dtype")
        dtype = _fitting(annotation, name)
        if not isinstance(shape, list) or len(shape) > MAX_NDIM:
            raise ValueError("array with an impossible shape")
        for n in shape:
            if type(n) is not int or not 0 <= n < 1 << 48:
                raise ValueError("array with an impossible shape")
        nbytes = math.prod(shape) * dtype.itemsize
        end = self._offset + nbytes
        if end > len(self._data):
            raise ValueError("array longer than the frame")
        array: NDArray[Any] = np.ndarray(shape, dtype, self._data, self._offset)
        # numpy takes any other byte in a boolean array for what it is not.
        if name == "|b1" and array.size and int(np.max(array.view(np.uint8))) > 1:
            raise ValueError("boolean array with a byte that is neither 0 nor 1")
        self.count += 1
        self.nbytes += nbytes
        self._offset = min(_padded(end), len(self._data))
        return array

    @property
    def exhausted(self) -> bool:
        return self._offset == len(self._data)


def decode_body(frame: Frame, kind: type[M], *, peer: str) -> tuple[M, int]:
    """Return the message in a frame as a `kind`, its arrays being views of the frame, and its array bytes.

    Raises:
      WireError: the body is not a `kind`, or its arrays do not fill the frame exactly.
    """
    return _join(frame.envelope.body, frame.arrays, kind, peer=peer)


def _join(body: msgspec.Raw, data: memoryview, kind: type[M], *, peer: str) -> tuple[M, int]:
    arrays = _Arrays(data)
    # Outside the try: a kind that msgspec cannot decode is this party's mistake and not the peer's.
    decode = msgspec.msgpack.Decoder(kind, dec_hook=arrays.next).decode
    try:
        if len(packed := memoryview(body)) > MAX_ITEMS:  # an item takes a byte at least
            _count_items(packed)
        message = decode(body)
    except _MALFORMED as error:
        raise WireError(f"malformed {kind.KIND} from {peer}: {_quoted(error)}", peer=peer) from None
    if not arrays.exhausted:
        raise WireError(f"malformed {kind.KIND} from {peer}: bytes left over after its arrays", peer=peer)
    return message, arrays.nbytes


def first_text(data: Buffer) -> str:
    """Return the text that a frame of the network's own or stored bytes begin with; "" where they begin with no such text.

    The release stands there in what parties say first, and is read whatever else a later release has put behind it.
    """
    view = memoryview(data).cast("B").toreadonly()
    try:
        frame_type, header_length, _ = decode_prefix(view[: PREFIX.size], peer="")
        packed = view[PREFIX.size : PREFIX.size + header_length]
        if frame_type is FrameType.STORED:
            packed = memoryview(_decode_stored(packed).body)
        text = packed[3 if packed[0] == 0xDC else 1 :]  # behind the length of the array
        begin, length = (2, text[1]) if text[0] == 0xD9 else (1, text[0] - 0xA0)
        is_text = text[0] == 0xD9 or 0xA0 <= text[0] < 0xC0
        is_whole = is_text and length == len(text[begin : begin + length])
        return bytes(text[begin : begin + length]).decode() if is_whole else ""
    except (WireError, IndexError, *_MALFORMED):
        return ""


def decode_control(frame: Buffer, content: type[M], *, peer: str) -> M:
    """Return the content of a frame of the network's own.

    Raises:
      WireError: the content is not a `content`.
    """
    view = memoryview(frame).cast("B")
    _, header_length, size = decode_prefix(view[: PREFIX.size], peer=peer)
    if size != len(view):
        raise WireError(f"expected a frame of {size} bytes from {peer}, got {len(view)}", peer=peer)
    try:
        return msgspec.msgpack.Decoder(content).decode(view[PREFIX.size : PREFIX.size + header_length])
    except _MALFORMED as error:
        raise WireError(f"malformed {content.KIND} from {peer}: {_quoted(error)}", peer=peer) from None
