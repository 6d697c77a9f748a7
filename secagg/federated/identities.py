"""Identity keys of nodes, and the file of public keys by which nodes and server know each other.

A node's identity is an Ed25519 key in PKCS #8 PEM, readable by its owner alone. The file of public keys is TOML, the
same at all nodes and the server:

    format = 1

    [clients]
    "hospital-a" = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"

Whoever can write to it decides who takes part: each node takes it from somebody it trusts, not from the server.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secagg.errors import RemoteProtocolError, UsageError
from secagg.network.identity import check_name
from secagg.party import PartyId
from secagg.toml_files import FORMAT, parse_toml

SERVER: Final = "server"
PEERS_FILE: Final = "peers.toml"
_KEY_BYTES: Final = 32
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def new_identity(path: str | Path) -> bytes:
    """Write a fresh identity key to a new file that its owner alone may read, and return the public key, 32 bytes.

    Raises:
      UsageError: the file exists or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
    except OSError as error:
        raise UsageError(f"cannot write a new identity key to {path}: {error.strerror}") from None
    return key.public_key().public_bytes_raw()


def load_identity(path: str | Path) -> Ed25519PrivateKey:
    """Read an identity key.

    Raises:
      UsageError: the file is missing, holds something else, or others on this machine can read it.
    """
    try:
        with Path(path).open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            pem = file.read()
    except OSError as error:
        raise UsageError(f"cannot read the identity key {path}: {error.strerror}") from None
    if mode & _OTHERS:
        raise UsageError(
            f"others on this machine may read the identity key {path} (mode {mode:04o}); run: chmod 600 {path}"
        )
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (TypeError, ValueError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"expected an Ed25519 key without password in PEM form in {path}")
    return key


def save_peers(path: str | Path, peers: Mapping[PartyId, bytes]) -> None:
    """Write the file of public keys.

    Raises:
      UsageError: what `load_peers` refuses, or a file that cannot be written.
    """
    _check(peers, path)
    lines = [
        f"format = {FORMAT}",
        "",
        "[clients]",
        *(f'"{name}" = "{key.hex()}"' for name, key in peers.items()),
    ]
    try:
        Path(path).write_text("\n".join([*lines, ""]), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


def load_peers(path: str | Path) -> dict[PartyId, bytes]:
    """Read the file of public keys: by name, 32 bytes each.

    Raises:
      UsageError: the file is missing, malformed or of a later format, or names or keys come twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        clients = parse_toml(text, file=Path(path), kind=UsageError).get("clients")
        if not isinstance(clients, dict):
            raise UsageError(f"expected a table [clients] in {path}")
        peers = {name: bytes.fromhex(key) for name, key in clients.items()}
    except OSError as error:
        raise UsageError(f"cannot read the public keys {path}: {error.strerror}") from None
    except (ValueError, TypeError) as error:
        raise UsageError(
            f'expected lines "name" = "hexadecimal key" under [clients] in {path}: {error}'
        ) from None
    _check(peers, path)
    return peers


def make_identities(folder: str | Path, names: Iterable[PartyId]) -> Path:
    """Make an identity for each name, `NAME.key`, and `peers.toml`, and return the latter's path; for simulations.

    In a deployment every node makes its own with `new_identity`, and the public keys are brought together. Where there is
    noise, each node needs a budget as well: `new_budget`.

    Raises:
      UsageError: a file that exists already, or a folder that cannot be written to.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PEERS_FILE
    save_peers(path, {name: new_identity(folder / f"{name}.key") for name in names})
    return path


def check_nodes(names: object, *, field: str, least: int) -> tuple[PartyId, ...]:
    """Return the nodes that a setting names.

    Raises:
      UsageError: fewer than `least` names, one that comes twice, or something else.
    """
    if isinstance(names, tuple | list) and all(isinstance(name, str) and name for name in names):
        found = tuple(names)
        if len(set(found)) == len(found) >= least:
            return found
    raise UsageError(f"expected at least {least} different nodes as {field}, got {names!r:.120}")


def check_chosen(chosen: tuple[PartyId, ...], named: Sequence[PartyId], nodes: Collection[PartyId]) -> None:
    """Check whom the server lets compute a sum.

    Args:
      chosen: by the server.
      named: in the setting.
      nodes: who takes part.

    Raises:
      RemoteProtocolError: one that is not named or does not take part, or another order than the setting's.
    """
    if chosen != tuple(name for name in named if name in chosen and name in nodes):
        raise RemoteProtocolError(
            f"expected {SERVER} to let nodes of {', '.join(named)} compute that take part, in this order, got "
            f"{', '.join(f'{name!r:.40}' for name in chosen[:8])}",
            peer=SERVER,
        )


def _check(peers: Mapping[PartyId, bytes], path: str | Path) -> None:
    for name, key in peers.items():
        check_name(name)
        if name == SERVER:
            raise UsageError(f"no client may be called {SERVER!r}, as one in {path} is")
        if len(key) != _KEY_BYTES:
            raise UsageError(
                f"expected {_KEY_BYTES} bytes of an Ed25519 key for {name} in {path}, got {len(key)}"
            )
    if len(set(peers.values())) != len(peers):
        raise UsageError(f"two names in {path} have the same key; each node needs its own")
