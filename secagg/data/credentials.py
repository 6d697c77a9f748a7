"""Where a database's password comes from: the environment, a file that its owner alone may read, or a keyring.

A source file names the place. The password itself stands in no file of this project, in no error and in no record.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any, Final

import msgspec

from secagg.errors import UsageError
from secagg.files import read_file

__all__ = ["Secret"]

_MAX_BYTES: Final = 1 << 16


class Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A place of a secret, of which one is given.

    Attributes:
      env: the name of an environment variable.
      file: the path of a file that others may not read, such as one that systemd or Kubernetes provides.
      keyring: the name of a service in the keyring of this user.
      user: whose password it is there.
    """

    env: str = ""
    file: str = ""
    keyring: str = ""
    user: str = ""

    def __post_init__(self) -> None:
        if sum(map(bool, (self.env, self.file, self.keyring))) != 1:
            raise ValueError("expected one of env, file and keyring")
        if bool(self.keyring) != bool(self.user):
            raise ValueError("expected keyring together with user, and user with nothing else")

    def read(self, folder: Path, *, what: str) -> str:
        """Return the secret.

        Args:
          folder: where a relative path starts.
          what: what it is for, in errors.

        Raises:
          UsageError: it is not there, or cannot be read; the text says where it was looked for.
        """
        if self.env:
            found = os.environ.get(self.env)
            if not found:
                raise UsageError(
                    f"{what}: the environment variable {self.env} is not set; set it and start again"
                )
            return found
        if self.file:
            # TOML has no variables, and systemd tells the folder of its credentials in one.
            path = folder / os.path.expandvars(self.file)
            content = read_file(path, what=what, max_bytes=_MAX_BYTES, private=True)
            try:
                text = content.decode().rstrip("\r\n")
            except UnicodeDecodeError:
                text = ""
            if not text:
                raise UsageError(f"{what}: expected one line of UTF-8 in {path}")
            return text
        return self._from_keyring(what)

    def _from_keyring(self, what: str) -> str:
        try:
            keyring: Any = importlib.import_module("keyring")
        except ModuleNotFoundError:
            raise UsageError(
                f"{what}: it is in a keyring, and the package keyring is not installed; run: pip install 'secagg[keyring]'"
            ) from None
        fault = ""
        try:
            found = keyring.get_password(self.keyring, self.user)
        except keyring.errors.KeyringError as error:
            # Its text may be of a backend that quotes what it holds.
            found, fault = None, f" ({type(error).__name__})"
        if not found:
            raise UsageError(
                f"{what}: the keyring gives no password of {self.user} for {self.keyring}{fault}; store it with: "
                f"keyring set {self.keyring} {self.user}"
            )
        return str(found)
