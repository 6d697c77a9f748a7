"""Where a party's result and run record go: found out before anything is sent, and never over something else.

A run's result is NAME.JOB.csv, its record NAME.JOB.json, and the record's private part NAME.JOB.private.json. If
one of them is there already the run does not begin.
The record of a run that failed is NAME.JOB.failed-TIME.json, TIME in UTC, so that it stands in nobody's way.

By the end of a run the disk may be full or the directory gone. Then the files go to a new directory of their owner's
alone, in the home directory or where the system keeps temporary files. A result and its record go there together, even
if one of them could be written where it was meant to.
"""

from __future__ import annotations

import contextlib
import datetime
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from secagg.errors import UsageError
from secagg.files import write_file
from secagg.party import PartyId

_MODE: Final = 0o600  # identifiers of customers are for their owner alone
_PROBE_BYTES: Final = 1 << 16  # a disk that is full takes an empty file


@dataclass(slots=True)
class Output:
    """A directory, and what a party's files in it are called.

    Attributes:
      elsewhere: the directory that took what could not be written; what follows goes there too.
    """

    directory: Path
    stem: str
    elsewhere: Path | None = field(default=None, init=False)

    @classmethod
    def probe(cls, directory: Path, *, me: PartyId, job: str) -> Output:
        """Return the output after making sure that it can be written.

        Raises:
          UsageError: it cannot, or there is a result of that name.
        """
        output = cls(directory, f"{me}.{job}")
        for path in map(output.path, (".csv", ".json", private_suffix(".json"))):
            if path.is_symlink() or path.exists():
                raise UsageError(
                    f"{path} exists and will not be overwritten; move it away, or choose another directory with --out"
                )
        try:
            directory.mkdir(parents=True, exist_ok=True)
            trial = output.path(f".trial-{_now()}")
            write_file(trial, bytes(_PROBE_BYTES), mode=_MODE)
            trial.unlink()
        except OSError as error:
            raise UsageError(
                f"cannot write the result to {directory}: {error.strerror}; choose another directory with --out"
            ) from None
        return output

    def path(self, suffix: str) -> Path:
        """Return the path of the file with this suffix."""
        return self.directory / f"{self.stem}{suffix}"

    def failed_suffix(self) -> str:
        """Return the suffix of the record of a run that fails now."""
        return f".failed-{_now()}.json"

    def keep(self, files: Mapping[str, bytes]) -> dict[str, Path]:
        """Write files of one run, by suffix, all of them elsewhere if one cannot be written here; return where they are.

        Raises:
          UsageError: a file can be written nowhere, not even alone. What could be written is named.
        """
        reasons: list[str] = []
        for directory in self._places():
            try:
                return self._write(directory, files)
            except OSError as error:
                reasons.append(f"{directory} ({error.strerror})")
        if len(files) > 1:
            return self._keep_apart(files)
        (suffix,) = files
        raise UsageError(f"cannot write {self.stem}{suffix} anywhere, it is lost: {', '.join(reasons)}")

    def _keep_apart(self, files: Mapping[str, bytes]) -> dict[str, Path]:
        """Save what can be saved where no place takes all files."""
        kept: dict[str, Path] = {}
        lost = []
        for suffix, content in files.items():
            try:
                kept |= self.keep({suffix: content})
            except UsageError as error:
                lost.append(str(error))
        if lost:
            saved = f"written: {', '.join(map(str, kept.values()))}" if kept else "nothing is written"
            raise UsageError(*lost, saved)
        return kept

    def _write(self, directory: Path, files: Mapping[str, bytes]) -> dict[str, Path]:
        """Write all files into a directory, or none."""
        written: dict[str, Path] = {}
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for suffix, content in files.items():
                path = directory / f"{self.stem}{suffix}"
                write_file(path, content, mode=_MODE)
                written[suffix] = path
        except OSError:
            for path in written.values():
                with contextlib.suppress(OSError):
                    path.unlink()
            if directory not in (self.directory, self.elsewhere):
                with contextlib.suppress(OSError):
                    directory.rmdir()
            raise
        if directory != self.directory:
            self.elsewhere = directory
        return written

    def _places(self) -> Iterator[Path]:
        yield self.directory if self.elsewhere is None else self.elsewhere
        for parent in (Path.home, lambda: Path(tempfile.gettempdir())):
            try:
                made = tempfile.mkdtemp(prefix=f"secagg-{self.stem}-", dir=parent())
            except (OSError, RuntimeError):  # RuntimeError: there is no home directory
                continue
            yield Path(made)


def private_suffix(suffix: str) -> str:
    """Return the suffix of the private part of the record with this suffix."""
    return f"{suffix.removesuffix('.json')}.private.json"


def _now() -> str:
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S.%fZ}"
