"""Every headline figure as a ratio to what bounds it, measured in the same run.

    python -m benchmarks.limits                        # all of them
    python -m benchmarks.limits --only core paillier   # some groups
    python -m benchmarks.limits --write                # all of them, and puts the table into docs/benchmarks.md
    python -m benchmarks.limits --tiny                 # seconds, to see that it runs

All of them take some five minutes on a machine that does nothing else. Progress goes to the standard error. What is written
says how many turns there were and how busy the machine was, and where the time of the figures above 2 goes (`WHERE`).

A figure and its bound take turns. The ratio is that of the fastest times, and the quartiles are those of the ratios of
single turns. Ratios above 2 are in bold. A bound is work without which no such result comes about, done by OpenSSL, GMP,
numpy or plain `ssl` sockets (`benchmarks.bounds`). The last column says how much of it. In a figure of three parties
each is a process of its own. All three do their part of the bound at the same time, as they do the operation; a time is
that of the slowest. Times of Paillier and RLWE are processor time.

The module is long because each of twenty figures stands beside its bound.
"""

from __future__ import annotations

import argparse
import os
import platform
import ssl
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

from benchmarks.parties import one_thread, run_parties

one_thread()

import gmpy2  # noqa: E402  # after one_thread
import numpy as np  # noqa: E402

from benchmarks import bounds, engine, masked, network, paillier, rlwe, tables  # noqa: E402
from benchmarks.timing import Step, take_turns  # noqa: E402
from secagg.fixed_point import decode, encode, plan  # noqa: E402
from secagg.he.paillier import SecretKey  # noqa: E402
from secagg.he.rlwe import SecretKey as RlweKey  # noqa: E402
from secagg.he.rlwe import parameters  # noqa: E402
from secagg.mpc import additive  # noqa: E402
from secagg.network.identity import create_identity  # noqa: E402
from secagg.network.memory import keep_freed_memory  # noqa: E402
from secagg.prg import expand, system_stream  # noqa: E402
from secagg.protocols.masked_sum import choose  # noqa: E402
from secagg.ring import Ring, matmul  # noqa: E402

PAGE: Final = Path(__file__).parent.parent / "docs" / "benchmarks.md"
BEGIN: Final = "<!-- limits: written by python -m benchmarks.limits --write -->\n"
END: Final = "<!-- limits: end -->\n"
MARKED_ABOVE: Final = 2.0


# Where the time goes, by how a figure's name begins; said of those that come out above 2. Shares are of processor time.
WHERE: Final = {
    "encode": "the extremes of the numbers are looked up first, which reads them three times, once from memory.",
    "decode": "the extremes of the elements are looked up first, which reads them three times, once from memory.",
    "share": "keystream takes half of it where memory for the result is at hand. Memory that is new to the process takes "
    "longer than all else.",
    "matmul": "the five float64 products took 86 % on a quiet machine. The rest cuts into limbs and puts together.",
    "mask": "keystream and its addition take most of it; encoding comes on top.",
    "all of a client": "the round's checks of signatures take 30 %, agreements 14 %, HKDF some 10 %. The rest is Python's "
    "bookkeeping for each neighbour.",
    "RLWE, q = 2^64: encrypt": "transforms take 37 %, noise with its keystream 14 %, putting limbs together 12 %, products "
    "of spectra 7 %, ternary numbers 7 %, weights 5 %.",
    "RLWE, q = 2^64: decrypt": "transforms take 55 %, weights and products of spectra 12 %, rounding 10 %, cutting into "
    "limbs 9 %, putting them together 6 %.",
    "TLS, 64 bytes": "60 % in the interpreter, where messages are packed, checked, counted and handed over; 27 % in the "
    "kernel, 4 % in TLS. On a busy machine each turn waits for a core as well.",
    "x < 0": "a third in the interpreter, 18 % in the kernel, 14 % in numpy, 13 % in copies of memory, 12 % in TLS, 8 % in "
    "keystream. Besides, each of seven rounds waits for messages and for a core.",
    "group-by": "45 % in numpy (ANDs, exclusive ors, gathering of rows, transposition of bits), 31 % in the interpreter, "
    "15 % in copies of memory, 5 % in keystream. Besides, each of some 210 rounds waits for messages and for a core.",
}


