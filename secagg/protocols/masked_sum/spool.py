"""Records in a file on disk that are written once and read a few at a time: what a server relays in little memory."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from secagg.errors import UsageError


class Spool:
    """A new file that records are appended to, readable by its owner alone.

    Raises:
      UsageError: the file is there already or cannot be written to.
    """

    __slots__ = ("_end", "_file", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._end = 0
        try:
            self._file = os.fdopen(
                os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb"
            )
        except OSError as error:
            raise _unwritable(path, error) from None

    def append(self, record: bytes) -> int:
        """Write a record, and return where it begins; raises UsageError where there is no room."""
        begin = self._end
        try:
            self._file.write(record)
        except OSError as error:
            raise _unwritable(self.path, error) from None
        self._end += len(record)
        return begin

    def close(self) -> None:
        """Have all records written; raises UsageError where there is no room."""
        try:
            self._file.close()
        except OSError as error:
            raise _unwritable(self.path, error) from None


class Records:
    """A file of records, open for reading; a context manager.

    Raises:
      UsageError: there is no such file.
    """

    __slots__ = ("_descriptor", "_path")

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(f"cannot read {path}, where a sum is kept: {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def read(self, begin: int, size: int) -> bytes:
        """Return so many bytes from a place on.

        Raises:
          UsageError: the file ends before.
        """
        found = os.pread(self._descriptor, size, begin)
        if len(found) != size:
            raise UsageError(
                f"expected {size} bytes at {begin} of {self._path}, where a sum is kept, got {len(found)}"
            )
        return found


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot write to {path}, where a sum is kept: {error.strerror}")
