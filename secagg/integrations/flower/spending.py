"""How many sums a node's data went into, kept beside its identity key: what a privacy budget is spent from.

Flower's own state is no place for it: an old copy of it would give back what is spent, and a server that begins another
run begins with an empty one. So one file for each kind of sum has a line for each: when, which, and the settings it was
made under. A line is written, and on the disk, before the node's vector leaves; of two that write at the same time,
each finds its place by the order of lines. The file says nothing about data. Whoever removes it starts a new budget.
"""

from __future__ import annotations

import dataclasses
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from secagg.aggregation.privacy import Privacy
from secagg.errors import RemoteProtocolError, UsageError


class Spending:
    """The budget of one kind of sum.

    Args:
      identity: path of the identity key, in a folder that can be written to.
      kind: "train" or "evaluate".
      privacy: what this node insists on.
    """

    __slots__ = ("_file", "_kind", "_privacy")

    def __init__(self, identity: Path, kind: str, privacy: Privacy) -> None:
        self._file = identity.parent / f".{identity.name}.spent-{kind}"
        self._kind, self._privacy = kind, privacy

    def check(self, *, server: str) -> int:
        """Return how many sums are spent.

        Raises:
          RemoteProtocolError: all that the budget is for, or they were made under other settings.
          UsageError: the file cannot be read.
        """
        spent = len(self._sums(server))
        if spent >= self._privacy.rounds:
            raise self._over(spent, server)
        return spent

    def take(self, nonce: bytes, *, server: str) -> None:
        """Spend one sum; to be called before its vector leaves.

        Raises:
          RemoteProtocolError: as `check`.
          UsageError: the file cannot be read or written.
        """
        self.check(server=server)
        settings = json.dumps(dataclasses.asdict(self._privacy))
        line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {nonce.hex()} {settings}\n".encode()
        try:
            # One write at the end of the file: lines of several processes do not mix.
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                written = os.write(descriptor, line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._sync_folder()
        except OSError as error:
            raise UsageError(
                f"cannot write to {self._file}, which counts the sums made of this node's data: {error.strerror}"
            ) from None
        sums = self._sums(server)
        if written != len(line) or nonce.hex() not in sums:
            raise UsageError(f"{self._file} does not take a line; is the disk full?")
        if sums.index(nonce.hex()) >= self._privacy.rounds:
            raise self._over(self._privacy.rounds, server)

    def _sync_folder(self) -> None:
        """Have the file's name on the disk as well: that of a new file is not there with its content."""
        if os.name == "posix":  # elsewhere folders cannot be opened
            folder = os.open(self._file.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _sums(self, server: str) -> list[str]:
        """Return the nonces of the sums so far, in order, as text."""
        try:
            lines = self._file.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read {self._file}, which counts sums: {error}") from None
        nonces = []
        for number, line in enumerate(lines, 1):
            try:
                _, nonce, text = line.split(" ", 2)
                settings = json.loads(text)
            except ValueError:
                raise UsageError(
                    f"line {number} of {self._file}, which counts the sums made of this node's data, cannot be read; put "
                    "back what it was"
                ) from None
            if settings != dataclasses.asdict(self._privacy):
                raise RemoteProtocolError(
                    f"{len(lines)} sums ({self._kind}) were made of this node's data under {text}, and {server} asks for "
                    f"{self._privacy}; what is spent stays spent: go on with the old settings, or let whoever answers for "
                    f"the data remove {self._file.name} beside the identity key",
                    peer=server,
                )
            nonces.append(nonce)
        return nonces

    def _over(self, spent: int, server: str) -> RemoteProtocolError:
        return RemoteProtocolError(
            f"{server} asks for another sum ({self._kind}), and {spent} were made of this node's data, all that its "
            f"budget is for: {self._privacy}",
            peer=server,
        )
