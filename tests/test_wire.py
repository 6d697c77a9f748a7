"""Frames and messages: what is sent comes back bit for bit, and nothing else is read.

The module is long because the messages of its head are sent, altered and refused in all of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import random
import struct
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import pytest
import rich.console
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from secagg import wire
from secagg.errors import ShapeError, UsageError, WireError
from secagg.wire import Envelope, FrameType, Message

SESSION = bytes(range(16))
DTYPES = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8", "b1")


class Anything(Message, frozen=True):
    array: np.ndarray  # any dtype


class Words(Message, frozen=True):
    words: NDArray[np.uint64]


class Unsigned(Message, frozen=True):
    values: np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]


class Inner(msgspec.Struct, frozen=True):
    name: str
    bits: NDArray[np.uint8]


class Everything(Message, frozen=True):
    number: int
    text: str
    raw: bytes
    inner: Inner
    parts: tuple[NDArray[np.uint64], ...]
    maybe: NDArray[np.float64] | None = None
    small: Annotated[int, msgspec.Meta(ge=0, le=9)] = 0


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    bits: NDArray[np.uint8]


class WithStrict(Message, frozen=True):
    number: int
    text: str
    raw: bytes
    inner: Strict
    parts: tuple[int, ...]


class Empty(Message, frozen=True):
    pass


class Control(Message, frozen=True):
    reason: str


def encode(message: Message, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "session": SESSION,
        "sender": 1,
        "lane": (),
        "sequence": 0,
        "depth": 1,
    } | changes
    return b"".join(wire.encode_message(message, **fields)[0])


def decode(frame: bytes | bytearray, kind: type[Any]) -> Any:
    return wire.decode_body(wire.decode_envelope(frame, peer="peer"), kind, peer="peer")[0]


def refused(frame: bytes | bytearray, kind: type[Any] = Words) -> str:
    with pytest.raises(WireError) as caught:
        decode(frame, kind)
    assert caught.value.peer == "peer"
    assert "peer" in str(caught.value)
    return str(caught.value)


def handmade(header: bytes, arrays: bytes = b"", *, length: int | None = None) -> bytes:
    """Return a frame of any header, with a right prefix unless told otherwise."""
    head = -(-(wire.PREFIX.size + len(header)) // 16) * 16
    size = head + len(arrays) if length is None else length
    prefix = wire.PREFIX.pack(b"SAG", wire.VERSION, FrameType.MESSAGE, len(header), size)
    return prefix + header + bytes(head - wire.PREFIX.size - len(header)) + arrays


def handmade_body(body: Any, arrays: bytes = b"", **changes: Any) -> bytes:
    fields = {"session": SESSION, "sender": 1, "lane": [], "sequence": 0, "depth": 1, "kind": "k"} | changes
    return handmade(
        msgspec.msgpack.encode([*fields.values(), msgspec.Raw(msgspec.msgpack.encode(body))]), arrays
    )


# Round trips.


@pytest.mark.slow
@given(
    array=st.sampled_from(DTYPES).flatmap(
        lambda d: hnp.arrays(np.dtype(d), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    )
)
@settings(max_examples=300, deadline=None)
def test_arrays_of_every_dtype_and_shape_come_back_bit_for_bit(array: NDArray[Any]) -> None:
    got = decode(encode(Anything(array)), Anything).array
    assert got.dtype == array.dtype
    assert got.shape == array.shape
    assert got.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.uint64)[::2],
        np.arange(24, dtype=np.uint64)[::-1],
        np.arange(24, dtype=np.uint64).reshape(4, 6).T,
        np.asfortranarray(np.arange(24, dtype=np.uint64).reshape(2, 3, 4)),
        np.broadcast_to(np.uint64(7), (3, 5)),
        np.arange(24, dtype=np.uint64).reshape(4, 6)[1:3, ::3],
    ],
    ids=["strided", "reversed", "transposed", "fortran", "broadcast", "sliced"],
)
def test_arrays_that_do_not_lie_in_c_order_arrive_in_c_order(array: NDArray[np.uint64]) -> None:
    got = decode(encode(Words(array)), Words).words
    np.testing.assert_array_equal(got, array)
    assert got.flags.c_contiguous


@pytest.mark.slow
@given(
    number=st.integers(-(2**63), 2**64 - 1),
    text=st.text(max_size=20),
    raw=st.binary(max_size=40),
    parts=st.lists(hnp.arrays(np.uint64, st.integers(0, 5)), max_size=4),
    maybe=st.none() | hnp.arrays(np.float64, st.integers(0, 3), elements=st.floats(allow_nan=False)),
    small=st.integers(0, 9),
)
@settings(max_examples=200, deadline=None)
def test_messages_with_fields_of_every_kind_come_back(
    number: int, text: str, raw: bytes, parts: Any, maybe: Any, small: int
) -> None:
    message = Everything(
        number, text, raw, Inner(text, np.frombuffer(raw, np.uint8)), tuple(parts), maybe, small
    )
    got = decode(encode(message), Everything)
    assert (got.number, got.text, got.raw, got.small, got.inner.name) == (number, text, raw, small, text)
    assert got.inner.bits.tobytes() == raw
    assert [p.tolist() for p in got.parts] == [p.tolist() for p in parts]
    assert (got.maybe is None) == (maybe is None)
    if maybe is not None:
        np.testing.assert_array_equal(got.maybe, maybe)


@given(
    session=st.binary(min_size=16, max_size=16),
    sender=st.integers(0, 2**48 - 1),
    lane=st.lists(st.integers(0, 2**48 - 1), max_size=wire.MAX_LANE_DEPTH).map(tuple),
    sequence=st.integers(0, 2**48 - 1),
    depth=st.integers(0, wire.MAX_DEPTH),
)
def test_envelope_comes_back(
    session: bytes, sender: int, lane: tuple[int, ...], sequence: int, depth: int
) -> None:
    frame = encode(
        Words(np.zeros(3, np.uint64)),
        session=session,
        sender=sender,
        lane=lane,
        sequence=sequence,
        depth=depth,
    )
    got = wire.decode_envelope(frame, peer="peer")
    e = got.envelope
    assert (e.session, e.sender, e.lane, e.sequence, e.depth) == (session, sender, lane, sequence, depth)
    assert e.kind == Words.KIND
    assert got.size == len(frame)


def test_messages_without_fields_have_no_array_bytes() -> None:
    frame = wire.decode_envelope(encode(Empty()), peer="peer")
    assert wire.decode_body(frame, Empty, peer="peer")[1] == 0
    assert len(frame.arrays) == 0


def test_payload_counts_array_bytes_alike_at_both_ends() -> None:
    message = Everything(1, "a", b"raw", Inner("b", np.ones(5, np.uint8)), (np.ones(3, np.uint64),), None)
    parts, sent = wire.encode_message(message, session=SESSION, sender=0, lane=(), sequence=0, depth=1)
    frame = wire.decode_envelope(b"".join(parts), peer="peer")
    assert sent == 5 + 24
    assert wire.decode_body(frame, Everything, peer="peer")[1] == sent


# No copies.


def test_encoding_does_not_copy_arrays() -> None:
    array = np.arange(1000, dtype=np.uint64).reshape(10, 100)
    parts, _ = wire.encode_message(Words(array), session=SESSION, sender=0, lane=(), sequence=0, depth=1)
    assert any(np.shares_memory(np.frombuffer(part, np.uint8), array) for part in parts[1:])


def test_decoding_does_not_copy_arrays() -> None:
    frame = bytearray(encode(Words(np.arange(1000, dtype=np.uint64))))
    got = decode(frame, Words).words
    assert np.shares_memory(got, np.frombuffer(frame, np.uint8))
    assert got.flags.writeable  # as the frame is


def test_arrays_start_at_multiples_of_sixteen_in_the_frame() -> None:
    frame = bytearray(
        encode(Everything(1, "a", b"", Inner("b", np.ones(3, np.uint8)), (np.ones(1, np.uint64),)))
    )
    got = decode(frame, Everything)
    start = np.frombuffer(frame, np.uint8).__array_interface__["data"][0]
    for array in (got.inner.bits, *got.parts):
        assert (array.__array_interface__["data"][0] - start) % 16 == 0
    assert len(frame) % 16 == 0


# What cannot be sent.


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(2, np.complex128),
        np.zeros(2, object),
        np.zeros(2, ">u8"),
        np.zeros(2, "S4"),
        np.zeros(2, "f2"),
        np.zeros(2, "M8[s]"),
        np.zeros((1,) * 9, np.uint8),
    ],
    ids=["complex", "object", "big-endian", "bytes", "half", "datetime", "nine dimensions"],
)
def test_arrays_that_cannot_be_sent_are_refused(array: NDArray[Any]) -> None:
    with pytest.raises(ShapeError, match="cannot be sent"):
        encode(Anything(array))


@pytest.mark.parametrize("value", [object(), 1 << 64, -(1 << 63) - 1, {1: object()}, np.uint64(3), 1j, len])
def test_fields_that_are_no_plain_data_are_the_callers_error(value: object) -> None:
    with pytest.raises(UsageError):
        encode(Everything(value, "", b"", Inner("", np.zeros(0, np.uint8)), ()))  # type: ignore[arg-type]


def test_endlessly_nested_fields_are_the_callers_error() -> None:
    nested: list[Any] = []
    nested.append(nested)
    with pytest.raises(UsageError):
        encode(Everything(nested, "", b"", Inner("", np.zeros(0, np.uint8)), ()))  # type: ignore[arg-type]


def test_more_arrays_than_the_limit_are_refused_at_the_sender() -> None:
    parts = tuple(np.zeros(1, np.uint64) for _ in range(wire.MAX_ARRAYS))
    inner = Inner("", np.zeros(0, np.uint8))
    with pytest.raises(UsageError, match="send it in parts"):
        encode(Everything(0, "", b"", inner, parts))
    assert len(decode(encode(Everything(0, "", b"", inner, parts[1:])), Everything).parts) == 255


def test_frames_over_the_limit_are_refused_at_the_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_FRAME_BYTES", 4096)
    assert len(encode(Words(np.zeros(500, np.uint64)))) <= 4096
    with pytest.raises(UsageError, match="send it in parts"):
        encode(Words(np.zeros(512, np.uint64)))


def test_headers_over_the_limit_are_refused_at_the_sender() -> None:
    with pytest.raises(UsageError, match="send it in parts"):
        encode(Everything(0, "", bytes(wire.MAX_HEADER_BYTES), Inner("", np.zeros(0, np.uint8)), ()))


def test_a_message_type_that_cannot_be_decoded_is_not_blamed_on_the_peer() -> None:
    class Ambiguous(Message, frozen=True):
        value: NDArray[np.uint64] | int

    frame = wire.decode_envelope(handmade_body([1]), peer="peer")
    with pytest.raises(TypeError):
        wire.decode_body(frame, Ambiguous, peer="peer")


# What is refused on arrival.


def test_every_shorter_and_longer_frame_is_refused() -> None:
    frame = encode(Words(np.arange(4, dtype=np.uint64)))
    for length in range(len(frame)):
        refused(frame[:length])
    for extra in (1, 15, 16, 64):
        refused(frame + bytes(extra))
        with pytest.raises(WireError, match=f"of {len(frame)} bytes from peer, got {len(frame) + extra}"):
            wire.decode_envelope(frame + bytes(extra), peer="peer")


def test_other_versions_are_refused_by_name() -> None:
    frame = bytearray(encode(Empty()))
    frame[3] = wire.VERSION + 1
    assert f"version {wire.VERSION + 1}" in refused(frame, Empty)


def test_other_protocols_are_refused() -> None:
    assert "secagg" in refused(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(40), Empty)


@pytest.mark.parametrize("frame_type", [0, max(FrameType) + 1, 255])
def test_unknown_frame_types_are_refused(frame_type: int) -> None:
    frame = bytearray(encode(Empty()))
    frame[4] = frame_type
    assert "unknown type" in refused(frame, Empty)


def test_frames_of_the_network_are_no_messages() -> None:
    refused(wire.encode_control(FrameType.HEARTBEAT), Empty)


def test_frames_over_the_receivers_limit_are_refused_from_the_prefix_alone() -> None:
    prefix = encode(Words(np.zeros(1000, np.uint64)))[: wire.PREFIX.size]
    assert wire.decode_prefix(prefix, peer="peer")[2] > 8000
    with pytest.raises(WireError, match="limits"):
        wire.decode_prefix(prefix, peer="peer", max_frame_bytes=8000)


@pytest.mark.parametrize("header_length", [wire.MAX_HEADER_BYTES + 1, 2**32 - 1, 1000])
def test_headers_longer_than_the_limit_or_the_frame_are_refused(header_length: int) -> None:
    frame = bytearray(encode(Empty()))
    struct.pack_into("<I", frame, 8, header_length)
    refused(frame, Empty)


def test_trailing_bytes_behind_the_arrays_are_refused() -> None:
    body = [["<u8", [2]]]
    assert decode(handmade_body(body, bytes(16)), Words).words.size == 2
    assert "left over" in refused(handmade_body(body, bytes(32)))


def test_arrays_longer_than_the_frame_are_refused() -> None:
    assert "longer than the frame" in refused(handmade_body([["<u8", [3]]], bytes(16)))


@pytest.mark.parametrize(
    "described",
    [
        ["<u8", [1 << 60]],
        ["<u8", [1 << 40, 1 << 40, 1 << 40]],
        ["<u8", [-1]],
        ["<u8", [2.0]],
        ["<u8", [True, 2]],
        ["<u8", "2"],
        ["<u8", [1] * 9],
        ["<u8", [2], 0],
        ["<u8"],
        [">u8", [2]],
        ["|O", [2]],
        ["<c16", [1]],
        [["<u8"], [2]],
        {"dtype": "<u8"},
        None,
        7,
        "array",
        b"\x00" * 16,
    ],
    ids=repr,
)
def test_arrays_described_in_any_other_way_are_refused(described: object) -> None:
    refused(handmade_body([described], bytes(16)))


def test_empty_arrays_of_absurd_shape_are_refused_or_empty() -> None:
    shapes: list[list[int]] = [[0, 1 << 47, 1 << 47], [0, 1 << 47], [1 << 47, 0], [0] * 8]
    for shape in shapes:
        with contextlib.suppress(WireError):
            assert decode(handmade_body([["<u8", shape]]), Words).words.size == 0


@pytest.mark.parametrize("array", [np.zeros(2, np.uint32), np.zeros(2, np.int64), np.zeros(2, np.float64)])
def test_arrays_of_another_dtype_than_annotated_are_refused(array: NDArray[Any]) -> None:
    refused(encode(Anything(array)))


def test_annotated_abstract_dtypes_accept_their_kinds_alone() -> None:
    for good in ("u1", "u2", "u4", "u8"):
        assert decode(encode(Anything(np.ones(2, good))), Unsigned).values.dtype == np.dtype(good)
    for bad in ("i8", "f8", "b1"):
        refused(encode(Anything(np.ones(2, bad))), Unsigned)


def test_boolean_arrays_with_other_bytes_than_0_and_1_are_refused() -> None:
    body = [["|b1", [4]]]
    assert decode(handmade_body(body, b"\x00\x01\x01\x00"), Anything).array.sum() == 2
    assert "neither 0 nor 1" in refused(handmade_body(body, b"\x00\x02\x01\x00"), Anything)


@pytest.mark.parametrize(
    "body",
    [
        [],
        [1, "a", b"", {"name": "x", "bits": ["|u1", [0]]}],
        [1, "a", b"", {"name": "x", "bits": ["|u1", [0]]}, [], None, 0, "one more"],
        ["1", "a", b"", {"name": "x", "bits": ["|u1", [0]]}, []],
        [1, "a", "text", {"name": "x", "bits": ["|u1", [0]]}, []],
        [1, "a", b"", {"name": "x"}, []],
        [1, "a", b"", {"name": "x", "bits": ["|u1", [0]]}, 7],
        [1, "a", b"", {"name": "x", "bits": ["|u1", [0]]}, [], None, 10],
        {"number": 1},
        1,
    ],
    ids=[
        "no fields",
        "a field missing",
        "a field too many",
        "text for a number",
        "text for bytes",
        "inner field missing",
        "a number for a list",
        "out of the annotated range",
        "a map for a list",
        "no list",
    ],
)
def test_bodies_with_other_fields_are_refused(body: object) -> None:
    refused(handmade_body(body), Everything)


@pytest.mark.parametrize(
    "changes",
    [
        {"session": bytes(15)},
        {"session": bytes(17)},
        {"session": "x" * 16},
        {"sender": -1},
        {"sender": 1 << 48},
        {"lane": 0},
        {"lane": [-1]},
        {"lane": [0] * (wire.MAX_LANE_DEPTH + 1)},
        {"sequence": -1},
        {"sequence": 1 << 63},
        {"depth": 2**64 - 1},
        {"depth": wire.MAX_DEPTH + 1},
        {"depth": None},
        {"kind": "k" * 257},
        {"kind": b"k"},
    ],
    ids=lambda c: next(iter(c)),
)
def test_envelopes_with_a_field_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    refused(handmade_body([["<u8", [0]]], **changes))


def test_envelopes_with_a_field_more_or_less_are_refused() -> None:
    fields = [SESSION, 1, [], 0, 1, "k", []]
    wire.decode_envelope(handmade(msgspec.msgpack.encode(fields)), peer="peer")
    refused(handmade(msgspec.msgpack.encode(fields[:-1])))
    refused(handmade(msgspec.msgpack.encode([*fields, 0])))
    refused(handmade(msgspec.msgpack.encode(dict(enumerate(fields)))))


def test_bodies_that_claim_more_elements_than_bytes_are_refused_without_memory() -> None:
    head = msgspec.msgpack.encode([SESSION, 1, [], 0, 1, "k"])[1:]
    for bomb in (
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
    ):
        refused(handmade(b"\x97" + head + bomb))


@pytest.mark.parametrize(
    "item",
    [b"\x90", b"\x80", b"\xa2ab", b"\xcd\xff\xff", b"\x93\xa3|u1\x91\x00\x00", b"\x92\xa3|u1\x91\x00"],
    ids=["empty lists", "empty dictionaries", "strings", "numbers", "descriptions", "arrays"],
)
def test_items_of_a_header_are_counted_before_any_is_made(
    monkeypatch: pytest.MonkeyPatch, item: bytes
) -> None:
    monkeypatch.setattr(wire, "MAX_ITEMS", 1 << 12)
    count = (1 << 18) // len(item)
    many = b"\xdd" + count.to_bytes(4, "big") + item * count
    head = msgspec.msgpack.encode([SESSION, 1, [], 0, 1, "k"])[1:]
    one_array = handmade(b"\x97" + head + b"\x91" + many)  # many items where one array is described
    parts = handmade(b"\x97" + head + b"\x95\x00\xa0\xc4\x00\x92\xa0\x92\xa3|u1\x91\x00" + many)
    tracemalloc.start()
    told = [refused(one_array, Words), refused(parts, Everything)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert all("more than 4096 items" in text for text in told)
    assert peak < 1e6


def test_no_more_arrays_are_made_than_a_frame_may_hold() -> None:
    inner = {"name": "", "bits": ["|u1", [0]]}
    text = refused(handmade_body([0, "", b"", inner, [["<u8", [0]]] * wire.MAX_ARRAYS]), Everything)
    assert "more than 256 arrays" in text


@pytest.mark.slow
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats()
        | st.sampled_from([0, 1, 2, 4, 8, 16, 31, 32, 255, 256, 65535, 65536]).flatmap(
            lambda n: st.sampled_from([bytes(n), "x" * n, msgspec.msgpack.Ext(3, bytes(n))])
        ),
        lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=3), inner, max_size=20),
        max_leaves=30,
    )
)
@settings(max_examples=80, deadline=None)
@example([msgspec.msgpack.Ext(3, bytes(n)) for n in (1, 2, 3, 4, 8, 16)])
def test_items_are_counted_exactly(content: Any) -> None:
    def items(value: Any) -> int:
        if isinstance(value, dict):
            return 1 + len(value) + sum(map(items, value.values()))
        return 1 + sum(map(items, value)) if isinstance(value, list) else 1

    packed = memoryview(msgspec.msgpack.encode(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "MAX_ITEMS", items(content))
        wire._count_items(packed)
        patch.setattr(wire, "MAX_ITEMS", items(content) - 1)
        with pytest.raises(ValueError, match="more than"):
            wire._count_items(packed)


def test_long_headers_of_few_items_arrive_and_of_many_are_refused_at_the_sender() -> None:
    inner = Inner("", np.zeros(0, np.uint8))
    raw = bytes(2 * wire.MAX_ITEMS)
    assert decode(encode(Everything(0, "x" * len(raw), raw, inner, ())), Everything).raw == raw
    with pytest.raises(UsageError, match="more than 262144 items beside its arrays; send it in parts"):
        encode(WithStrict(0, "", b"", Strict("", inner.bits), (0,) * wire.MAX_ITEMS))


def test_deeply_nested_bodies_are_refused() -> None:
    head = msgspec.msgpack.encode([SESSION, 1, [], 0, 1, "k"])[1:]
    refused(handmade(b"\x97" + head + b"\x91" * 200_000 + b"\x01"))
    refused(handmade(b"\x97" + head + b"\x91" * 500 + b"\x01"))


def test_text_of_the_peer_is_quoted_and_cut_in_errors() -> None:
    body = [1, "a", b"", {"name": "x", "bits": ["|u1", [0]], "evil\n" + "y" * 5000: 1}, []]

    text = refused(handmade_body(body), WithStrict)
    assert "evil" in text
    assert "\n" not in text
    assert len(text) < 400


@pytest.mark.slow
@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_raise_nothing_but_wire_error(data: bytes) -> None:
    for frame in (data, handmade(data), handmade_body([["<u8", [1]]])[:100] + data):
        try:
            decode(frame, Words)
            wire.decode_control(frame, Control, peer="peer")
        except WireError:
            pass


@pytest.mark.slow
def test_twenty_thousand_mutated_frames_raise_nothing_but_wire_error() -> None:
    rng = random.Random(1)
    frames = [
        (encode(Words(np.arange(5, dtype=np.uint64)), lane=(0, 3)), Words),
        (encode(Anything(np.ones((2, 3), np.bool_))), Anything),
        (
            encode(
                Everything(7, "text", b"raw", Inner("n", np.ones(3, np.uint8)), (np.ones(2, np.uint64),) * 3)
            ),
            Everything,
        ),
        (encode(Empty()), Empty),
    ]
    outcomes = Counter[str]()
    for _ in range(20_000):
        frame, kind = rng.choice(frames)
        data = bytearray(frame)
        for _ in range(rng.choice((1, 1, 2, 4))):
            position = rng.randrange(len(data))
            match rng.randrange(4):
                case 0:
                    data[position] ^= 1 << rng.randrange(8)
                case 1:
                    data[position] = rng.choice((0, 0x7F, 0x80, 0xC0, 0xC1, 0xDD, 0xFF))
                case 2:
                    del data[position:]
                    data = data or bytearray(1)
                case 3:
                    data[position:position] = bytes(data[rng.randrange(len(data)) :][:8])
        try:
            decode(data, kind)
            outcomes["accepted"] += 1
        except WireError as error:
            outcomes["refused" if error.peer == "peer" else "unnamed"] += 1
    # Most changes must be noticed; some change array bytes or padding, which no decoder can know.
    assert outcomes["refused"] > 10_000
    assert outcomes["accepted"] > 100
    assert outcomes["unnamed"] == 0


# Control frames.


def test_control_frames_come_back() -> None:
    frame = wire.encode_control(FrameType.ABORT, Control("why"))
    frame_type, _, size = wire.decode_prefix(frame[: wire.PREFIX.size], peer="peer")
    assert (frame_type, size) == (FrameType.ABORT, len(frame))
    assert wire.decode_control(frame, Control, peer="peer").reason == "why"


@pytest.mark.parametrize("frame_type", [FrameType.HELLO, FrameType.HEARTBEAT, FrameType.ABORT, FrameType.BYE])
def test_frames_of_the_network_are_no_longer_than_they_need(frame_type: FrameType) -> None:
    limit = {FrameType.HELLO: 1 << 23, FrameType.ABORT: 1 << 13, FrameType.HEARTBEAT: 64}.get(frame_type, 32)
    prefix = wire.PREFIX.pack(b"SAG", wire.VERSION, frame_type, 0, limit)
    assert wire.decode_prefix(prefix, peer="peer") == (frame_type, 0, limit)
    for size in (limit + 1, 4187593113, wire.MAX_FRAME_BYTES):
        with pytest.raises(
            WireError, match=f"{frame_type.name} frame of {size} bytes .* the limits are {limit} and"
        ):
            wire.decode_prefix(wire.PREFIX.pack(b"SAG", wire.VERSION, frame_type, 0, size), peer="peer")
    with pytest.raises(UsageError, match=f"at most {limit} bytes"):
        wire.encode_control(frame_type, Control("x" * limit))


def test_control_frames_with_other_content_or_length_are_refused() -> None:
    frame = wire.encode_control(FrameType.ABORT, Control("why"))
    for bad in (frame[:-1], frame + bytes(16), wire.encode_control(FrameType.ABORT), frame[:10]):
        with pytest.raises(WireError):
            wire.decode_control(bad, Control, peer="peer")


# Secrets.


def test_messages_show_no_field_in_repr_or_in_rich() -> None:
    message = Everything(123456789, "secret", b"key", Inner("n", np.zeros(0, np.uint8)), ())
    out = io.StringIO()
    rich.console.Console(file=out).print(message)
    for text in (repr(message), str(message), out.getvalue(), f"{message!r}"):
        assert "123456789" not in text
        assert "secret" not in text
    assert "Everything" in repr(message)


def test_messages_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Control("a").reason = "b"  # type: ignore[misc]


def test_kinds_name_the_module_and_class() -> None:
    assert Control.KIND.endswith("test_wire.Control")
    assert Control.KIND != Words.KIND
    assert Envelope.__struct_fields__[-2:] == ("kind", "body")
    assert not dataclasses.is_dataclass(Control)


@pytest.mark.slow
def test_the_fuzzer_runs_and_finds_nothing() -> None:
    root = Path(__file__).parents[1]
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.fuzz_wire", "--tiny"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "PASS" in ended.stdout


# Messages kept as bytes.


def stored_refused(data: bytes | bytearray, kind: type[Any] = Words) -> str:
    with pytest.raises(WireError) as caught:
        wire.from_bytes(data, kind, peer="bank b")
    assert caught.value.peer == "bank b"
    assert "bank b" in str(caught.value)
    return str(caught.value)


def test_messages_kept_as_bytes_come_back() -> None:
    message = Everything(
        7, "text", b"raw", Inner("n", np.arange(3, dtype=np.uint8)), (np.arange(5, dtype=np.uint64),)
    )
    data = wire.to_bytes(message)
    got = wire.from_bytes(data, Everything)
    assert (got.number, got.text, got.raw, got.inner.name) == (7, "text", b"raw", "n")
    assert np.array_equal(got.inner.bits, [0, 1, 2])
    assert np.array_equal(got.parts[0], np.arange(5))
    assert wire.to_bytes(got) == data
    assert len(data) % wire.ALIGNMENT == 0


def test_kept_arrays_are_views_that_cannot_be_written_even_where_the_bytes_can() -> None:
    data = bytearray(wire.to_bytes(Words(np.arange(100, dtype=np.uint64))))
    got = wire.from_bytes(data, Words).words
    assert np.shares_memory(got, np.frombuffer(data, np.uint8))
    assert not got.flags.writeable


def test_kept_bytes_of_another_kind_are_refused_by_name_even_where_the_fields_fit() -> None:
    data = wire.to_bytes(Words(np.arange(4, dtype=np.uint64)))
    text = stored_refused(data, Unsigned)
    assert "test_wire.Unsigned" in text
    assert "test_wire.Words" in text


@pytest.mark.parametrize("taken", ["another.Kind", "no message"])
def test_two_kinds_of_message_never_share_a_tag(monkeypatch: pytest.MonkeyPatch, taken: str) -> None:
    monkeypatch.setattr(wire, "_TAGS", {Empty.TAG: taken})
    with pytest.raises(UsageError, match=f"has the tag of {taken}; give its class another name"):
        msgspec.defstruct("Empty", [], bases=(wire.Message,), module=Empty.__module__, frozen=True)


def test_every_shorter_and_longer_kept_message_is_refused() -> None:
    data = wire.to_bytes(Words(np.arange(4, dtype=np.uint64)))
    for length in range(len(data)):
        stored_refused(data[:length])
    for extra in (1, 15, 16, 64):
        stored_refused(data + bytes(extra))


def test_frames_on_the_wire_and_kept_messages_are_not_taken_for_each_other() -> None:
    message = Words(np.arange(4, dtype=np.uint64))
    stored_refused(encode(message))
    refused(wire.to_bytes(message))


def test_kept_messages_of_another_version_or_program_are_refused() -> None:
    data = bytearray(wire.to_bytes(Empty()))
    data[3] += 1
    assert f"version {wire.VERSION + 1}" in stored_refused(data, Empty)
    assert "secagg" in stored_refused(b"-----BEGIN PRIVATE KEY-----" + bytes(40), Empty)


def test_kept_bytes_without_a_source_are_called_so() -> None:
    with pytest.raises(WireError, match="the stored bytes"):
        wire.from_bytes(wire.to_bytes(Empty()), Words)


def test_messages_that_cannot_be_sent_cannot_be_kept() -> None:
    with pytest.raises(ShapeError, match="cannot be sent"):
        wire.to_bytes(Anything(np.zeros(2, np.complex128)))
    with pytest.raises(UsageError):
        wire.to_bytes(Everything(1 << 64, "", b"", Inner("", np.zeros(0, np.uint8)), ()))


@pytest.mark.slow
@given(st.data())
@settings(max_examples=300, deadline=None)
def test_altered_kept_messages_raise_nothing_but_wire_error(data: st.DataObject) -> None:
    kept = bytearray(wire.to_bytes(Words(np.arange(5, dtype=np.uint64))))
    position = data.draw(st.integers(0, len(kept) - 1))
    kept[position] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(WireError):
        assert wire.from_bytes(kept, Words).words.dtype == np.uint64