def where(name: str) -> str:
    """Return what is known of where a figure's time goes."""
    return next((text for start, text in WHERE.items() if name.startswith(start)), "not profiled.")


class Figure(NamedTuple):
    """A figure and its bound, one of each a turn.

    Args:
      name: what was done, and to how much.
      ours: seconds of secagg.
      bound: seconds of what bounds it, as long an array.
      counts: what the bound counts.
    """

    name: str
    ours: np.ndarray
    bound: np.ndarray
    counts: str

    @property
    def ratio(self) -> float:
        return float(self.ours.min() / self.bound.min())

    def row(self) -> str:
        mark = "**" if self.ratio > MARKED_ABOVE else ""
        low, mid, high = np.percentile(self.ours / self.bound, [25, 50, 75])
        times = f"{spelled(self.ours.min())} | {spelled(self.bound.min())}"
        return f"| {self.name} | {times} | {mark}{self.ratio:.2f}{mark} | {low:.2f} {mid:.2f} {high:.2f} | {self.counts} |"


class Sizes(NamedTuple):
    """How much of everything, and how often."""

    numbers: int = 10_000_000
    elements: int = 1_000_000
    side: int = 1000
    rows: int = 100_000
    clients: int = 50
    paillier_bits: int = 3072
    residues: int = 32
    rlwe_values: int = 1 << 18
    messages: int = 64
    message_bytes: int = 8_000_000
    trips: int = 3000
    repeats: int = 7


TINY: Final = Sizes(10_000, 1000, 16, 60, 4, 2048, 1, 1 << 13, 2, 100_000, 5, 1)


