"""What is compared with which peer: how its environment is made, our side, its side.

Each side is a fresh process (or a few) that does the same work on the same machine. It gives an amount for each row: seconds
or bytes. It gives the largest error where that is measured. Peers' scripts run in the peer's own Python. Ours run in
this one, by `python -m benchmarks.peers --ours NAME`.

The module is long because our side and a peer's stand together, so that it shows that they do the same.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.parties import one_thread

one_thread()

import numpy as np  # noqa: E402  # after one_thread

from benchmarks import beside, learning, masked, two_organisations  # noqa: E402
from benchmarks.peers.fastest import fastest  # noqa: E402
from secagg.fixed_point import plan  # noqa: E402

HERE: Final = Path(__file__).parent
TIMEOUT_S: Final = 1800  # of a peer's script: a peer that hangs is left out


class Amount(NamedTuple):
    """What a row took.

    Attributes:
      unit: `s` for seconds, `B` for bytes.
      error: the largest difference from the exact result; None where it is not measured.
    """

    amount: float
    unit: str = "s"
    error: float | None = None


Side = dict[str, Amount]


class Comparison(NamedTuple):
    """A peer, and work that it and we do alike.

    Attributes:
      name: of its environment.
      package: the distribution whose version is printed.
      pins: arguments of `pip install`, one command after the other.
      ours: returns our side; in a small size when told so.
      theirs: returns the peer's side by its Python; in a small size when told so.
      note: how the work is done on both sides.
    """

    name: str
    title: str
    package: str
    pins: tuple[tuple[str, ...], ...]
    ours: Callable[[bool], Side]
    theirs: Callable[[str, bool], Side]
    note: str


class PeerFailedError(Exception):
    """A peer's script ended with an error, or printed something else than was expected."""


