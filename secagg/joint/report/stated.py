"""What gates stated before a run, in words.

Statements are read by their shape and not by their gates' own types: a report also tells of runs with gates that this
release does not have. What is not understood is told as its size and digest.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

_LONGEST: Final = 300


@dataclass(frozen=True, slots=True)
class Stated:
    """What one party stated at one gate, as lines of text."""

    gate: str
    party: str
    lines: tuple[str, ...]


def stated_by_gate(gates: Mapping[str, Any]) -> tuple[Stated, ...]:
    """Return what each party stated, by gate; `gates` is that of a run record.

    Raises:
      TypeError, AttributeError, KeyError: it is none.
    """
    found = [
        Stated(str(gate), str(party), _lines(str(gate), statement))
        for party, told in gates.items()
        for gate, statement in told["statements"].items()
    ]
    return tuple(sorted(found, key=lambda one: (one.gate, one.party)))


def screened_lines(screened: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a party's own gates left out of its rows; `screened` is that of the private part of a run record.

    Raises:
      TypeError, AttributeError, KeyError: it is none.
    """
    lines = []
    for said in screened.values():
        for table, rows in (said.get("excluded") or {}).items():
            lines.append(f"{table}: {int(rows)} rows left out by exclusion lists")
        for table, counts in (said.get("suppressed") or {}).items():
            cells = int(counts["rows_with_cells"])
            lines.append(f"{table}: {int(counts['rows'])} rows suppressed, and cells of {cells} more")
    return tuple(lines)


def _lines(gate: str, encoded: Any) -> tuple[str, ...]:
    try:
        statement = base64.b64decode(encoded, validate=True)
    except (binascii.Error, TypeError, ValueError):
        return ("something that cannot be read",)
    if not statement:
        return ("nothing",)
    try:
        lines = _READ.get(gate, _plain)(msgspec.msgpack.decode(statement))
    except (
        msgspec.MsgspecError,
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
    ):
        digest = hashlib.sha256(statement).hexdigest()[:16]
        lines = [f"{len(statement)} bytes, SHA-256 {digest}"]
    return tuple(line[:_LONGEST] for line in lines) or ("nothing",)


def _approval(content: Any) -> list[str]:
    consortium, version, template_runs, content_runs, approvals = content
    lines = [f"consortium version {version}, digest {consortium.hex()[:16]}"]
    lines += [f"runs before this one: {template_runs} of the template, {content_runs} of this very job"]
    for one in approvals:
        about = f"approved by {one['party']}/{one['person']} at {one['at']}"
        # Of a job or template the job file says how many runs there may be.
        lines.append(f"this run's values {about}, for {one['times']} runs" if one["kind"] == "run" else about)
    return lines


def _audit(content: Any) -> list[str]:
    length, hashes, _ = content
    return [f"log of {length} entries, head {hashes[-1].hex()[:16]}"]


def _budget(content: Any) -> list[str]:
    lines = [f"tables that are charged: {', '.join(map(str, content['tables'])) or 'none'}"]
    for one in content["releases"]:
        tables = ", ".join(map(str, one["tables"]))
        lines.append(
            f"spent: epsilon {one['epsilon']:g}, delta {one['delta']:g} a {one['unit']}, of {tables}"
        )
    return lines if content["releases"] else [*lines, "spent: one run; no noise was asked for"]


def _consent(content: Any) -> list[str]:
    lines = [
        f"{table}: {rows} rows or more did not enter, by exclusion lists"
        for table, rows in content["excluded"].items()
    ]
    for table, one in content["checked"].items():
        over = ", ".join(map(str, one["quasi_identifiers"]))
        diverse = f", l = {one['l']} in {', '.join(map(str, one['sensitive']))}" if one["sensitive"] else ""
        lines.append(f"{table}: k = {one['k']} over {over}{diverse}, as rows enter")
    if content["unchanged"]:
        lines.append(f"its rows are those of {len(content['unchanged'])} earlier runs of this job")
    return lines or ["no exclusions are told, and no anonymity was asked for"]


def _plain(content: Any) -> list[str]:
    items = content.items() if isinstance(content, Mapping) else enumerate(content)
    return [f"{name}: {value.hex()[:32] if isinstance(value, bytes) else value}" for name, value in items]


_READ: Final[Mapping[str, Callable[[Any], list[str]]]] = {
    "approval": _approval,
    "audit": _audit,
    "budget": _budget,
    "consent": _consent,
}
