"""An approver's key: a person's, not the machine's, in a file that a password opens.

Ed25519 under AES-256-GCM; the key of that is Scrypt's of the password. Which person it is says nothing here: an
organisation's policy and its member file say whose public key is whose.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from secagg.errors import UsageError
from secagg.files import check_format, read_file, write_file
from secagg.network.identity import check_name

SHORTEST_PASSWORD: Final = 10
FORMAT: Final = 1
_KIND: Final = "secagg approver key"
_MAX_BYTES: Final = 1 << 14
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_LOG_N: Final = 16  # 64 MiB and some 0.2 s a guess
_LARGEST_LOG_N: Final = 18  # 256 MiB: whoever opens a stranger's file spends no more


class _Numbered(msgspec.Struct):
    format: int


class _KeyFile(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    kind: str
    name: str
    public_key: str
    log_n: int
    salt: str
    nonce: str
    sealed: str


@dataclass(frozen=True, slots=True)
class ApproverKey:
    """A person's name and key."""

    name: str
    secret_key: ed25519.Ed25519PrivateKey = field(repr=False)

    @property
    def public_key(self) -> bytes:
        """Return the public key, 32 bytes."""
        return _public(self.secret_key)


def create_key(path: Path, name: str, password: str) -> ApproverKey:
    """Make a person's key and write it to a new file.

    Raises:
      UsageError: a name that is none, a password of fewer than 10 characters, or a file that cannot be written.
    """
    check_name(name)
    if len(password) < SHORTEST_PASSWORD:
        raise UsageError(f"expected a password of at least {SHORTEST_PASSWORD} characters")
    key = ApproverKey(name, ed25519.Ed25519PrivateKey.generate())
    salt, nonce = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
    sealed = AESGCM(_derived(password, salt, _LOG_N)).encrypt(
        nonce, key.secret_key.private_bytes_raw(), _bound(name, key.public_key)
    )
    content = _KeyFile(
        format=FORMAT,
        kind=_KIND,
        name=name,
        public_key=_text(key.public_key),
        log_n=_LOG_N,
        salt=_text(salt),
        nonce=_text(nonce),
        sealed=_text(sealed),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, msgspec.json.format(msgspec.json.encode(content)) + b"\n", mode=0o600)
    except FileExistsError:
        raise UsageError(
            f"{path} exists and will not be overwritten; move it away, or choose another file"
        ) from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
    return key


def read_public_key(path: Path) -> tuple[str, bytes]:
    """Return the name and public key in a key file, without its password; errors as `open_key`."""
    found = _read(read_file(path, what="the approver's key", max_bytes=_MAX_BYTES), str(path))
    return found.name, _bytes(found.public_key, str(path))


def open_key(content: bytes, password: str, *, what: str = "the approver's key") -> ApproverKey:
    """Return the key of a file's content.

    Raises:
      UsageError: the file is none, or the password is another.
    """
    found = _read(content, what)
    salt, nonce, sealed = (_bytes(text, what) for text in (found.salt, found.nonce, found.sealed))
    public_key = _bytes(found.public_key, what)
    try:
        raw = AESGCM(_derived(password, salt, found.log_n)).decrypt(
            nonce, sealed, _bound(found.name, public_key)
        )
    except (InvalidTag, ValueError):
        raise UsageError(f"the password does not open {what}, or the file was changed") from None
    key = ApproverKey(found.name, ed25519.Ed25519PrivateKey.from_private_bytes(raw))
    if key.public_key != public_key:
        raise UsageError(f"{what} holds another key than it says")
    return key


def load_key(path: Path, password: str) -> ApproverKey:
    """Read a person's key from its file, which others on this machine may not read; errors as `open_key`."""
    content = read_file(path, what="the approver's key", max_bytes=_MAX_BYTES, private=True)
    return open_key(content, password, what=str(path))


def _read(content: bytes, what: str) -> _KeyFile:
    try:
        check_format(msgspec.json.decode(content, type=_Numbered).format, FORMAT, what=what)
    except msgspec.MsgspecError:
        raise UsageError(
            f"expected an approver's key, as `secagg approver new` makes it, in {what}"
        ) from None
    try:
        found = msgspec.json.decode(content, type=_KeyFile)
        check_name(found.name)
    except (msgspec.MsgspecError, UsageError):
        found = None
    if (
        found is None
        or found.format != FORMAT
        or found.kind != _KIND
        or not 14 <= found.log_n <= _LARGEST_LOG_N
    ):
        raise UsageError(f"expected an approver's key, as `secagg approver new` makes it, in {what}")
    return found


def _derived(password: str, salt: bytes, log_n: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=1 << log_n, r=8, p=1).derive(password.encode())


def _bound(name: str, public_key: bytes) -> bytes:
    return f"{_KIND} v{FORMAT} {name} ".encode() + public_key


def _public(key: ed25519.Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _bytes(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise UsageError(f"expected an approver's key in {what}, got something else") from None
