"""Small files that people exchange, read with a bound; digests of files; and files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from secagg.errors import UsageError
from secagg.release import RELEASE

__all__ = ["check_format", "file_digest", "read_file", "write_file"]

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_format(number: object, newest: int, *, what: str) -> None:
    """Refuse a file of a format that a later release brought.

    Args:
      number: what the file says; anything but a larger whole number is left to whoever reads it.
      newest: the largest number that is known here.
      what: what the file is, for the message.

    Raises:
      UsageError: the number is larger.
    """
    if isinstance(number, int) and number > newest:
        raise UsageError(
            f"{what} has format {number:.0f}, and secagg {RELEASE} reads formats up to {newest}: a later release "
            "wrote it; read it with that one"
        )


def read_file(path: Path, *, what: str, max_bytes: int, private: bool = False) -> bytes:
    """Return what a regular file holds; a device, a pipe or a large file is refused before it is read.

    Args:
      what: what the file is, for messages, such as "the job file".
      max_bytes: the largest size.
      private: refuse a file that others on this machine may read or write.

    Raises:
      UsageError: there is no such file, it cannot be read, or it is none of those above.
    """
    if "\0" in str(path):
        raise UsageError(f"cannot read {what} {path}: this cannot be the name of a file")
    try:
        # Without O_NONBLOCK a pipe that nobody writes to would block here.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                kind = "a directory" if stat.S_ISDIR(found.st_mode) else "a device or a pipe"
                raise UsageError(f"cannot read {what} {path}: expected a file, and this is {kind}")
            mode = stat.S_IMODE(found.st_mode)
            if private and mode & _OTHERS:
                raise UsageError(
                    f"others on this machine may read {what} {path} (mode {mode:04o}); run: chmod 600 {path}"
                )
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise UsageError(f"cannot read {what} {path}: {error.strerror}") from None
    if len(content) > max_bytes:
        raise UsageError(
            f"cannot read {what} {path}: expected at most {max_bytes} bytes; is it the right file?"
        )
    return content


def file_digest(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal.

    Raises:
      UsageError: it cannot be read, or is a device or a pipe.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"cannot read {path}: expected a file")
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


def write_file(path: Path, content: bytes, *, mode: int) -> None:
    """Write a new file, whole or not at all; nothing is ever overwritten.

    Raises:
      FileExistsError: there is something of that name.
      OSError: it cannot be written.
    """
    # The directory is opened once, so that both names are in the same one whatever is renamed meanwhile.
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    unfinished = f".{path.name[:100]}.{secrets.token_hex(8)}"
    try:
        descriptor = os.open(
            unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=directory
        )
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, mode)
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            _publish(directory, unfinished, path.name)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(unfinished, dir_fd=directory)
        with _undone(directory, path.name):
            os.fsync(directory)
    finally:
        os.close(directory)


def _publish(directory: int, unfinished: str, name: str) -> None:
    """Give a file its name unless something has it."""
    try:
        os.link(unfinished, name, src_dir_fd=directory, dst_dir_fd=directory)
    except FileExistsError:
        raise
    except OSError:
        # A file system without links. Claiming the name first keeps the promise that nothing is overwritten.
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory))
        with _undone(directory, name):
            os.rename(unfinished, name, src_dir_fd=directory, dst_dir_fd=directory)


@contextlib.contextmanager
def _undone(directory: int, name: str) -> Iterator[None]:
    """Remove a file of ours if the body fails."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=directory)
        raise