def run_script(command: list[str]) -> list[dict[str, Any]]:
    """Return the lines of JSON that a script prints.

    Raises:
      PeerFailedError: it ended with an error, took too long, or printed none.
    """
    # A group of its own: a script that hangs is ended with the processes that it started. It stays in the session, by which
    # Linux shares out processors, so that a priority given to the session holds for both sides.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    ) as process:
        try:
            printed, said = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise PeerFailedError(f"{Path(command[1]).name} took longer than {TIMEOUT_S} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    try:
        lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    except ValueError:
        raise PeerFailedError(f"{Path(command[1]).name} printed something else than JSON") from None
    if process.returncode or not lines:
        last = (said.strip().splitlines() or ["nothing on its standard error"])[-1]
        raise PeerFailedError(f"{Path(command[1]).name} ended with {process.returncode}: {last[:300]!a}")
    return lines


def words(*parts: Any) -> list[str]:
    return [str(part) for part in parts]


# python-paillier


def phe_ours(tiny: bool) -> Side:
    from benchmarks.paillier import PLAN
    from secagg.he.paillier import SecretKey

    bits, residues, repeats = (2048, 1, 1) if tiny else (3072, 32, 5)
    key = SecretKey.generate(bits)
    public = key.public_key
    public.prepare()
    slots = public.encrypt([0.0], PLAN).slots
    x = np.random.default_rng(1).uniform(-1000, 1000, slots * residues)
    one, total = public.encrypt(x, PLAN), public.encrypt(x, PLAN)
    error = float(abs(key.decrypt(one + total) - 2 * x).max())

    def add() -> None:
        nonlocal total
        for _ in range(8):
            total += one

    seconds = fastest(
        {
            "encrypt": (lambda: public.encrypt(x, PLAN), x.size),
            "add": (add, 8 * x.size),
            "decrypt": (lambda: key.decrypt(one), x.size),
        },
        repeats,
    )
    return _encryption(seconds, len(one.to_bytes()) / x.size, error)


def phe_theirs(python: str, tiny: bool) -> Side:
    sizes = ("--bits", 2048, "--numbers", 1, "--repeats", 1) if tiny else ()
    (line,) = run_script(words(python, HERE / "phe_steps.py", *sizes))
    return _encryption(line["seconds"], line["bytes"], 0)


def _encryption(seconds: dict[str, float], size: float, error: float, kind: str = "") -> Side:
    titles = {"write": "write as bytes"}
    rows = {f"{kind}{titles.get(step, step)}, a number": Amount(s) for step, s in seconds.items()}
    rows[f"{kind}ciphertext, a number"] = Amount(size, "B", error)
    return rows


# TenSEAL

RLWE, CKKS = "RLWE, q = 2^64: ", "CKKS: "


def tenseal_ours(tiny: bool) -> Side:
    from secagg.he import ckks, rlwe

    numbers, repeats = (4096, 1) if tiny else (1 << 18, 5)
    sums = plan(clip=1.0, frac_bits=20, parties=1000, bits=64)
    x = np.random.default_rng(1).uniform(-1, 1, numbers)
    key: Any = rlwe.SecretKey.generate(rlwe.parameters(64))
    rows = _sums(key, x, sums, RLWE, repeats)
    x = x[: 3000 if tiny else 100_000]
    key = ckks.SecretKey.generate(ckks.CONTEXTS["4096"])
    return rows | _sums(key, x, plan(clip=1.0, frac_bits=20, parties=1000), CKKS, repeats)


def _sums(key: Any, x: np.ndarray, sums: Any, kind: str, repeats: int) -> Side:
    encrypt = key.encrypt if kind == CKKS else key.public_key.encrypt
    written = encrypt(x, sums).to_bytes()
    total, other = (key.public_key.read_bytes(written) for _ in range(2))
    total += other
    error = float(abs(key.decrypt(total) - 2 * x).max())

    def add() -> None:
        nonlocal total
        for _ in range(8):
            total += other

    steps: dict[str, Any] = {
        "encrypt": (lambda: encrypt(x, sums), x.size),
        "add": (add, 8 * x.size),
        "decrypt": (lambda: key.decrypt(total), x.size),
        "write": (total.to_bytes, x.size),
    }
    return _encryption(fastest(steps, repeats), len(written) / x.size, error, kind)


def tenseal_theirs(python: str, tiny: bool) -> Side:
    from secagg.he.ckks import CONTEXTS

    context = CONTEXTS["4096"]
    script, repeats = HERE / "tenseal_steps.py", ("--repeats", 1 if tiny else 5)
    (vectors,) = run_script(
        words(python, script, *repeats, "--numbers", 4096 if tiny else 1 << 18, "--block", 2048)
    )
    same = (
        "--degree",
        context.degree,
        "--prime-bits",
        *context.prime_bits,
        "--scale-bits",
        context.scale_bits,
    )
    symmetric = ("--symmetric",) if context.symmetric else ()
    (one,) = run_script(
        words(python, script, *repeats, "--numbers", 3000 if tiny else 100_000, *same, *symmetric)
    )
    return {
        title: amount
        for kind, line in ((RLWE, vectors), (CKKS, one))
        for title, amount in _encryption(line["seconds"], line["bytes"], line["error"], kind).items()
    }


# Flower

CASES: Final = ((10, 1_000_000, 0), (10, 1_000_000, 2), (50, 100_000, 10))
TINY_CASES: Final = ((5, 1000, 1),)


def _masked(case: tuple[int, int, int], client: float, unmask: float, size: float, error: float) -> Side:
    clients, length, gone = case
    where = f"{clients} clients, {length:,} numbers, {gone} drop out"
    return {
        f"a client: {where}": Amount(client, "s", error),
        f"the server unmasks: {where}": Amount(unmask),
        f"a masked vector: {where}": Amount(size, "B"),
    }


def _masked_by_us(case: tuple[int, int, int]) -> Side:
    clients, length, gone = case
    parameters = masked.choose(clients, max_corrupt=0.2, max_dropout=0.2)
    t = masked.one_round(parameters, length, gone, packed=False, executor=None)
    return _masked(case, t.client_s, t.unmask_s, t.vector_bytes, t.error / (clients - gone))


def flower_ours(tiny: bool) -> Side:
    _masked_by_us(TINY_CASES[0])  # warms up
    return _joined(_masked_by_us(case) for case in (TINY_CASES if tiny else CASES))


def flower_theirs(python: str, tiny: bool) -> Side:
    cases = TINY_CASES if tiny else CASES
    names = [":".join(map(str, case)) for case in cases]
    first = ":".join(map(str, TINY_CASES[0]))  # warms up
    lines = run_script(words(python, HERE / "flower_secaggplus.py", "--cases", first, *names))
    rows: Side = {}
    for case, name in zip(cases, names, strict=True):
        t = [line for line in lines if line["case"] == name][-1]
        rows |= _masked(case, t["client_s"], t["unmask_s"], t["vector_bytes"], t["error"])
    return rows


# Operations on shares: CrypTen, MPyC, SPU

Jobs = tuple[tuple[str, int], ...]
CRYPTEN_JOBS: Final[Jobs] = (
    *((op, 64) for op in ("mul", "flag", "div", "exp")),
    *(("mul", 1_000_000), ("flag", 1_000_000), ("mm", 1000), ("div", 10_000), ("exp", 10_000)),
)
MPYC_JOBS: Final[Jobs] = (
    *((op, 64) for op in ("mul", "flag", "mm", "div", "sort")),
    *(("mul", 1000), ("flag", 1000)),
)
SPU_JOBS: Final[Jobs] = (
    *((op, 64) for op in ("mul", "cmp", "flag", "div", "exp", "pade", "sort")),
    *(("mul", 1_000_000), ("cmp", 1_000_000), ("flag", 1_000_000), ("mm", 1000)),
    *((op, 10_000) for op in ("div", "exp", "pade", "sort")),
)


def _chosen(jobs: Jobs, tiny: bool) -> Jobs:
    return tuple({op: (op, 8) for op, _ in jobs}.values()) if tiny else jobs


def _operation(op: str, n: int) -> str:
    return f"{beside.TITLES[op]}, {n:,} x {n:,}" if op == "mm" else f"{beside.TITLES[op]}, {n:,}"


def operations_ours(jobs: Jobs) -> Callable[[bool], Side]:
    def ours(tiny: bool) -> Side:
        rows: Side = {}
        left = list(_chosen(jobs, tiny))
        while left:  # a turn tells its results by operation, so each operation is in a turn once
            turn = list({op: (op, n) for op, n in reversed(left)}.values())[::-1]
            left = [job for job in left if job not in turn]
            measured = beside.our_turn(turn, 3, 2)
            rows |= {
                _operation(op, n): Amount(measured[op].seconds, "s", measured[op].error) for op, n in turn
            }
        return rows

    return ours


def operations_theirs(script: str, jobs: Jobs) -> Callable[[str, bool], Side]:
    def theirs(python: str, tiny: bool) -> Side:
        items = [f"{op}:{n}" for op, n in _chosen(jobs, tiny)]
        lines = run_script(words(python, HERE / script, "--repeats", 2, "--ops", *items))
        return {
            _operation(line["op"], line["n"]): Amount(min(line["seconds"]), "s", line["error"])
            for line in lines
        }

    return theirs


ROWS, COLUMNS = 10_000, 100
STEP = f"gradient step of a logistic regression, {ROWS:,} rows, {COLUMNS} columns"


def _step(wall: float, processor: float) -> Side:
    return {STEP: Amount(wall), f"{STEP}, processors' time": Amount(processor)}


def crypten_ours(tiny: bool) -> Side:
    rows = operations_ours(CRYPTEN_JOBS)(tiny)
    return rows if tiny else rows | _step(*learning.gradient_step(*learning.made_up_rows(ROWS, COLUMNS)))


def crypten_theirs(python: str, tiny: bool) -> Side:
    rows = operations_theirs("crypten_ops.py", CRYPTEN_JOBS)(python, tiny)
    if tiny:
        return rows
    (line,) = run_script(learning.crypten_command(python, ROWS, COLUMNS))
    return rows | _step(line["seconds"], line["processor"])


# openmined-psi

PSI: Final = {
    "common": "intersection by Diffie-Hellman",
    "transfers": "intersection by oblivious transfers",
    "count": "size of the intersection",
}


def _psi(kind: str, rows: int, wall: float, processor: float) -> Side:
    title = f"{PSI[kind]}, {rows:,} a side"
    return {title: Amount(wall), f"{title}, processors' time": Amount(processor)}


def psi_ours(tiny: bool) -> Side:
    rows = 20 if tiny else 10_000
    sides = (_psi(kind, rows, *two_organisations.ours(kind, rows)[:2]) for kind in PSI)
    return _joined(sides)


def psi_theirs(python: str, tiny: bool) -> Side:
    rows = 20 if tiny else 10_000
    told = {"common": "common", "transfers": "common", "count": "count"}
    taken = {
        kind: float(run_script(words(python, HERE / "openmined_psi.py", rows, kind))[0]["seconds"])
        for kind in set(told.values())
    }
    return _joined(_psi(kind, rows, taken[told[kind]], taken[told[kind]]) for kind in PSI)


def _joined(sides: Iterable[Side]) -> Side:
    return {title: amount for side in sides for title, amount in side.items()}


COMPARISONS: Final = (
    Comparison(
        "phe",
        "python-paillier (phe)",
        "phe",
        (("phe==1.5.0", "gmpy2==2.3.2"),),
        phe_ours,
        phe_theirs,
        "Processor time of one thread, n of 3072 bits. Ours packs slots of 48 bits; phe encrypts each number by itself. "
        "Keys and tables are made before.",
    ),
    Comparison(
        "tenseal",
        "TenSEAL",
        "tenseal",
        (("tenseal==0.3.18", "numpy==2.4.6"),),
        tenseal_ours,
        tenseal_theirs,
        "Processor time of one thread. RLWE: 262,144 numbers by a public key, beside TenSEAL's CKKS 4096 [60, 49] in "
        "vectors of 2,048. CKKS: 100,000 numbers; `secagg.he.ckks` stands on TenSEAL, and both have the same parameters.",
    ),
    Comparison(
        "flower",
        "Flower's SecAgg+",
        "flwr",
        (("flwr==1.41.0", "numpy==2.4.6"),),
        flower_ours,
        flower_theirs,
        "One thread, 32-bit ring, semi-honest server, no network and no serialisation timed. Errors are of the mean.",
    ),
    Comparison(
        "crypten",
        "CrypTen",
        "crypten",
        (
            ("torch==2.13.0", "numpy==2.4.6", "omegaconf==2.4.0", "pyyaml==6.0.4"),
            ("--no-deps", "crypten==0.4.1"),
        ),
        crypten_ours,
        crypten_theirs,
        "Three processes. Ours go over TLS, CrypTen's over plain loopback with triples from a trusted first party.",
    ),
    Comparison(
        "mpyc",
        "MPyC",
        "mpyc",
        (("mpyc==0.11", "numpy==2.4.6", "gmpy2==2.3.2"),),
        operations_ours(MPYC_JOBS),
        operations_theirs("mpyc_ops.py", MPYC_JOBS),
        "Three processes. Ours go over TLS, MPyC's over plain loopback.",
    ),
    Comparison(
        "spu",
        "SPU (ABY3)",
        "spu",
        (("spu==0.9.5",),),
        operations_ours(SPU_JOBS),
        operations_theirs("spu_ops.py", SPU_JOBS),
        "Three processes. Ours go over TLS, SPU's over plain loopback. SPU's default exponential is far from exact, "
        "Padé's is closer.",
    ),
    Comparison(
        "psi",
        "openmined-psi",
        "openmined-psi",
        (("openmined-psi==2.0.6",),),
        psi_ours,
        psi_theirs,
        "Ours are two processes over TLS. openmined-psi runs both roles in one process without a network, by Diffie-Hellman "
        "in every row.",
    ),
)
