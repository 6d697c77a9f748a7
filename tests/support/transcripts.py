"""What parties see in whole runs, as samples of bits, and whether these can be uniform and independent.

A *view* is a matrix of bits: a row is one sample (a lane, an element, a run), a column one bit that a party drew or
received in it. By Lemma 1 of docs/soundness.md columns are uniform and independent whatever the inputs are, so
inputs are held constant, where a mask that is missing, narrow or used twice shows best. `check` looks at

  columns    the ones in each column: a bit that is not masked
  stretches  the ones in 64 columns together, and in all of a message: a mask that is weak over a part of it
  pairs      the ones in the XOR of any two columns: two messages under one mask, or under one that the party holds
  rank       whether any XOR of columns is the same in all samples: whatever linear relation there is between messages

With S samples of uniform independent bits, |2 ones - S| >= t sqrt(S) has probability at most 2 exp(-t**2 / 2), by
Hoeffding's inequality, for a column, for a stretch (of S times its width bits) and for the XOR of a pair. With n of
these statistics t = sqrt(2 ln(2 n / ALPHA)) keeps the probability that any is beyond t below ALPHA = 2**-20. That c
columns are dependent has probability at most 2**(c + 1 - S); `check` asks for S >= c + 21. So a view that is uniform
fails with probability 2**-19 at most, over the seed of the simulator, which tests fix: each always passes or never.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from secagg import wire
from secagg.mpc.three.engine import ThreeEngine
from secagg.mpc.three.streams import PairStreams, Purpose
from secagg.party import Party, Run
from secagg.prg import Stream, derive_key
from secagg.wire import Message

ALPHA: Final = 2.0**-20
_STRETCH: Final = 64  # columns

Bits = NDArray[np.uint8]  # zeros and ones, shape (samples, columns)


class Sent(NamedTuple):
    """A frame of a transcript, decoded; `message` is a `Message` of whatever kind the frame says."""

    sender: str
    receiver: str
    message: Any
    frame: bytes


def sent(transcript: Iterable[tuple[str, str, bytes]]) -> list[Sent]:
    """Return the frames of `Outcome.transcript` with their messages, in order."""
    kinds = {kind.KIND: kind for kind in _subclasses(Message)}
    decoded = []
    for sender, receiver, frame in transcript:
        cut = wire.decode_envelope(frame, peer=sender)
        message, _ = wire.decode_body(cut, kinds[cut.envelope.kind], peer=sender)
        decoded.append(Sent(sender, receiver, message, frame))
    return decoded


def kinds(transcript: Iterable[tuple[str, str, bytes]]) -> list[tuple[str, str, str]]:
    """Return sender, receiver and the name of the message's class, of each frame of a transcript."""
    return [
        (a, b, wire.decode_envelope(frame, peer=a).envelope.kind.rpartition(".")[2])
        for a, b, frame in transcript
    ]


def _subclasses(kind: type[Message]) -> Iterator[type[Message]]:
    for below in kind.__subclasses__():
        yield below
        yield from _subclasses(below)


def leaves(message: Message) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a message and of the messages in it, with their paths; those of a tuple one by one."""
    for name, value in fields(message).items():
        if isinstance(value, Message):
            yield from ((f"{name}.{path}", part) for path, part in leaves(value))
        else:
            yield name, value


def fields(message: Message) -> dict[str, Any]:
    """Return a message's fields; those of a tuple one by one."""
    found: dict[str, Any] = {}
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if isinstance(value, tuple):
            found |= {f"{name}[{i}]": part for i, part in enumerate(value)}
        else:
            found[name] = value
    return found


# Arrays as samples.


