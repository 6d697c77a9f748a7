"""Certificates that this organisation knows already, so that nobody has to name them again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from secagg.home import Home

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["known_certificates"]


def known_certificates(home: Path | None) -> dict[str, x509.Certificate]:
    """Return the certificates in the folder's keys and of the consortium's members, by fingerprint.

    Raises:
      UsageError: as `Home.find` and `Consortium.load`.
    """
    from secagg.joint.audit.bundle import certificates_in
    from secagg.joint.consortium.consortium import directory_of
    from secagg.network.identity import fingerprint

    own = Home.find(home)
    if own is None:
        return {}
    members = directory_of(own).values()
    found = [member.certificate for member in members if member.certificate is not None]
    found += certificates_in(own.keys)
    return {fingerprint(certificate): certificate for certificate in found}
