"""A node answers each step of a sum once, whatever becomes of the state that a framework keeps for it.

A framework may hand a reply on before it stores the state that belongs to it, as Flower does. If storing fails, the next
message meets the old state, and two answers from one state would show both secrets of a peer.

So each sum has one file beside the identity key, named after the sum and its next step. A step begins with giving the file
its next name: of two that try, on whatever copy of the state, one does. The file is empty. Deleting it ends the sum for
this node.
"""

from __future__ import annotations

import os
from pathlib import Path

from secagg.errors import RemoteProtocolError, UsageError


class ReplayGuard:
    """The files of one identity.

    Args:
      identity: path of the identity key, in a folder that can be written to.
    """

    __slots__ = ("_folder", "_prefix")

    def __init__(self, identity: Path) -> None:
        self._folder = identity.parent
        self._prefix = f".{identity.name}.replay-"

    def begin(self, nonce: bytes, step: str) -> None:
        """Begin a sum; any other one of this identity is over.

        Raises:
          UsageError: the folder cannot be written to.
        """
        try:
            for file in self._folder.iterdir():
                if file.name.startswith(self._prefix):
                    file.unlink(missing_ok=True)
            os.close(os.open(self._path(nonce, step), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            raise UsageError(
                f"cannot write to {self._folder}, where files beside the identity key see to it that no step is answered "
                f"twice: {error.strerror}"
            ) from None

    def take(self, nonce: bytes, step: str, then: str | None, *, server: str) -> None:
        """Take the turn of a step, which nobody can do again.

        Raises:
          RemoteProtocolError: it was taken.
        """
        try:
            if then is None:
                self._path(nonce, step).unlink()
            else:
                self._path(nonce, step).rename(self._path(nonce, then))
        except FileNotFoundError:
            raise RemoteProtocolError(
                f"expected {server} to ask for {step} once, and it was answered before; this node answers no more in this "
                "sum",
                peer=server,
            ) from None

    def _path(self, nonce: bytes, step: str) -> Path:
        return self._folder / f"{self._prefix}{nonce.hex()}-{step}"
