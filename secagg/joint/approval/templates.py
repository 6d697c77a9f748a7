"""Job files to begin with: all that a job needs, with comments that say what to decide."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from secagg.errors import JobError, UsageError
from secagg.jobs.job_file import parse_job
from secagg.jobs.query_values import parameters_of
from secagg.joint.consortium import Consortium
from secagg.patterns.parameters import shown_parameters
from secagg.patterns.pattern import COMPUTING, INPUT, Pattern, RoleSize
from secagg.printable import printable

_DAYS: Final = 90
_EXAMPLE: Final = ("north", "south", "west")
_SOME: Final = {INPUT: RoleSize(1, 255), COMPUTING: RoleSize(3, 4), "result": RoleSize(0, 255)}


def pattern_template(pattern: Pattern, consortium: Consortium | None, author: str | None) -> str:
    """Return a job file for a pattern.

    Args:
      consortium: whose members become parties; without, names to be replaced.
      author: the person who writes it.
    """
    defaults = shown_parameters(pattern.Parameters())
    lines = [
        f"# {pattern.summary}",
        f"name = {json.dumps(f'{pattern.name}-1')}",
        f"pattern = {json.dumps(pattern.name)}",
        "pad_rows_to = 1                 # row counts are announced as multiples of this; more hides how many there are",
        "",
        "[parameters]                    # these are the defaults; see `secagg patterns`",
        *(f"# {name} = {value}" for name, value in defaults.items()),
    ]
    if any(schema.time is not None for schema in pattern.inputs.values()):
        lines += [
            "",
            "# [window]                      # which rows count, half-open",
            "# start = 2026-09-01",
            "# end = 2026-10-01",
        ]
    lines += _parties(consortium, pattern.roles)
    lines += _agreement(consortium, author)
    vary = next((name for name, value in defaults.items() if value.replace(".", "", 1).isdigit()), None)
    lines += [
        "",
        "# [vary]                        # makes it a template: what each run may choose, within bounds",
        *([f"# {vary} = {{least = {defaults[vary]}, most = {defaults[vary]}}}"] if vary else []),
        "# window = {earliest = 2026-01-01, latest = 2027-01-01}",
    ]
    text = "\n".join(lines) + "\n"
    known = {} if consortium is None else consortium.directory()
    try:
        parse_job(text, file=Path("this file"), with_certificates=False, known=known)
    except JobError as error:
        text = f"# To be decided first: {printable(str(error).partition(': ')[2], 300)}\n{text}"
    return text


def query_template(sql: Path, consortium: Consortium | None, author: str | None) -> str:
    """Return a job file for a query; arguments as `pattern_template`."""
    if not sql.is_file():
        raise UsageError(f"expected a file with a query, and there is none at {sql}")
    lines = [
        f"name = {json.dumps(''.join(c if c.isalnum() else '-' for c in sql.stem)[:60] or 'query')}",
        f"sql = {json.dumps(str(sql))}                # a path from this file's directory",
        'tables = "tables.toml"          # the declaration of the tables: docs/sql.md',
        "pad_rows_to = 1                 # row counts are announced as multiples of this; more hides how many there are",
    ]
    try:
        asked = parameters_of(sql.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"cannot read a query in UTF-8 from {sql}") from None
    if asked:
        lines += [
            "",
            "[parameters]                    # texts, numbers, days or times, for the query's parameters",
        ]
        lines += [f'{name} = "VALUE"' for name in asked]
    lines += _parties(consortium, _SOME)
    owners = _names(consortium, INPUT)
    lines += [
        "",
        "[rules]                         # each owner's rules: docs/rules.md; without them nothing is suppressed",
        *(f"# {owner} = {json.dumps(f'{owner}-rules.toml')}" for owner in owners),
    ]
    lines += _agreement(consortium, author)
    return "\n".join(lines) + "\n"


def _parties(consortium: Consortium | None, sizes: Mapping[str, RoleSize]) -> list[str]:
    found: dict[str, list[str]] = {}
    for role, size in sizes.items():
        able = _names(consortium, role)
        if role == COMPUTING and len(able) > 3:
            able = able[:3]
        found[role] = able[: size.max] if size.min or role == INPUT else []
    busy = {name for names in found.values() for name in names}
    lines = []
    for name in _names(consortium, None):
        if name in busy:
            lines += ["", "[[parties]]", f"name = {json.dumps(name)}"]
            if consortium is None:
                lines += [f'address = "mpc.{name}.example:7400"', f'certificate = "{name}.crt"']
    lines += ["", "[roles]                         # words of ISO/IEC 4922-1"]
    for role, names in found.items():
        size = sizes[role]
        count = str(size.min) if size.min == size.max else f"{size.min} to {size.max}"
        lines += [f"{role} = {json.dumps(names)}  # {count} parties"]
    return lines


def _names(consortium: Consortium | None, role: str | None) -> list[str]:
    if consortium is None:
        return list(_EXAMPLE)
    return [
        name
        for name, member in sorted(consortium.members.items())
        if role not in (INPUT, COMPUTING, "result") or role in member.roles
    ]


def _agreement(consortium: Consortium | None, author: str | None) -> list[str]:
    me = consortium.me if consortium is not None else _EXAMPLE[0]
    until = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=_DAYS)
    return [
        "",
        "[agreement]                     # what people approve: docs/agreeing.md",
        f"author = {json.dumps(f'{me}/{author}' if author else f'{me}/NAME')}         # party and person who wrote this",
        f"until = {until}              # to the end of the day, UTC",
        "runs = 1                        # how often it may run",
        '# auditor = "NAME"              # who reads the audit log, and nothing else',
    ]
