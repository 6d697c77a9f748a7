"""Feed the wire decoder with a million damaged and made-up frames: it must raise WireError and nothing else.

    python -m benchmarks.fuzz_wire --count 1000000 --seed 1

Most frames come from valid ones of several message types. Bits and bytes are changed, pieces cut, repeated and
inserted, two frames joined, lengths in the prefix changed, and values inside the MessagePack header exchanged. Others
come from nothing, as random bytes behind a right prefix. Half of the changes are made inside the header or the body
alone. The lengths around them are mended, so that they reach the decoder behind the prefix and the envelope. The same
seed gives the same frames. Ends with status 1 and the frame in hexadecimal if anything but a message or a WireError
comes out.
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from secagg import wire
from secagg.errors import WireError
from secagg.wire import FrameType, Message

BATCH = 10_000


class Words(Message, frozen=True):
    words: NDArray[np.uint64]


class Flags(Message, frozen=True):
    flags: NDArray[np.bool_]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    bits: NDArray[np.uint8]


class Mixed(Message, frozen=True):
    number: int
    text: str
    raw: bytes
    parts: tuple[Part, ...]
    columns: list[NDArray[np.unsignedinteger[Any]]]
    scale: float = 1.0
    maybe: NDArray[np.float64] | None = None


class Notice(Message, frozen=True):
    reason: str


MESSAGES: tuple[Message, ...] = (
    Words(np.arange(6, dtype=np.uint64).reshape(2, 3)),
    Words(np.zeros((0, 4), np.uint64)),
    Flags(np.array([True, False, True])),
    Mixed(
        7,
        "text",
        b"raw",
        (Part("a", np.ones(3, np.uint8)), Part("b", np.ones((2, 2), np.uint8))),
        [np.ones(2, np.uint16), np.ones(3, np.uint32)],
        2.5,
        np.ones(2),
    ),
    Mixed(1 << 40, "", b"", (), []),
)
# MessagePack's own type bytes, and lengths that claim more than there is.
INTERESTING: Final = (
    b"\xc0",
    b"\xc1",
    b"\xc3",
    b"\x90",
    b"\x9f",
    b"\x80",
    b"\x81",
    b"\xa0",
    b"\xbf",
    b"\xff",
    b"\x7f",
    b"\xcf" + b"\xff" * 8,
    b"\xd3\x80" + bytes(7),
    b"\xcb\x7f\xf8" + bytes(6),
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xd4\x01\x00",
    b"\xa3<u8",
    b"\xa3|O8",
    b"\x91" * 40,
)
EXTREMES: Final = (
    0,
    1,
    15,
    16,
    23,
    24,
    25,
    255,
    1 << 16,
    (1 << 24) + 1,
    (1 << 32) - 1,
    (1 << 63) - 1,
    (1 << 64) - 1,
)

VALUES: Final = (
    *(None, True, -1, 3, *EXTREMES, 2.5, "", "<u8", "|b1", "|u1", b"", b"x" * 16),
    *([], [0], ["<u8", [2]], ["|b1", [3]], ["|u1", [0]], {}, {"name": 1}),
)


def flip(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def overwrite(rng: random.Random, data: bytearray) -> None:
    piece = rng.choice(INTERESTING)
    at = rng.randrange(len(data))
    data[at : at + len(piece)] = piece


def insert(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    data[at:at] = rng.choice(INTERESTING)


def cut(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 2, 16, 1000))]


def repeat(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    data[at:at] = data[at : at + rng.choice((1, 8, 32))]


def lie_about_length(rng: random.Random, data: bytearray) -> None:
    if len(data) >= wire.PREFIX.size:
        value = rng.choice((*EXTREMES, len(data), rng.randrange(len(data) + 64)))
        if rng.random() < 0.5:
            struct.pack_into("<I", data, 8, value & 0xFFFFFFFF)
        else:
            struct.pack_into("<Q", data, 12, value)


def swap_value(rng: random.Random, packed: bytearray) -> None:
    """Exchange a value somewhere inside MessagePack for another."""
    try:
        tree = msgspec.msgpack.decode(packed)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return
    node, spots = tree, []
    while isinstance(node, list | dict) and node:
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        spots.append((node, key))
        node = node[key]
    if spots:
        holder, key = rng.choice(spots)
        holder[key] = rng.choice(VALUES)
        packed[:] = msgspec.msgpack.encode(tree)


BYTES: Final = (flip, overwrite, insert, cut, repeat)


def mutate(
    rng: random.Random, data: bytearray, how: Sequence[Callable[[random.Random, bytearray], None]]
) -> None:
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not data:
            data.append(0)
        rng.choice(how)(rng, data)


def frame_of(header: bytes, arrays: bytes, frame_type: FrameType = FrameType.MESSAGE) -> bytes:
    """Return a frame with a right prefix around any header."""
    head = -(-(wire.PREFIX.size + len(header)) // 16) * 16
    prefix = wire.PREFIX.pack(b"SAG", wire.VERSION, frame_type, len(header), head + len(arrays))
    return prefix + header + bytes(head - wire.PREFIX.size - len(header)) + arrays


def corpus() -> list[tuple[bytes, type[Message]]]:
    frames: list[tuple[bytes, type[Message]]] = []
    for i, message in enumerate(MESSAGES):
        parts, _ = wire.encode_message(message, session=bytes(16), sender=i, lane=(0, i), sequence=i, depth=3)
        frames.append((b"".join(parts), type(message)))
    frames.append((wire.encode_control(FrameType.ABORT, Notice("why")), Notice))
    return frames


def make(
    rng: random.Random, frames: Sequence[tuple[bytes, type[Message]]]
) -> tuple[bytearray, type[Message]]:
    frame, kind = rng.choice(frames)
    how = rng.random()
    if how < 0.02:
        return bytearray(rng.randbytes(rng.randrange(100))), kind
    if how < 0.05:
        return bytearray(
            frame_of(rng.randbytes(rng.randrange(80)), rng.randbytes(rng.choice((0, 16, 48))))
        ), kind
    if how < 0.07:
        other = rng.choice(frames)[0]
        return bytearray(frame[: rng.randrange(len(frame))] + other[rng.randrange(len(other)) :]), kind
    if kind is Notice or how < 0.4:
        data = bytearray(frame)
        mutate(rng, data, (*BYTES, lie_about_length))
        return data, kind
    _, header_length, _ = wire.decode_prefix(frame[: wire.PREFIX.size], peer="fuzz")
    header = bytearray(frame[wire.PREFIX.size : wire.PREFIX.size + header_length])
    arrays = frame[-(-(wire.PREFIX.size + header_length) // 16) * 16 :]
    if how < 0.6:
        mutate(rng, header, (*BYTES, swap_value))
    else:
        *envelope, body = msgspec.msgpack.decode(header)
        packed = bytearray(msgspec.msgpack.encode(body))
        mutate(rng, packed, (*BYTES, swap_value, swap_value))
        # The envelope is an array of seven: its first byte stands for that and its last part is the body.
        header[:] = b"\x97" + msgspec.msgpack.encode(envelope)[1:] + packed
    return bytearray(frame_of(bytes(header), arrays)), kind


def decode(data: bytearray, kind: type[Message]) -> str:
    """Return how far a frame came; anything but a WireError is let through."""
    stage = "prefix"
    try:
        if kind is Notice:
            stage = "control"
            wire.decode_control(data, kind, peer="fuzz")
            return "accepted"
        wire.decode_prefix(data[: wire.PREFIX.size], peer="fuzz")
        stage = "envelope"
        frame = wire.decode_envelope(data, peer="fuzz")
        stage = "body"
        message, _ = wire.decode_body(frame, kind, peer="fuzz")
    except WireError:
        return f"refused: {stage}"
    return "accepted" if isinstance(message, kind) else "wrong type"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1_000_000, help="how many frames (default: 1000000)")
    parser.add_argument("--seed", type=int, default=1, help="makes the frames (default: 1)")
    parser.add_argument("--tiny", action="store_true", help="2000 frames, to see that it runs")
    options = parser.parse_args(argv)
    count = 2000 if options.tiny else options.count

    rng = random.Random(options.seed)
    frames = corpus()
    outcomes: Counter[str] = Counter()
    seconds: list[float] = []
    slowest = 0.0
    memory_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    for start in range(0, count, BATCH):
        batch = [make(rng, frames) for _ in range(min(BATCH, count - start))]
        total = 0.0
        for i, (data, kind) in enumerate(batch):
            begun = time.perf_counter()
            try:
                outcome = decode(data, kind)
            except BaseException as error:
                print(
                    f"frame {start + i} raised {type(error).__name__}: {error}\n{data.hex()}", file=sys.stderr
                )
                if not isinstance(error, Exception):
                    raise
                outcome = f"RAISED {type(error).__name__}"
            took = time.perf_counter() - begun
            total += took
            slowest = max(slowest, took)
            outcomes[outcome] += 1
        seconds.append(total / len(batch))
    elapsed = time.perf_counter() - began
    memory_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory_before) / 1024

    quartiles = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else seconds * 3
    print(
        f"{count} frames, seed {options.seed}, wire version {wire.VERSION}, {len(frames)} valid frames to start from"
    )
    for outcome, number in sorted(outcomes.items()):
        print(f"  {outcome:<18} {number:>9}  {number / count:7.2%}")
    print(
        "decoding, us a frame: " + ", ".join(f"{1e6 * q:.1f}" for q in quartiles) + " (quartiles of batches)"
    )
    print(f"slowest frame: {1e3 * slowest:.2f} ms; peak memory grew by {memory_mb:.0f} MB")
    print(f"in all {elapsed:.1f} s, {count / elapsed:.0f} frames a second with making them")
    bad = sum(
        number for outcome, number in outcomes.items() if not outcome.startswith(("accepted", "refused"))
    )
    print("PASS: nothing but messages and WireError" if not bad else f"FAIL: {bad} frames")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
