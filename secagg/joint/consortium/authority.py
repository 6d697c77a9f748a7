"""Certificates that a company's own authority issued: the chain from a member's certificate to the company's root.

Members pin a member's certificate itself, so that the authority can replace nobody by issuing another one. What the chain
adds: a new certificate of the same authority, for the same name, needs no phone call. Verification is that of
`cryptography`, after RFC 5280. `revocation` looks certificates up in lists of revoked ones.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.x509 import verification

from secagg.errors import UsageError
from secagg.files import read_file
from secagg.network.identity import fingerprint, load_certificate

_ONE: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_LONGEST_CHAIN: Final = 8
_MAX_BYTES: Final = 1 << 18


def load_authority(pem: str) -> tuple[x509.Certificate, ...]:
    """Return certificates in PEM form, one after the other; none for an empty text.

    Raises:
      UsageError: something else, or more than 8.
    """
    found = _ONE.findall(pem)
    if len(found) > _LONGEST_CHAIN or (pem.strip() and not found):
        raise UsageError(
            f"expected 1 to {_LONGEST_CHAIN} certificates in PEM form, from the issuer to the root"
        )
    return tuple(load_certificate(one.encode()) for one in found)


def read_authority(path: Path) -> tuple[x509.Certificate, ...]:
    """Read a file of certificates in PEM form; errors as `load_authority`."""
    content = read_file(path, what="the authority's certificates", max_bytes=_MAX_BYTES)
    try:
        return load_authority(content.decode("ascii"))
    except UnicodeDecodeError:
        raise UsageError(f"expected certificates in PEM form in {path}") from None


def check_chain(
    certificate: x509.Certificate,
    authority: Sequence[x509.Certificate],
) -> None:
    """Check that an authority issued a certificate; the last of `authority` is its root.

    Raises:
      UsageError: it did not, a link of the chain is not valid now, or is no authority.
    """
    *between, root = authority
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store([root]))
        .time(datetime.datetime.now(datetime.UTC).replace(tzinfo=None))
        .max_chain_depth(_LONGEST_CHAIN)
        .build_client_verifier()
    )
    try:
        verifier.verify(certificate, between)
    except verification.VerificationError as error:
        raise UsageError(
            f"the certificate {fingerprint(certificate)} was not issued by the authority that is given ({error}); expected "
            "the certificates from the issuer to the root, valid now, and a certificate for client authentication"
        ) from None
