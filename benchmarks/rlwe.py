"""Speed of sums under RLWE, against TenSEAL's CKKS and against the transforms alone, on one core.

All steps of a comparison take turns within one run, each timed in CPU time of this process, so that a busy machine
slows all alike: compare ratios, never times of different runs. Ratios compare the fastest times; quartiles show how
noisy the run was. The limit of a step is the time of its transforms alone. That is as many calls of numpy's
transform, of the same length and on as many rows at a time, as the step needs: 2 L + 1 to encrypt a block with L
limbs, 2 L to decrypt.

    python -m benchmarks.rlwe            # half a minute
    python -m benchmarks.rlwe --tiny     # a second, to see that it runs
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secagg.fixed_point import plan
from secagg.he.rlwe import Ciphertext, Parameters, SecretKey, parameters
from secagg.he.rlwe.decryption_log import DecryptionLog
from secagg.he.rlwe.flooding import plan_release
from secagg.he.rlwe.key_generation import KeyHolder, Terms
from secagg.he.rlwe.products import batch_blocks
from secagg.he.rlwe.threshold import combine
from secagg.he.rlwe.uploads import Collector, Round, Tally, sign_upload

try:
    import tenseal
except ImportError:
    tenseal = None

SLOTS = 2048
ADDITIONS = 64  # of one ciphertext to another, each kind staying where its size lets it: cache or memory
SECURITY = {64: (201, 226), 96: (115, 144), 128: (200, 225)}  # core-SVP, lattice-estimator
GOALS = {
    64: {"encrypt": 8.0, "decrypt": 2.0, "add in place": 10.0},
    96: {"encrypt": 5.0},
    128: {},
}  # times TenSEAL
Step = Callable[[], object]


def take_turns(
    steps: Mapping[str, tuple[Step, int]], repeats: int, clock: Callable[[], float]
) -> dict[str, np.ndarray]:
    """Return the nanoseconds a value of each (step, values), run in turn, after one run that warms up."""
    taken = {name: np.empty(repeats) for name in steps}
    for step, _ in steps.values():
        step()
    for r in range(repeats):
        for name, (step, values) in steps.items():
            start = clock()
            step()
            taken[name][r] = (clock() - start) / values * 1e9
    return taken


def show(name: str, ns: np.ndarray, *notes: str) -> None:
    low, mid, high = np.percentile(ns, [25, 50, 75])
    print(
        f"  {name:32} min {ns.min():8.2f}  quartiles {low:8.2f} {mid:8.2f} {high:8.2f} ns a value  {'  '.join(notes)}"
    )


def repeated(step: Step, times: int) -> Step:
    def run() -> None:
        for _ in range(times):
            step()

    return run


def tenseal_steps(values: int) -> tuple[dict[str, tuple[Step, int]], float]:
    """Return what TenSEAL does to vectors of 2048 numbers, as many as hold the values to be added, and its bytes a value."""
    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS,
        4096,
        coeff_mod_bit_sizes=[60, 49],
        encryption_type=tenseal.ENCRYPTION_TYPE.ASYMMETRIC,
        n_threads=1,
    )
    context.global_scale = 2.0**40
    numbers = np.random.default_rng(1).normal(size=SLOTS).tolist()
    vectors = [tenseal.ckks_vector(context, numbers) for _ in range(-(-values // SLOTS))]
    totals, vector = [v.copy() for v in vectors], vectors[0]

    def encrypt() -> None:
        tenseal.ckks_vector(context, numbers)

    def add() -> None:
        for total, summand in zip(totals, vectors, strict=True):
            total += summand

    def add_anew() -> None:
        for total, summand in zip(totals, vectors, strict=True):
            total + summand

    many = len(vectors) * SLOTS
    return {
        "tenseal encrypt": (repeated(encrypt, 16), 16 * SLOTS),
        "tenseal add in place": (repeated(add, 4), 4 * many),
        "tenseal add to a new vector": (repeated(add_anew, 4), 4 * many),
        "tenseal decrypt": (repeated(vector.decrypt, 16), 16 * SLOTS),
    }, len(vector.serialize()) / SLOTS


def transforms(p: Parameters, values: int, each: int) -> Step:
    """Return the transforms alone of a step that needs `each` of them a block."""
    rows = min(batch_blocks(p), p.blocks(values))
    z = np.ones((rows, p.degree // 2), np.complex128)
    calls = each * p.blocks(values) // rows

    def run() -> None:
        # Forwards and backwards, or the numbers would grow without end; one is as long as the other.
        for i in range(calls):
            (np.fft.ifft if i % 2 else np.fft.fft)(z, out=z)

    return run


def compare(modulus_bits: int, values: int, repeats: int) -> None:
    p = parameters(modulus_bits)
    core, estimate = SECURITY[modulus_bits]
    print(
        f"\nq = 2^{p.modulus_bits}, N = {p.degree}, {p.limbs} limbs of {p.limb_bits} bits; {estimate} bits by "
        f"lattice-estimator, {core} core-SVP; {values:,} values, 36-bit sums"
    )
    key = SecretKey.generate(p)
    sums = plan(clip=2.0**25, frac_bits=0, parties=1 << 10, bits=64)
    numbers = np.random.default_rng(2).integers(-(1 << 25), 1 << 25, values)
    encoded = numbers.astype(np.int64).view(np.uint64)
    ciphertext = key.public_key.encrypt_encoded(encoded, sums)
    assert np.array_equal(key.decrypt_encoded(ciphertext), encoded)
    total = ciphertext.copy()

    def add() -> None:
        # Starts over: a sum has room for a limited number of summands.
        total.header, total.squares = ciphertext.header, ciphertext.squares
        ciphertext_add(total, ciphertext)

    steps: dict[str, tuple[Step, int]] = {
        "encrypt, transforms alone": (transforms(p, values, 2 * p.limbs + 1), values),
        "encrypt": (lambda: key.public_key.encrypt_encoded(encoded, sums), values),
        "decrypt, transforms alone": (transforms(p, values, 2 * p.limbs), values),
        "decrypt": (lambda: key.decrypt_encoded(ciphertext), values),
        "add in place": (repeated(add, ADDITIONS), ADDITIONS * values),
    }
    theirs, their_bytes = ({}, 0.0) if tenseal is None else tenseal_steps(values)
    ns = take_turns({**steps, **theirs}, repeats, time.process_time)
    size = sum(w.nbytes for w in ciphertext.to_message().words) / values
    for name in steps:
        notes = []
        if f"{name}, transforms alone" in ns:
            notes.append(f"{ns[name].min() / ns[f'{name}, transforms alone'].min():5.2f} of the limit")
        if (peer := ns.get(f"tenseal {name}")) is not None:
            goal = GOALS[modulus_bits].get(name)
            aim = f" (goal {goal:g})" if goal else ""
            notes.append(f"{peer.min() / ns[name].min():6.1f} times TenSEAL{aim}")
        show(name, ns[name], *notes)
    for name in theirs:
        show(name, ns[name])
    print(f"  bytes a value: {size:g}" + (f", TenSEAL {their_bytes:.1f}" if theirs else ""))
    keys = take_turns({"key": (lambda: SecretKey.generate(p), 1)}, repeats, time.process_time)["key"] / 1e6
    print(f"  key generation: min {keys.min():.2f} median {np.median(keys):.2f} ms")


def ciphertext_add(total: Ciphertext, summand: Ciphertext) -> None:
    total += summand


def two_threads(modulus_bits: int, values: int, repeats: int) -> None:
    key = SecretKey.generate(parameters(modulus_bits))
    sums = plan(clip=2.0**25, frac_bits=0, parties=1 << 10, bits=64)
    encoded = np.zeros(values, np.uint64)
    c = key.public_key.encrypt_encoded(encoded, sums)
    with ThreadPoolExecutor(2) as threads:
        ns = take_turns(
            {
                "encrypt, one thread": (lambda: key.public_key.encrypt_encoded(encoded, sums), values),
                "encrypt, two threads": (
                    lambda: key.public_key.encrypt_encoded(encoded, sums, executor=threads),
                    values,
                ),
                "decrypt, one thread": (lambda: key.decrypt_encoded(c), values),
                "decrypt, two threads": (lambda: key.decrypt_encoded(c, executor=threads), values),
            },
            repeats,
            time.perf_counter,
        )
    for what in ("encrypt", "decrypt"):
        one, two = ns[f"{what}, one thread"], ns[f"{what}, two threads"]
        show(f"2^{modulus_bits} {what}, two threads", two, f"{one.min() / two.min():.2f} times one thread")


def several_holders(modulus_bits: int, values: int, repeats: int, holders: int = 3, clients: int = 4) -> None:
    """Make a key without a dealer, sign and add uploads, decrypt; every step of one party."""
    names, uploaders = [f"holder{i}" for i in range(holders)], [f"client{i}" for i in range(clients)]
    identities = {name: Ed25519PrivateKey.generate() for name in (*names, *uploaders)}
    public = {name: key.public_key() for name, key in identities.items()}
    numbers = plan(clip=2.0**25, frac_bits=0, parties=1 << 10, bits=64)
    agreed = plan_release(
        numbers, holders=holders, releases=1, length=values, statistical_bits=20, modulus_bits=modulus_bits
    )
    print(f"\n{agreed}")
    terms = Terms(bytes(32), agreed, {name: public[name] for name in names})
    makers = {name: KeyHolder(name, terms, identities[name]) for name in names}

    def others(messages: dict[str, Any], me: str) -> dict[str, Any]:
        return {name: message for name, message in messages.items() if name != me}

    commitments = {name: maker.commit() for name, maker in makers.items()}
    openings = {name: maker.open(others(commitments, name)) for name, maker in makers.items()}
    confirmations = {name: maker.confirm(others(openings, name)) for name, maker in makers.items()}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        records = {
            name: stack.enter_context(DecryptionLog(folder / name, expected_epoch=0)) for name in names
        }
        shares = {
            name: maker.finish(others(confirmations, name), records[name]) for name, maker in makers.items()
        }
        key = shares[names[0]].public_key
        clients_keys = {name: public[name] for name in uploaders}
        round_ = Round(bytes(32), 0, key, agreed, (values,), clients_keys, terms.holders, 2)
        x = np.random.default_rng(3).integers(-(1 << 25), 1 << 25, values).view(np.uint64)
        uploads = {
            name: sign_upload(round_, name, key.encrypt_encoded(x, numbers), identities[name])
            for name in uploaders
        }
        collector, tallies = Collector(round_), {name: Tally(round_) for name in names}
        for name, upload in uploads.items():
            half = collector.add(name, upload)
            for tally in tallies.values():
                tally.add(half)
        votes = {name: tally.vote(identities[name], name) for name, tally in tallies.items()}
        partials = {
            name: share.partial_decrypt(tallies[name], votes, records[name]) for name, share in shares.items()
        }
        outcome, c0 = collector.close(), collector.total.c0
        assert np.array_equal(
            combine(outcome, c0, key, partials), (clients * x.view(np.int64)).view(np.uint64)
        )
        first = names[0]
        sealed = key.encrypt_encoded(x, numbers)
        ns = take_turns(
            {
                "sign an encrypted upload": (
                    lambda: sign_upload(round_, uploaders[0], sealed, identities[uploaders[0]]),
                    values,
                ),
                "check and add an upload": (
                    lambda: Collector(round_).add(uploaders[0], uploads[uploaders[0]]),
                    values,
                ),
                "partial decryption": (
                    lambda: shares[first].partial_decrypt(tallies[first], votes, records[first]),
                    values,
                ),
                f"combine {holders} of them": (lambda: combine(outcome, c0, key, partials), values),
            },
            repeats,
            time.process_time,
        )
    for name, times in ns.items():
        show(name, times)
    half_bytes = modulus_bits // 8
    print(
        f"  bytes a value: upload {2 * half_bytes}, to each key holder {half_bytes}, from each {half_bytes}"
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--repeats", type=int, default=None, help="measurements of each step")
    parser.add_argument("--values", type=int, default=None, help="numbers in a vector")
    options = parser.parse_args(argv)
    repeats = options.repeats or (2 if options.tiny else 15)
    values = options.values or (1 << 13 if options.tiny else 1 << 18)
    print(
        f"python {platform.python_version()}, numpy {np.__version__}, {platform.machine()}, {os.cpu_count()} cores, "
        f"{repeats} repeats; TenSEAL {'not installed' if tenseal is None else tenseal.__version__}, CKKS 4096 [60, 49] "
        "at 2^40, public key, 128-bit security, one thread"
    )
    for modulus_bits in (64, 96, 128):
        compare(modulus_bits, values, repeats)
    for modulus_bits in (96, 128):
        several_holders(modulus_bits, values, repeats)
    print("\nwall time on two threads")
    for modulus_bits in (64, 96, 128):
        two_threads(modulus_bits, values, repeats)


if __name__ == "__main__":
    main(sys.argv[1:])
