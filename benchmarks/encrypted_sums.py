"""Thousands of clients' encrypted sums in one process: time a client, what the aggregator holds, exactness.

Runs the real protocols (`secagg.protocols.he_sum`), one client after the other. So the process holds one client at a
time besides aggregator, key holders and result party. Its peak memory bounds the aggregator's.
"""

from __future__ import annotations

import argparse
import os
import secrets
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.progress import Progress

from secagg.fixed_point import plan
from secagg.party import Party, Program, Roster, Run
from secagg.protocols.he_sum import single_key
from secagg.protocols.he_sum.terms import EncryptedSum, Terms
from secagg.protocols.roles import Roles

CLIP, FRAC_BITS = 4.0, 16


def carry(
    standing: dict[str, Program[Any]], clients: dict[str, Program[Any]], progress: Callable[[int], None]
) -> dict[str, Any]:
    """Run parties by hand: those that stand all the time, and clients one after the other; return the results."""
    roster, session = Roster((*standing, *clients)), secrets.token_bytes(32)
    held: dict[str, list[tuple[str, bytes]]] = defaultdict(list)  # for clients not there yet
    runs: dict[str, Run[Any]] = {}

    def enter(name: str, program: Program[Any]) -> None:
        party = Party(name, roster, session=session)
        runs[name] = Run(party, program(party))
        runs[name].start()

    def deliver(to: str, frame: bytes, sender: str) -> None:
        runs[to].party.deliver(bytearray(frame), sender)
        runs[to].advance()

    def settle(names: Sequence[str]) -> None:
        """Carry until these have nothing to say, and neither has anybody who heard from them."""
        speakers = list(names)
        while speakers:
            name = speakers.pop()
            outbox = runs[name].party.outbox
            while outbox:
                to, parts, _ = outbox.popleft()
                frame = b"".join(parts)
                if to in runs:
                    deliver(to, frame, name)
                    speakers.append(to)
                else:
                    held[to].append((name, frame))

    for name, program in standing.items():
        enter(name, program)
    settle(list(standing))
    for i, (name, program) in enumerate(clients.items()):
        enter(name, program)
        for sender, frame in held.pop(name, []):
            deliver(name, frame, sender)
        settle([name])
        runs.pop(name).result()
        progress(i + 1)
    return {name: run.result() for name, run in runs.items()}