def spelled(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def in_turn(
    cases: Sequence[tuple[str, Step, Step, str]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterable[Figure]:
    """Time pairs of (name, ours, bound, what it counts); each pair takes turns by itself, so that caches are its own."""
    for name, ours, bound, counts in cases:
        first, second = take_turns([ours, bound], repeats, clock)
        yield Figure(name, first, second, counts)


def core(s: Sizes) -> Iterable[Figure]:
    """Fixed-point numbers, masks, additive shares and products modulo 2**64."""
    n, side = s.numbers, s.side
    x = np.random.default_rng(1).uniform(-100, 100, n)
    p = plan(clip=100.0, frac_bits=24, parties=20)
    values, numbers = np.ones(n, p.ring.dtype), np.ones(n)
    encode(x, p, out=values)
    seed, stream = os.urandom(32), system_stream()
    mask, vector = np.ones(n, np.uint64), stream.words(s.elements)
    a, b = stream.words((2, side, side))
    return in_turn(
        [
            (
                f"encode {n:,} float64",
                lambda: encode(x, p, out=values),
                bounds.memory(16 * n),
                "memory: 8 bytes read and 8 written a number",
            ),
            (
                f"decode {n:,}",
                lambda: decode(values, p, out=numbers),
                bounds.memory(16 * n),
                "memory: 8 bytes read and 8 written a number",
            ),
            (
                f"expand a mask of {n:,} words",
                lambda: expand(seed, "limits", mask),
                bounds.together(bounds.keystream(8 * n), bounds.memory(8 * n)),
                "AES-CTR: 8 bytes a word; memory: 8 bytes written",
            ),
            (
                f"share {s.elements:,} words among 3",
                lambda: additive.share(vector, 3, Ring(64), stream),
                bounds.together(bounds.keystream(16 * s.elements), bounds.memory(16 * s.elements)),
                "AES-CTR: 16 bytes a word; memory: 8 bytes read and 8 written",
            ),
            (
                f"matmul modulo 2^64, {side} x {side}",
                lambda: matmul(a, b),
                bounds.float_products(5 * side, side),
                "dgemm: 5 products",
            ),
        ],
        s.repeats,
    )


def masked_sums(s: Sizes) -> Iterable[Figure]:
    """A client of a masked sum: its masks, and its keys."""
    few = choose(10, max_corrupt=0.2, max_dropout=0.2)
    many = choose(s.clients, max_corrupt=0.2, max_dropout=0.2)
    d = s.elements
    stream_bytes = 4 * d * (few.degree + 1)
    alone = [
        bounds.together(bounds.keystream(stream_bytes), bounds.memory(8 * d)),
        bounds.signatures_and_agreements(many.degree),
    ]
    seconds = np.empty((4, s.repeats))
    for r in range(s.repeats):
        seconds[0, r] = masked.one_round(few, d, 0, packed=False, executor=None).masking_s
        seconds[1, r] = take_turns(alone[:1], 1)[0][0]
        seconds[2, r] = masked.one_round(many, 1, 0, packed=False, executor=None).client_s
        seconds[3, r] = take_turns(alone[1:], 1)[0][0]
    yield Figure(
        f"mask {d:,} float32 of one of 10 clients",
        seconds[0],
        seconds[1],
        f"AES-CTR: {few.degree + 1} masks of 4 bytes a number; memory: 4 bytes read and 4 written",
    )
    yield Figure(
        f"all of a client of {s.clients}, one number: keys",
        seconds[2],
        seconds[3],
        f"OpenSSL, for each of {many.degree} neighbours: 2 X25519 agreements, 1 Ed25519 check; 2 keys, 1 signature",
    )


# By name in benchmarks.engine: what it is called here, and the bytes of memory that a party reads and writes an element.
# Those are two shares of each operand and of the result.
ENGINE: Final[dict[str, tuple[str, int]]] = {
    "imul": ("integer multiply", 48),
    "mul": ("fixed-point multiply", 48),
    "and": ("AND of 64 bits", 48),
    "cmp": ("x < 0", 16),
    "mm": ("fixed-point matmul", 48),
}


class Part(NamedTuple):
    """One party's part of a bound, in bytes, and in rows of a float64 product with a square matrix."""

    keystream: int
    link: int
    memory: int
    rows: int = 0
    side: int = 1

    def step(self, link: bounds.Link) -> Step:
        steps = [bounds.keystream(self.keystream), link.carry(self.link), bounds.memory(self.memory)]
        return bounds.together(*steps, *([bounds.float_products(self.rows, self.side)] if self.rows else []))

    def counts(self, elements: int) -> str:
        aes, link, memory = (f"{n / elements:.3g}" for n in (self.keystream, self.link, self.memory))
        text = f"AES-CTR: {aes} bytes; TLS: {link} sent and as many received; memory: {memory}"
        return text + (f"; dgemm: {self.rows / self.side:.3g} products in all" if self.rows else "")


def parts(s: Sizes) -> dict[str, Part]:
    """Return each party's part of the bound of each operation of three."""
    found = {}
    for name, (operation, _) in engine.operations(s.elements, s.side, 1).items():
        if name in ENGINE:
            products, side = operation.products
            elements = side * side if products else s.elements
            found[name] = Part(
                operation.keystream // 3,
                sum(operation.cost.payload_bytes.values()) // 3,
                ENGINE[name][1] * elements,
                round(products * side / 3),
                side or 1,
            )
    return found


async def seconds_at_once(party: Any, step: Step) -> float:
    """Return the seconds of a step that all parties begin together."""
    for _ in range(2):  # the second exchange ends at all three nearly at once
        for peer in party.others:
            party.send(peer, network.Block(np.zeros(1, np.uint8)))
        for peer in party.others:
            await party.receive(network.Block, peer)
    begun = time.perf_counter()
    step()
    return time.perf_counter() - begun


async def engine_turns(party: Any, *, s: Sizes, group: str) -> dict[str, list[tuple[float, ...]]]:
    """Return, by operation of three parties, seconds of this party's part and of its part of the bound, and bytes sent."""
    turns: dict[str, list[tuple[float, ...]]] = {}
    with bounds.Link() as link:
        steps = {name: part.step(link) for name, part in parts(s).items()}
        for step in steps.values():
            step()
        for _ in range(s.repeats):
            if group == "engine":
                ours = await engine.party_program(party, n=s.elements, side=s.side, repeats=1)
                for name, step in steps.items():
                    turns.setdefault(name, []).append((min(ours[name]), await seconds_at_once(party, step)))
            else:
                (run,), right = await tables.party_program(
                    party, operator="group_by", rows=s.rows, parties=3, repeat=1
                )
                if not right:
                    raise SystemExit(f"a group-by of {s.rows} rows differs from numpy's")
                alone = grouped(run.payload_bytes).step(link)
                alone()
                seconds = run.ended - run.begun
                turns.setdefault("group_by", []).append(
                    (seconds, await seconds_at_once(party, alone), float(run.payload_bytes))
                )
    return turns


def grouped(sent: int) -> Part:
    """Return a party's part of a group-by's bound: as much keystream and memory a byte sent as a product takes."""
    return Part(2 * sent, sent, 6 * sent)


def three_parties(s: Sizes, group: str) -> Iterable[Figure]:
    """Operations of the three-party engine, and a group-by, over TLS."""
    program = partial(engine_turns, s=s, group=group)
    outcomes = [result[0] for result in run_parties(dict.fromkeys(engine.NAMES, program)).values()]
    for name in outcomes[0]:
        turns = np.array([outcome[name] for outcome in outcomes])  # by party, turn, and what was measured
        ours, bound = turns[:, :, :2].max(0).T
        if name == "group_by":
            sent = int(turns[:, :, 2].mean())
            title = f"group-by with sum and count, a row of {s.rows:,}"
            yield Figure(title, ours / s.rows, bound / s.rows, grouped(sent).counts(s.rows))
        else:
            elements = s.side**2 if name == "mm" else s.elements
            size = f"{s.side} x {s.side}" if name == "mm" else f"{elements:,}"
            yield Figure(f"{ENGINE[name][0]}, {size}", ours, bound, parts(s)[name].counts(elements))


def paillier_sums(s: Sizes) -> Iterable[Figure]:
    """Paillier's encryption, addition and decryption of a number in a slot."""
    bench = paillier.Bench(SecretKey.generate(s.paillier_bits), s.residues, s.repeats)
    public, key = bench.public, bench.key
    public.prepare(window=paillier.WINDOW)
    windows = -(-int(public.randomizer_bits or 0) // paillier.WINDOW)
    x = bench.x
    total, one = public.encrypt(x, paillier.PLAN), public.encrypt(x, paillier.PLAN)

    def add() -> None:
        nonlocal total
        total += one

    pairs: list[tuple[str, Step, paillier.Step, str]] = [
        (
            "encrypt",
            lambda: public.encrypt(x, paillier.PLAN),
            bench.products_alone(windows),
            f"GMP: {windows} products modulo n^2",
        ),
        ("add", add, bench.additions_alone(one, one, x.size), "GMP: 1 product modulo n^2"),
        (
            "decrypt",
            lambda: key.decrypt(one),
            bench.powers_alone(one),
            "GMP: a power modulo p^2 and one modulo q^2",
        ),
    ]
    for name, run, alone, counts in pairs:
        ours, bound = take_turns([run, alone.run], s.repeats, time.process_time)
        title = f"Paillier, {s.paillier_bits} bits: {name} a number"
        yield Figure(
            title, ours / x.size, bound / alone.numbers, f"{counts}, a residue of {bench.slots} numbers"
        )


def rlwe_sums(s: Sizes) -> Iterable[Figure]:
    """RLWE's encryption and decryption, a number."""
    p, values = parameters(64), s.rlwe_values
    key = RlweKey.generate(p)
    sums = plan(clip=2.0**25, frac_bits=0, parties=1 << 10, bits=64)
    encoded = np.random.default_rng(2).integers(-(1 << 25), 1 << 25, values).view(np.uint64)
    sealed = key.public_key.encrypt_encoded(encoded, sums)
    for name, run, each in (
        ("encrypt", lambda: key.public_key.encrypt_encoded(encoded, sums), 2 * p.limbs + 1),
        ("decrypt", lambda: key.decrypt_encoded(sealed), 2 * p.limbs),
    ):
        ours, bound = take_turns([run, rlwe.transforms(p, values, each)], s.repeats, time.process_time)
        counts = f"numpy: {each} complex FFTs of length {p.degree // 2}, a block of {p.degree} numbers"
        yield Figure(f"RLWE, q = 2^64: {name} a number of {values:,}", ours / values, bound / values, counts)


def links(s: Sizes) -> Iterable[Figure]:
    """What the TLS network moves, against two plain ssl sockets."""
    kinds = ("secagg TLS", "ssl sockets")
    measured: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    with TemporaryDirectory() as folder:
        for name in network.NAMES:
            create_identity(name).save(Path(folder))
        for _ in range(s.repeats):
            for kind in kinds:
                run = network.measure(
                    Path(folder),
                    kind=kind,
                    keep_memory=True,
                    messages=s.messages,
                    nbytes=s.message_bytes,
                    trips=s.trips,
                )
                measured[kind].append(run)
    rates, trips = (
        [np.array([run[key] for run in measured[kind]]) for kind in kinds]
        for key in ("bytes_per_s", "trip_s")
    )
    title = f"TLS, a message of {s.message_bytes / 1e6:g} MB"
    ours, bound = (s.message_bytes / rate for rate in rates)
    yield Figure(title, ours, bound, "ssl sockets: the same bytes one way")
    title = f"TLS, {network.SMALL_BYTES} bytes there and back"
    yield Figure(title, trips[0], trips[1], "ssl sockets: the same bytes")


GROUPS: Final = ("core", "masked", "engine", "tables", "paillier", "rlwe", "network")


def figures(s: Sizes, group: str) -> Iterable[Figure]:
    """Measure the figures of a group."""
    alone = {
        "core": core,
        "masked": masked_sums,
        "paillier": paillier_sums,
        "rlwe": rlwe_sums,
        "network": links,
    }
    return alone[group](s) if group in alone else three_parties(s, group)


def machine(repeats: int, loads: Sequence[float]) -> str:
    """Return what was measured with, how often, and how many processes wanted a core meanwhile.

    Args:
      loads: of a minute each, before and after every group of figures.
    """
    cores, turns = os.cpu_count() or 1, "1 turn" if repeats == 1 else f"{repeats} turns"
    busy = min(loads) > cores + 1  # our three parties alone make a load of three
    return (
        f"Python {platform.python_version()}, numpy {np.__version__}, gmpy2 {gmpy2.version()}, {ssl.OPENSSL_VERSION}, "
        f"{cores} cores, {turns} of each, loads of {min(loads):.1f} to {max(loads):.1f}"
        + ("; others used the machine, and figures of several processes are far off" if busy else "")
        + ".\n\n"
    )


def heading() -> str:
    return (
        "| figure | fastest | its bound | ratio | quartiles of a turn's ratio | what the bound counts |\n"
        "|---|---|---|---|---|---|\n"
    )


def above(found: Sequence[Figure]) -> str:
    """Return the list of figures above 2, and where their time goes."""
    lines = [
        textwrap.fill(f"- {f.name}, {f.ratio:.2f}: {where(f.name)}", 125, subsequent_indent="  ") + "\n"
        for f in found
        if f.ratio > MARKED_ABOVE
    ]
    title = f"Where the time of those above {MARKED_ABOVE:g} goes, by profiles taken before:"
    return "\n" + (f"{title}\n\n{''.join(lines)}" if lines else f"No figure is above {MARKED_ABOVE:g}.\n")


def put(page: str, table: str) -> str:
    """Return the page with the table in place of what stands between the markers."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{PAGE.name} lacks the lines between which the table goes: {BEGIN}{END}")
    return f"{before}{begin}\n{table}\n{end}{after}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS), help="groups of figures")
    parser.add_argument("--repeats", type=int, help=f"turns of each figure, by default {Sizes().repeats}")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md as well")
    options = parser.parse_args(argv)
    if options.repeats is not None and options.repeats < 1:
        parser.error(f"--repeats: expected at least 1 turn, got {options.repeats}")
    if options.write and (options.tiny or set(options.only) != set(GROUPS)):
        parser.error("--write: the page has all figures at full size; leave out --tiny and --only")
    sizes = TINY if options.tiny else Sizes()
    if options.repeats:
        sizes = sizes._replace(repeats=options.repeats)
    keep_freed_memory()
    groups, found, loads = list(dict.fromkeys(options.only)), [], [os.getloadavg()[0]]
    begun = time.monotonic()
    print(heading(), end="", flush=True)
    for number, group in enumerate(groups, 1):
        print(f"{group}, {number} of {len(groups)}, after {time.monotonic() - begun:.0f} s", file=sys.stderr)
        for figure in figures(sizes, group):
            print(figure.row(), flush=True)
            found.append(figure)
        loads.append(os.getloadavg()[0])
    made_with, list_above = machine(sizes.repeats, loads), above(found)
    print(f"\n{made_with}{list_above}done after {time.monotonic() - begun:.0f} s")
    if options.write:
        table = made_with + heading() + "".join(f.row() + "\n" for f in found) + list_above
        PAGE.write_text(put(PAGE.read_text(encoding="utf-8"), table), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
