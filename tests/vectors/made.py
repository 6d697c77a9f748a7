"""What a format's test vectors are made of, and identities that are the same whenever they are made."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from secagg.network.identity import Identity

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Format:
    """One of our formats.

    run: reads or computes what a vector describes; returns what comes out.
    good: what goes in, by name of the vector.
    bad: what goes in, and the name of the error that it raises.
    """

    about: str
    run: Callable[[Fields], dict[str, Any]]
    good: Mapping[str, Fields]
    bad: Mapping[str, tuple[str, Fields]] = field(default_factory=dict)


def identity_of(name: str) -> Identity:
    """Return an identity that is the same whenever it is made."""
    key = Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"."))
    begin = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(
        called, called, key.public_key(), 1, begin, begin + datetime.timedelta(days=3650)
    )
    return Identity(name, builder.sign(key, None), key)