def update(client: int, length: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return a client's made-up update: multiples of 2^-FRAC_BITS, so that exact sums can be told."""
    rng = np.random.default_rng(client)
    return rng.integers(-(1 << 17), (1 << 17) + 1, length) * 2.0**-FRAC_BITS


def lazily(client: int, length: int, program: Callable[..., Any]) -> Program[Any]:
    return lambda party: program(party, update(client, length))


def single(
    scheme: str, clients: int, length: int, executor: ThreadPoolExecutor, _: ExitStack
) -> tuple[str, Terms, Callable[..., Any]]:
    secret_key: Any
    if scheme == "paillier":
        from secagg.he import paillier

        secret_key = paillier.SecretKey.generate()
        about = f"3072 bits, s = {secret_key.public_key.s}"
    elif scheme == "ckks":
        from secagg.he import ckks

        secret_key = ckks.SecretKey.generate()
        about = f"context {secret_key.public_key.context.name}"
    else:
        from secagg.he.rlwe.keys import SecretKey

        secret_key = SecretKey.generate()
        about = secret_key.public_key.scheme
    names = tuple(f"client{i}" for i in range(clients))
    terms = Terms(
        Roles(names, ("aggregator",), ("holder",), ("holder",)), numbers(clients), (length,), min_clients=2
    )

    def program(party: Party, values: Any = None) -> Any:
        key = secret_key if party.me == "holder" else None
        return single_key.take_part(
            party, values, terms=terms, scheme_name=scheme, secret_key=key, executor=executor
        )

    return about, terms, program


def threshold(
    clients: int, length: int, executor: ThreadPoolExecutor, stack: ExitStack
) -> tuple[str, Terms, Callable[..., Any]]:
    from secagg.he.rlwe.decryption_log import DecryptionLog
    from secagg.he.rlwe.flooding import plan_release
    from secagg.protocols.he_sum import threshold_rlwe

    names = tuple(f"client{i}" for i in range(clients))
    holders = ("holder0", "holder1", "holder2")
    release_plan = plan_release(numbers(clients), holders=3, releases=1, length=length, statistical_bits=30)
    terms = Terms(
        Roles(names, ("aggregator",), ("holder0",), holders), numbers(clients), (length,), min_clients=2
    )
    signing = {name: Ed25519PrivateKey.generate() for name in (*names, *holders)}
    public = {name: key.public_key() for name, key in signing.items()}
    identities = threshold_rlwe.Identities(public, public)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    records = {
        holder: stack.enter_context(DecryptionLog(folder / holder, expected_epoch=0)) for holder in holders
    }

    async def program(party: Party, values: Any = None) -> EncryptedSum | None:
        common: dict[str, Any] = {
            "terms": terms,
            "release_plan": release_plan,
            "identities": identities,
            "identity": signing.get(party.me),
            "log": records.get(party.me),
        }
        key = await threshold_rlwe.agree_key(party, **common)
        return await threshold_rlwe.take_part(party, values, key=key, executor=executor, **common)

    return str(release_plan), terms, program


def numbers(clients: int) -> Any:
    return plan(clip=CLIP, frac_bits=FRAC_BITS, parties=clients)


SCHEMES: dict[str, Callable[..., tuple[str, Terms, Callable[..., Any]]]] = {
    "rlwe": partial(single, "rlwe"),
    "threshold-rlwe": threshold,
    "ckks": partial(single, "ckks"),
    "paillier": partial(single, "paillier"),
}


def measure(scheme: str, clients: int, length: int, executor: ThreadPoolExecutor, progress: Progress) -> None:
    with ExitStack() as stack:
        about, terms, program = SCHEMES[scheme](clients, length, executor, stack)
        standing = dict.fromkeys((terms.aggregator, *terms.roles.key_holders, *terms.roles.results), program)
        programs = {name: lazily(i, length, program) for i, name in enumerate(terms.roles.clients)}
        task = progress.add_task(scheme, total=clients)
        resident: list[int] = []

        def note(done: int) -> None:
            progress.update(task, completed=done)
            resident.append(resident_bytes())

        began = time.perf_counter()
        results = carry(standing, programs, note)
        seconds = time.perf_counter() - began
    total = next(result for result in results.values() if result is not None)
    expected = sum(update(i, length) for i in range(clients))
    worst = float(np.max(np.abs(total.total - expected)))
    exact = total.encoded is not None
    if worst > (0 if exact else total.error) or len(total.contributors) != clients:
        raise SystemExit(f"{scheme}: the sum is off by {worst:.3g}")
    early = max(resident[: max(1, clients // 10)])
    off = "exact" if exact else f"error {worst:.2g}, stated {total.error:.2g}"
    print(
        f"{scheme:14} {clients:6} clients of {length:7} numbers   {seconds:7.1f} s, {seconds / clients * 1e3:7.2f} ms "
        f"a client   at most {early / 1e6:6.0f} MB in the first tenth of them, {max(resident) / 1e6:6.0f} MB in all   {off}"
    )
    print(f"{'':15}{about}")


def resident_bytes() -> int:
    """Return how much memory this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--length", type=int, default=100_000)
    parser.add_argument("--paillier-length", type=int, default=5_000)
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=list(SCHEMES))
    parser.add_argument("--tiny", action="store_true", help="a few clients with little, to see that it runs")
    args = parser.parse_args(argv)
    if args.tiny:
        args.clients, args.length, args.paillier_length = 3, 5000, 20
    threads = os.cpu_count() or 1
    print(
        f"{threads} threads; numbers within +-{CLIP} with {FRAC_BITS} places; memory is that of the whole process: one "
        "client, aggregator, key holders, result party and interpreter"
    )
    with ThreadPoolExecutor(threads) as executor, Progress(transient=True) as progress:
        for scheme in args.schemes:
            length = args.paillier_length if scheme == "paillier" else args.length
            measure(scheme, args.clients, length, executor, progress)


if __name__ == "__main__":
    main()
