"""Results in a file, a line of JSON each, so that an interrupted campaign goes on where it ended.

A case that the file holds is not run again, if it was measured on this machine with these versions. Results of others stay
in the file, and are measured anew beside them: figures of two machines are not comparable.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from secagg.errors import UsageError
from secagg.files import check_format

NAME: Final = "results.jsonl"
FORMAT: Final = 1
_MOST_BYTES: Final = 1 << 30
_BEGINS: Final = b'{"format": '  # as `measure` begins a result, and so each line
_NEEDED: Final = frozenset(
    {"format", "case", "key", "where", "parties", "links", "networks", "machine", "versions"}
)


class Store:
    """Results of a folder.

    Args:
      folder: made if it is not there.
      here: digest of machine and versions; see `machine.where`.

    Attributes:
      results: all that the file holds, in order.

    Raises:
      UsageError: the folder cannot be used, or the file holds something else.
    """

    def __init__(self, folder: Path, here: str) -> None:
        self.path = folder / NAME
        self.here = here
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot write to {folder}: {error.strerror}") from None
        self.results = read(self.path) if self.path.exists() else []

    @property
    def elsewhere(self) -> int:
        """How many results are of another machine or other versions."""
        return sum(result["where"] != self.here for result in self.results)

    def finished(self, key: str) -> dict[str, Any] | None:
        """Return the result of a case that was measured here, None if there is none."""
        found = [result for result in self.results if result["key"] == key and result["where"] == self.here]
        return found[-1] if found else None

    def add(self, result: dict[str, Any]) -> None:
        """Append a result; it is on the disk when this returns."""
        self.results.append(result)
        try:
            with self.path.open("ab+") as file:
                # A line that was cut off by a crash must not spoil the next.
                ended = file.tell() == 0 or (file.seek(-1, os.SEEK_END), file.read())[1] == b"\n"
                file.write(b"\n" * (not ended) + json.dumps(result).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UsageError(f"cannot write to {self.path}: {error.strerror}") from None


def read(path: Path) -> list[dict[str, Any]]:
    """Return the results of a file; lines that were cut off while they were added are left out.

    Raises:
      UsageError: the file cannot be read, is too long, or holds something else.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UsageError(f"expected results of at most {_MOST_BYTES} bytes in {path}")
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    lines = content.split(b"\n")
    if content.startswith(b"["):  # results.json, which is written at the end of a campaign
        try:
            lines = [json.dumps(one).encode() for one in json.loads(content)]
        except (ValueError, RecursionError):
            raise UsageError(
                f"expected results of secagg bench in {path}, got something else in line 1"
            ) from None
    results = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError:
            if line.startswith(_BEGINS) or _BEGINS.startswith(line):
                continue  # cut off by a crash
            raise UsageError(
                f"expected results of secagg bench in {path}, got something else in line {number}; results.jsonl and "
                "results.json hold them whole"
            ) from None
        if isinstance(found, dict):
            check_format(found.get("format"), FORMAT, what=f"line {number} of {path}")
        if not isinstance(found, dict) or not found.keys() >= _NEEDED:
            raise UsageError(
                f"expected results of secagg bench in {path}, got something else in line {number}"
            )
        results.append(found)
    return results
