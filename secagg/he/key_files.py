"""Secret keys and key shares in files: encrypted under a password, or readable by their owner alone.

Works for whatever has `to_message` and `from_message`: the secret keys and shares of all schemes.

    without a password   the key as `secagg.wire` writes it
    with a password      its kind, a salt, and the same bytes under AES-256-GCM [SP 800-38D] with a key that
                         scrypt [RFC 7914] (N = 2**17, r = 8, p = 1: 128 MiB and about half a second) makes of
                         password and salt; kind and salt are authenticated with it

Either ends with the SHA-256 of all that stands before, so that every accidental change is noticed, in an open file too.
Whoever may write an open file can change the key and the digest with it.

A file is made new with mode 0600 and never overwritten. One without a password is refused where group or others
may read it: whoever could has to be assumed to have.

Whoever reads the file of an encrypted key learns its kind and length, and can try passwords at half a second and
128 MiB each: take one of at least 6 random words. Whoever can write to the directory can replace the file by another one
of the same kind and password: compare the key's id.
"""

from __future__ import annotations

import hashlib
import os
import stat
import typing
from pathlib import Path
from typing import Any, Final, Protocol, Self, TypeVar

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from numpy.typing import NDArray

from secagg import signing, wire
from secagg.errors import RemoteProtocolError, UsageError, WireError
from secagg.files import check_format
from secagg.wire import Message

_SALT_BYTES: Final = 32
_DIGEST_BYTES: Final = 32
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
# The salt makes a new key for every file, and each key encrypts once: the nonce may be fixed.
_NONCE: Final = bytes(12)


class Secret(Protocol):
    """A secret key or a share of one."""

    def to_message(self) -> Message:
        """Return the secret as a message."""

    @classmethod
    def from_message(cls, message: Any) -> Self:
        """Return the secret that a message of the annotated kind holds."""


S = TypeVar("S", bound=Secret)


class SealedSecret(Message, frozen=True):
    """A secret under a password, as it lies in a file.

    Fields:
      kind: `KIND` of the message inside.
      salt: of scrypt, 32 bytes.
      sealed: the message's bytes under AES-256-GCM, and the tag.
    """

    kind: str
    salt: bytes
    sealed: NDArray[np.uint8]


def save_secret(path: Path, key: Secret, *, password: bytes | None = None) -> None:
    """Write a secret key to a new file that its owner alone may read.

    Args:
      path: of a file that does not exist.
      key: a secret key or a share.
      password: what the file is encrypted under; without it, it is not.

    Raises:
      UsageError: the file exists or cannot be written, or the password is empty; nothing is left behind.
    """
    message = key.to_message()
    content = wire.to_bytes(message)
    if password is not None:
        salt = os.urandom(_SALT_BYTES)
        sealed = _cipher(password, salt).encrypt(_NONCE, content, _bound(message.KIND, salt))
        content = wire.to_bytes(SealedSecret(message.KIND, salt, np.frombuffer(sealed, np.uint8)))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(
            f"{path} exists and will not be overwritten; move it away, or choose another name"
        ) from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
    written = False
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.write(hashlib.sha256(content).digest())
            file.flush()
            os.fsync(file.fileno())  # what gets encrypted under the key must not outlive it
        written = True
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
    finally:
        if not written:
            path.unlink(missing_ok=True)  # ours: O_EXCL made it


def load_secret(path: Path, kind: type[S], *, password: bytes | None = None) -> S:
    """Read a secret key that `save_secret` wrote.

    Args:
      path: of the file.
      kind: class of the key, such as `paillier.SecretKey`.
      password: as it was saved with.

    Raises:
      UsageError: the file is missing, malformed, altered, or holds another kind of key; it is encrypted, and the password
        is wrong or missing; it is not encrypted, and others can read it or a password was given. Also if it is a key that
        `kind.from_message` refuses.
    """
    expected = _message_kind(kind)
    content, mode = _read(path)
    if content is None:
        raise UsageError(
            f"expected a {expected.KIND} in {path}, found an altered file, a part of one or something else; "
            "is it the right file?"
        )
    sealed = _sealed(content)
    if password is None:
        if sealed is not None:
            raise UsageError(f"{path} is encrypted; give its password")
        if mode & _OTHERS:
            raise UsageError(
                f"others on this machine may read or change the secret key {path} (mode {mode:04o}); "
                f"run: chmod 600 {path}, and replace the key if they may have done so"
            )
    else:
        # Whoever gives a password counts on it: an open file in the sealed one's place is not taken silently.
        if sealed is None:
            raise UsageError(
                f"expected an encrypted key in {path}, found one that is not, an altered one or something else; "
                "is it the right file?"
            )
        if sealed.kind != expected.KIND:
            raise UsageError(f"expected a {expected.KIND} in {path}, found a {sealed.kind!r:.120}")
        content = _opened(sealed, password, path)
    try:
        message = wire.from_bytes(content, expected)
    except WireError:
        raise UsageError(
            f"expected a {expected.KIND} in {path}, found another kind of key, an altered one or something else; "
            "is it the right file?"
        ) from None
    try:
        return kind.from_message(message)
    except RemoteProtocolError as error:
        raise UsageError(f"the key in {path} cannot be used: {error}") from None


def _cipher(password: bytes, salt: bytes) -> AESGCM:
    if not isinstance(password, bytes) or not password:
        raise UsageError("a password is a byte string that is not empty; leave it out to write no password")
    return AESGCM(Scrypt(salt=salt, length=32, n=1 << 17, r=8, p=1).derive(password))


def _bound(kind: str, salt: bytes) -> bytes:
    """Return what is authenticated with the secret: everything else in the file."""
    return signing.digest("secagg.he.key_files/sealed", [kind.encode(), salt])


def _sealed(content: bytes) -> SealedSecret | None:
    try:
        return wire.from_bytes(content, SealedSecret)
    except WireError:
        return None


def _opened(sealed: SealedSecret, password: bytes, path: Path) -> bytes:
    bound = _bound(sealed.kind, sealed.salt)
    cipher = _cipher(password, sealed.salt)
    try:
        return cipher.decrypt(_NONCE, sealed.sealed.tobytes(), bound)
    except InvalidTag:
        raise UsageError(f"the password does not open {path}, or the file was altered") from None


def _read(path: Path) -> tuple[bytes | None, int]:
    """Return a file's content and mode; None if it does not end with the content's digest; `UsageError` for a later one."""
    try:
        with path.open("rb") as file:
            data, mode = file.read(), stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    if (
        data[:3] == b"SAG" and data[3:]
    ):  # as every stored message begins; its version is next, whatever a later one ends with
        check_format(data[3], wire.VERSION, what=str(path))
    content, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    return content if hashlib.sha256(content).digest() == digest else None, mode


def _message_kind(kind: type[Secret]) -> type[Message]:
    """Return what `from_message` takes, by its annotation."""
    hints = typing.get_type_hints(kind.from_message)
    kinds = [h for h in hints.values() if isinstance(h, type) and issubclass(h, Message)]
    if len(kinds) != 1:
        raise TypeError(f"{kind.__name__}.from_message is not annotated with the message that it takes")
    return kinds[0]