def lanes(array: NDArray[Any], samples: int) -> Bits:
    """Return words that hold a bit of each of `samples` lanes, plane after plane: a row a lane, a column a plane."""
    planes = np.unpackbits(_bytes(array).reshape(-1, samples // 8), axis=1, bitorder="little")
    return planes.T


def elements(array: NDArray[Any], samples: int, bits: int | None = None) -> Bits:
    """Return `samples` elements, or rows of elements: a column a bit, of each element the lowest `bits`."""
    width = 8 * array.dtype.itemsize
    unpacked = np.unpackbits(_bytes(array).reshape(-1, array.dtype.itemsize), axis=1, bitorder="little")
    return np.ascontiguousarray(unpacked[:, : bits or width]).reshape(samples, -1)


def below(numbers: Sequence[int], bound: int, samples: int) -> Bits:
    """Return rows of numbers below a bound that is no power of two: as columns bits that are all but uniform.

    These are the low bits, and those of floor(2^w number / bound), which are the high bits of a number that is below 2^w.
    For a number that is uniform below the bound, each bit of either kind is biased by at most 2^-32.
    """
    width = bound.bit_length() - 33
    size = -(-width // 8)
    parts = (
        np.frombuffer(b"".join(int(x).to_bytes(size, "little") for x in part), np.uint8).reshape(-1, size)
        for part in (
            [int(x) & (1 << width) - 1 for x in numbers],
            [(int(x) << width) // bound for x in numbers],
        )
    )
    bits = [np.unpackbits(part, axis=1, bitorder="little", count=width) for part in parts]
    return np.concatenate([b.reshape(samples, -1) for b in bits], axis=1)


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


@dataclass
class View:
    """What one party saw: parts with names, each of so many columns of the same samples."""

    samples: int
    names: list[str] = field(default_factory=list)
    parts: list[Bits] = field(default_factory=list)

    def add(self, name: str, bits: Bits) -> None:
        assert bits.shape[0] == self.samples, f"{name}: {bits.shape[0]} samples, not {self.samples}"
        self.names.append(name)
        self.parts.append(bits)

    def stack(self, other: View) -> View:
        """Return both views' samples, which have to be of the same parts."""
        assert self.names == other.names
        both = [np.concatenate(pair) for pair in zip(self.parts, other.parts, strict=True)]
        return View(self.samples + other.samples, list(self.names), both)

    def check(self, *, pairs: bool = True, rank: bool = True) -> float:
        """Return the largest statistic relative to its limit; raises AssertionError where one is beyond it.

        Args:
          pairs: whether to look at the XOR of each two columns; takes time with the square of their number.
          rank: whether to look at whether columns depend on each other, which takes as many samples and 21.
        """
        bits = np.concatenate(self.parts, axis=1)
        samples, columns = bits.shape
        assert columns, "a view of nothing shows nothing"
        ends = np.cumsum([part.shape[1] for part in self.parts])

        def name(column: int) -> str:
            at = int(np.searchsorted(ends, column, side="right"))
            return f"{self.names[at]} bit {column - int(ends[at]) + self.parts[at].shape[1]}"

        starts = np.unique(np.concatenate([np.r_[0, ends[:-1]], np.arange(0, columns, _STRETCH)]))
        limit = _limit(columns + len(starts) + len(ends) + columns * (columns - 1) // 2)
        spins = (1 - 2 * bits.astype(np.int8)).astype(np.float32)
        excess = spins.sum(axis=0, dtype=np.float64)
        z = np.abs(excess) / math.sqrt(samples)
        assert z.max() < limit, f"{name(int(z.argmax()))} is not uniform: {z.max():.1f} of {limit:.1f}"
        for cuts, what in ((starts, "stretch"), (np.r_[0, ends[:-1]], "message")):
            widths = np.diff(np.r_[cuts, columns])
            parts = np.abs(np.add.reduceat(excess, cuts)) / np.sqrt(samples * widths)
            worst = int(parts.argmax())
            assert parts[worst] < limit, (
                f"the {what} from {name(int(cuts[worst]))} is not uniform: {parts[worst]:.1f} of {limit:.1f}"
            )
        highest = max(float(z.max()), float(parts.max()))
        step = 2048
        for begin in range(0, columns if pairs else 0, step):
            # Of each pair one order: what stands before `begin` was looked at.
            products = spins[:, begin : begin + step].T @ spins[:, begin:]
            np.fill_diagonal(products, 0)
            np.abs(products, out=products)
            i, k = np.unravel_index(int(products.argmax()), products.shape)
            worst_pair = float(products[i, k]) / math.sqrt(samples)
            assert worst_pair < limit, (
                f"{name(begin + int(i))} and {name(begin + int(k))} depend on each other: "
                f"{worst_pair:.1f} of {limit:.1f}"
            )
            highest = max(highest, worst_pair)
        if rank:
            assert samples >= columns + 21, f"{samples} samples of {columns} columns"
            dependent = _first_dependent(bits)
            assert dependent is None, f"{name(dependent or 0)} is an XOR of bits that were seen before"
        return highest / limit


def check_over_runs(messages: Mapping[str, Sequence[NDArray[Any]]]) -> float:
    """Check each bit of each message over runs on the same inputs, and each message's positions and stretches.

    Args:
      messages: for each message, its array in every run.

    Returns the largest statistic relative to its limit; raises AssertionError where one is beyond it.
    """
    runs = {name: np.stack([_bytes(array) for array in arrays]) for name, arrays in messages.items()}
    limit = _limit(sum(8 * a.shape[1] + 8 * 8 + -(-a.shape[1] // 64) for a in runs.values()))
    highest = 0.0
    for name, all_runs in runs.items():
        n, width = all_runs.shape
        ones = np.unpackbits(all_runs, axis=1, bitorder="little").sum(axis=0, dtype=np.int64)
        excess = (2 * ones - n).astype(np.float64)
        itemsize = messages[name][0].dtype.itemsize
        positions = excess.reshape(-1, 8 * itemsize)
        stretches = np.add.reduceat(excess, np.arange(0, 8 * width, 512))
        lengths = np.diff(np.r_[np.arange(0, 8 * width, 512), 8 * width])
        for what, z in (
            ("a bit", np.abs(excess) / math.sqrt(n)),
            ("a bit position", np.abs(positions.sum(axis=0)) / math.sqrt(n * len(positions))),
            ("a stretch", np.abs(stretches) / np.sqrt(n * lengths)),
        ):
            assert z.max() < limit, (
                f"{name}: {what} ({z.argmax()}) is not uniform: {z.max():.1f} of {limit:.1f}"
            )
            highest = max(highest, float(z.max()))
    return highest / limit


def _limit(statistics: int) -> float:
    return math.sqrt(2 * math.log(2 * statistics / ALPHA))


def _first_dependent(bits: Bits) -> int | None:
    """Return the first column that is an XOR of others before it and of the constant, or None."""
    samples, columns = bits.shape
    padded = np.zeros((columns + 1, -(-samples // 64) * 64), np.uint8)
    padded[0, :samples] = 1
    padded[1:, :samples] = bits.T
    rows = np.packbits(padded, axis=1, bitorder="little").view(np.uint64)
    for i in range(columns + 1):
        word = int(np.argmax(rows[i] != 0))
        value = int(rows[i, word])
        if not value:
            return i - 1
        bit = np.uint64(value & -value)
        below = np.flatnonzero(rows[i + 1 :, word] & bit) + i + 1
        rows[below] ^= rows[i]
    return None


# Draws.


class _Noted(Stream):
    """A stream that notes what it hands out."""

    __slots__ = ("_notes", "_purpose")

    def __init__(self, key: bytes, purpose: str, notes: list[tuple[str, NDArray[Any]]]) -> None:
        super().__init__(key)
        self._purpose = purpose
        self._notes = notes

    def fill(self, out: NDArray[Any]) -> None:
        super().fill(out)
        self._notes.append((self._purpose, out.copy()))

    def xor_into(self, out: NDArray[Any]) -> None:
        before = out.copy()
        super().xor_into(out)
        self._notes.append((self._purpose, before ^ out))


class _NotedPair(PairStreams):
    """A pair's streams under their real keys, of which every draw is noted."""

    __slots__ = ("_notes", "_of")

    def __init__(self, pair: PairStreams, of: str, notes: list[tuple[str, NDArray[Any]]]) -> None:
        super().__init__(pair._secret, pair._context)
        self._of = of
        self._notes = notes

    def __getitem__(self, purpose: Purpose) -> Stream:
        if purpose not in self._streams:
            key = derive_key(self._secret, label=f"secagg.mpc.three/{purpose.value}", context=self._context)
            self._streams[purpose] = _Noted(key, f"{self._of} {purpose.value}", self._notes)
        return self._streams[purpose]


def note_draws(engine: ThreeEngine) -> list[tuple[str, NDArray[Any]]]:
    """Return a list to which every draw from the engine's streams is appended, as (whose and purpose, array)."""
    notes: list[tuple[str, NDArray[Any]]] = []
    engine.channel.k_own = _NotedPair(engine.channel.k_own, "k_own", notes)
    engine.channel.k_next = _NotedPair(engine.channel.k_next, "k_next", notes)
    return notes


# Parties whose session and randomness a test chooses.


class Chosen(Stream):
    """A party's randomness of which a test exchanges some draws of bytes.

    Args:
      key: of all other draws.
      instead: from the number of a draw to what is drawn in its place.
    """

    __slots__ = ("_drawn", "_instead")

    def __init__(self, key: bytes, instead: Mapping[int, bytes] | None = None) -> None:
        super().__init__(key)
        self._instead = dict(instead or {})
        self._drawn = 0

    def bytes(self, n: int) -> bytes:
        drawn = super().bytes(n)
        self._drawn += 1
        return self._instead.get(self._drawn - 1, drawn)


def run_with(
    programs: Mapping[str, Callable[[Party], Any]], *, session: bytes, rngs: Mapping[str, Stream]
) -> list[Any]:
    """Run parties on a session and randomness of the caller's choice; return the results in roster order."""
    roster = tuple(programs)
    runs = {
        name: Run(party := Party(name, roster, session=session, rng=rngs[name]), program(party))
        for name, program in programs.items()
    }
    for run in runs.values():
        run.start()
    while any(not run.done for run in runs.values()):
        carried = False
        for name, run in runs.items():
            while run.party.outbox:
                to, frame, _ = run.party.outbox.popleft()
                runs[to].party.deliver(bytearray(b"".join(frame)), name)
                carried = True
        for run in runs.values():
            run.advance()
        assert carried, "the parties wait for each other"
    return [run.result() for run in runs.values()]
