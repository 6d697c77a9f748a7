"""A pattern's example data as files: a table for each party, and a job file that fits them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from secagg.errors import UsageError
from secagg.jobs.job import Job
from secagg.jobs.job_file import load_job
from secagg.party import PartyId
from secagg.patterns.example import Example, FileTable, example_of
from secagg.patterns.parameters import toml
from secagg.patterns.registry import find

JOB_FILE: Final = "job.toml"
_FIRST_PORT: Final = 7401


@dataclass(frozen=True)
class ExampleFiles:
    """Files of a pattern's example data.

    Attributes:
      job_file: names certificates that nobody has made, for a run of all parties on one machine needs none.
      job: as the file has it.
      tables: each input party's files, by the pattern's names of tables.
    """

    example: Example
    job_file: Path
    job: Job
    tables: Mapping[PartyId, Mapping[str, Path]]

    def options(self) -> dict[PartyId, list[str]]:
        """Return each input party's options of `secagg run`."""
        found = {}
        for name, files in self.tables.items():
            found[name] = [word for table, path in files.items() for word in ("--data", f"{table}={path}")]
            found[name] += ["--allow-empty"] if self._some_empty else []
        return found

    def command(self) -> list[str]:
        """Return the lines of the command that runs the job with all parties on this machine."""
        words = [f"secagg run {self.job_file} --local --out {self.job_file.parent / 'results'}"]
        words += ["--allow-empty"] if self._some_empty else []
        words += [
            f"--data {name}={table}={path}"
            for name, files in self.tables.items()
            for table, path in files.items()
        ]
        return [*(f"{word} \\" for word in words[:-1]), words[-1]]

    @property
    def _some_empty(self) -> bool:
        tables = [table for own in self.example.tables.values() for table in own.values()]
        return any(len(next(iter(columns.values()))) == 0 for columns in tables)


def write_example(pattern: str, folder: Path, *, seed: int) -> ExampleFiles:
    """Write a pattern's example data into a folder, which is made if it is not there.

    Args:
      seed: the same seed gives the same files; files of the same names are replaced.

    Raises:
      UsageError: there is no such pattern, it brings no example data, or the folder cannot be written to.
      JobError: the example's parameters are none of the pattern's.
    """
    installed = find(pattern).pattern
    example = example_of(installed, seed)
    tables: dict[PartyId, dict[str, Path]] = {name: {} for name in example.tables}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, own in example.tables.items():
            for table, columns in own.items():
                tables[name][table] = folder / f"{name}.{table}.csv"
                _write(tables[name][table], list(installed.inputs[table]), columns)
        job_file = folder / JOB_FILE
        job_file.write_text(_job_text(pattern, example), "utf-8")
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from None
    return ExampleFiles(example, job_file, load_job(job_file, with_certificates=False), tables)


def _write(path: Path, fields: Sequence[str], columns: FileTable) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(fields)
        writer.writerows(zip(*(map(_cell, columns[field]) for field in fields), strict=True))


def _cell(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _job_text(pattern: str, example: Example) -> str:
    lines = [f'name = "{pattern}"', f'pattern = "{pattern}"', "", "[parameters]"]
    lines += [f"{name} = {toml(value)}" for name, value in example.parameters.items()]
    roles = example.all_roles()
    lines += ["", "[roles]", *(f"{role} = {json.dumps(names)}" for role, names in roles.items())]
    parties = dict.fromkeys(name for names in roles.values() for name in names)
    for port, name in enumerate(parties, _FIRST_PORT):
        lines += ["", "[[parties]]", f'name = "{name}"', f'address = "127.0.0.1:{port}"']
        lines += [f'certificate = "{name}.crt"']
    return "\n".join(lines) + "\n"
