"""Subjects of measurements: sums of vectors, operations of the engines, and patterns, each on made-up inputs.

A subject runs its parties' programs by whatever it is given to drive them: the simulator, or processes over TLS. What
comes out is compared with the same computation in plain numpy, or on the pooled tables.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from secagg import mpc
from secagg.aggregation.arguments import PROTECTIONS, protection_of
from secagg.aggregation.encrypted import Paillier
from secagg.aggregation.protection import SumJob
from secagg.bench.case import SIZED, Case, Kind
from secagg.bench.operations import OPERATIONS, Operation
from secagg.cost.network import LOOPBACK
from secagg.cost.operation import Cost
from secagg.data.synthetic import make
from secagg.errors import SecaggError, UsageError
from secagg.jobs.example_files import write_example
from secagg.jobs.inputs import InputTables
from secagg.network.simulated import Outcome
from secagg.party import Party, PartyId
from secagg.patterns import registry
from secagg.patterns.example import first_difference
from secagg.patterns.pattern import COMPUTING, INPUT, Pattern, Tables, Terms
from secagg.updates.coding import Request
from secagg.updates.structure import Structure

Drive = Callable[..., Outcome[Any]]

_FOUR: Final = "secret shares of which one of four parties may lie; 2^-128 of the hashes"
_THREE: Final = (
    "secret shares of three parties that follow the protocol; AES-256 for what they draw in common"
)
_SECURITY: Final = {
    "additive": "shares from AES-256 seeds; one of two aggregators keeps to the protocol",
    "masked": "128 bits (X25519, AES-256); graph fails with 2^-40",
    "bounded": "shares from AES-256 seeds; two of three aggregators do not collude",
    "paillier": "128 bits (factoring n of 3072 bits)",
    "ckks": "128 bits (ring learning with errors, HomomorphicEncryption.org tables)",
    "rlwe": "128 bits (ring learning with errors); statistical distance 2^-40",
}


@dataclass(frozen=True, slots=True)
class Finished:
    """What one run of a subject came to.

    Attributes:
      roles: party names by role.
      error: largest absolute difference from the plaintext reference.
      bound: what the protocol declares that it may be.
      declared: the declared cost of a party; None where nothing is declared.
      parameters: what the protocol chose, in words.
      security: under which assumption, and how well.
    """

    roles: Mapping[str, tuple[PartyId, ...]]
    error: float
    bound: float
    declared: Callable[[PartyId], Cost] | None = field(repr=False)
    parameters: str
    security: str


@dataclass(frozen=True, slots=True)
class Subject:
    """A case made ready: its inputs are there, and it can be run any number of times."""

    case: Case
    run: Callable[[Drive], Finished]


def names() -> dict[Kind, tuple[str, ...]]:
    """Return what can be measured."""
    return {
        "protocol": tuple(kind.name for kind in PROTECTIONS),
        "operation": tuple(OPERATIONS),
        "pattern": registry.names(),
    }


def check(case: Case) -> None:
    """Check a case without making its inputs, so that a campaign is refused before its first run.

    Raises:
      UsageError: there is no such subject, or it has no such size.
      PlanError: no parameters fit.
    """
    known = names()[case.kind]
    if case.name not in known:
        raise UsageError(f"expected a {case.kind} among {', '.join(known)}, got {case.name!r:.80}")
    if case.kind == "protocol":
        protection_of(case.name).check(case.parties)
    elif case.engine not in (3, 4):
        raise UsageError(f"expected 3 or 4 computing parties, got {case.engine}")
    if case.kind == "pattern":
        if (case.size or case.parties) and case.name not in SIZED:
            raise UsageError(
                f"the example data of {case.name} have their own size; leave out sizes and parties, or choose "
                f"{' or '.join(SIZED)}"
            )
    elif case.size < 1:
        raise UsageError(f"expected a size of 1 or more for {case.name}, got {case.size}")


def prepare(case: Case) -> Subject:
    """Return a case with its inputs made; raises as `check`."""
    check(case)
    made = {"protocol": _sum, "operation": _operation, "pattern": _pattern}[case.kind]
    return Subject(case, made(case))


def within(finished: Finished) -> Finished:
    """Return what came out, or raise `SecaggError` where it is further from the reference than declared."""
    if not finished.error <= finished.bound:
        raise SecaggError(
            f"a result is {finished.error:.3g} from its reference, and {finished.bound:.3g} is declared; this must never "
            "happen"
        )
    return finished


def _sum(case: Case) -> Callable[[Drive], Finished]:
    protection, clients = protection_of(case.name), case.parties
    if isinstance(protection, Paillier):  # its key is made once, as in a deployment
        from secagg.he import paillier

        protection = replace(
            protection, secret_key=paillier.SecretKey.generate(protection.bits, s=protection.s)
        )
    rng = np.random.default_rng(case.seed)
    updates = {f"client{i}": rng.uniform(-1, 1, case.size) for i in range(clients)}
    structure = Structure(updates["client0"], "client0")
    precision = 2.0 ** -(case.frac_bits + 1) * clients if case.frac_bits else None
    coding = protection.coding(Request(structure, False, {"": 1.0}, precision, clients, None))
    vectors = {name: coding.encode(structure.flatten(x, name), 1)[0] for name, x in updates.items()}
    expected = np.sum(list(updates.values()), axis=0)

    def run(drive: Drive) -> Finished:
        outcome = protection.run(SumJob(vectors, coding.plan, {}, None, coding, drive))
        decoded = coding.decode(outcome.total, clients, outcome.error)
        error = float(np.abs(decoded.arrays[0] - expected).max())
        return within(
            Finished(
                outcome.roles,
                error,
                max(decoded.errors.values()),
                outcome.declared,
                outcome.parameters,
                _SECURITY[case.name],
            )
        )

    return run


def declared_operation(name: str, size: int, engine: int) -> Cost:
    """Return what an operation is declared to cost among so many computing parties; nothing is computed."""
    parties = tuple(f"party{i}" for i in range(engine))
    program = _operation_program(OPERATIONS[name], size, dict.fromkeys(parties[:2]))
    return mpc.cost(program, dict.fromkeys(parties, ()))


def _operation_program(
    operation: Operation, size: int, owned: Mapping[PartyId, Any]
) -> Callable[[Any], Coroutine[Any, Any, Any]]:
    """Return the program: two parties share their operands, and the first learns the result."""

    async def program(party: Any) -> Any:
        with party.phase("set up"):
            engine = await mpc.Engine.create(party)
        with party.phase("operation"):
            one, other = (
                engine.share(
                    values if party.me == owner else None, owner=owner, shape=size, dtype=operation.dtype
                )
                for owner, values in owned.items()
            )
            return await engine.open(operation.run(one, other), to=next(iter(owned)))

    return program


def _operation(case: Case) -> Callable[[Drive], Finished]:
    operation, parties = OPERATIONS[case.name], tuple(f"party{i}" for i in range(case.engine))
    x, y = operation.operands(np.random.default_rng(case.seed), case.size)
    program = _operation_program(operation, case.size, dict(zip(parties, (x, y), strict=False)))
    declared = declared_operation(case.name, case.size, case.engine)

    def run(drive: Drive) -> Finished:
        outcome = drive(dict.fromkeys(parties, program), network=LOOPBACK, faults=(), starts={})
        found = np.asarray(outcome.values()[0][0])
        wanted = np.asarray(operation.plain(x, y))
        if found.shape != wanted.shape:
            raise SecaggError(
                f"expected a result of shape {wanted.shape}, got {found.shape}; this must never happen"
            )
        error = float(np.abs(found.astype(np.float64) - wanted.astype(np.float64)).max())
        return within(
            Finished(
                {"computing": parties},
                error,
                operation.bound(x, y),
                lambda name: replace(declared, payload_bytes={name: declared.payload_bytes[name]}),
                f"{operation.dtype if operation.dtype is not bool else 'bool'}, {case.size} elements, ring of 64 bits",
                _THREE if case.engine == 3 else _FOUR,
            )
        )

    return run


def _pattern(case: Case) -> Callable[[Drive], Finished]:
    pattern, parameters, terms, tables, tolerance = _example(case)
    inputs = terms.input_parties
    if len(terms.roles.get(COMPUTING, ())) not in (0, case.engine):
        roles = {role: names for role, names in terms.roles.items() if role != COMPUTING}
        names = (*inputs, *(f"helper{i}" for i in range(1, 5)))[: case.engine]
        terms = replace(
            terms, parties=tuple(dict.fromkeys((*terms.parties, *names))), roles=roles | {COMPUTING: names}
        )
    elif COMPUTING not in pattern.roles and case.engine != 3:
        raise UsageError(
            f"{pattern.name} has no computing parties, so that there is no engine of {case.engine} to choose"
        )
    pattern.check(parameters, terms)
    expected = pattern.reference(parameters, terms, tables)

    async def take_part(party: Party) -> Any:
        mine = tables.get(party.me)
        contribution = None if mine is None else pattern.prepare(parameters, terms, mine)
        with party.phase("agree"):
            agreed = await pattern.agree(party, parameters, terms, contribution)
        rows = await pattern.run(party, parameters, terms, agreed)
        return dict(agreed.rows), None if rows is None else [tuple(row) for row in rows]

    def run(drive: Drive) -> Finished:
        outcome = drive(dict.fromkeys(terms.parties, take_part), network=LOOPBACK, faults=(), starts={})
        found = dict(zip(terms.parties, outcome.values(), strict=True))
        for name, rows in expected.items():
            difference = first_difference(found[name][1], rows, tolerance)
            if difference is not None:
                raise SecaggError(
                    f"{pattern.name} differs from its pooled reference at {name}: {difference}; this must never happen"
                )
        declared = pattern.cost(parameters, terms, found[terms.parties[0]][0])
        computing = terms.roles.get(COMPUTING, ())
        return Finished(
            {"computing": computing, INPUT: tuple(n for n in inputs if n not in computing)},
            0.0,
            tolerance,
            lambda name: replace(declared, payload_bytes={name: declared.payload_bytes.get(name, 0)}),
            f"{sum(found[terms.parties[0]][0].values())} rows announced in all; results equal the pooled tables'"
            + (f" within {tolerance:g}" if tolerance else ""),
            _FOUR if len(computing) == 4 else _THREE if computing else "see the page of the pattern",
        )

    return run


def _example(case: Case) -> tuple[Pattern, Any, Terms, Mapping[PartyId, Tables], float]:
    """Return a pattern with parameters, terms and made-up tables."""
    with tempfile.TemporaryDirectory(prefix="secagg-bench-") as folder:
        files = write_example(case.name, Path(folder), seed=case.seed)
        job, paths = files.job, files.tables
        terms, parameters = job.terms, job.parameters
        if case.size or case.parties:
            table = SIZED[case.name]
            banks, rows = case.parties or 3, case.size or 1000
            total = banks * rows
            few = max(1, min(20, total // 60))  # planted ones take less than half of the rows
            truth = make(
                Path(folder),
                banks=banks,
                rows=total,
                deposits=total,
                collectors=few,
                lookalikes=0,
                rings=few,
                seed=case.seed,
            )
            own = {bank: {table: Path(folder) / f"{bank}.{table}.csv"} for bank in truth.banks}
            roles = {INPUT: truth.banks, COMPUTING: truth.banks[:3]}
            paths, parameters = own, job.pattern.Parameters()
            terms = replace(terms, parties=truth.banks, roles=roles)
        tables = {
            name: InputTables(job, [f"{t}={path}" for t, path in own.items()], allow_empty=True, me=name)()
            for name, own in paths.items()
        }
    return job.pattern, parameters, terms, tables, files.example.tolerance
