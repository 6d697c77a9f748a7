"""Lists of certificates that companies' own authorities took back, as the organisation put them into its folder.

A file `revoked/*.crl` of the home folder holds one list in DER form [RFC 5280, 5], or any number in PEM form [RFC 7468, 7].
Before each run, and when a member is added, every certificate from a member's to its root is looked up in the lists of its
issuer. Nothing is fetched: whoever keeps the folder brings the newest list. What is in the folder and cannot be read as
lists ends the run. So does a file of another name, unless it begins with a dot, as an unfinished copy does.

Threat model. A list counts where the issuer's key in the member's chain signed it, and until the time of its next update. A
member that names no chain is looked up by its issuer's name alone. An old list that is put back is refused when its time is
over, and meanwhile hides what was revoked since then. A list that is not whole is refused: a delta, or one of some reasons
or certificates alone.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from secagg.errors import UsageError
from secagg.files import read_file
from secagg.home import Home
from secagg.network.identity import fingerprint

__all__ = ["FOLDER", "check_not_revoked", "read_lists"]

FOLDER: Final = "revoked"  # in the home folder
_MAX_BYTES: Final = 1 << 26
# Nothing but base64 within, so that a list without its end is no part of the next one.
_PEM: Final = re.compile(rb"-----BEGIN X509 CRL-----[A-Za-z0-9+/=\s]+-----END X509 CRL-----")
_KNOWN: Final = (x509.CRLNumber, x509.AuthorityKeyIdentifier)  # what a whole list says of itself


def read_lists(home: Home) -> list[tuple[Path, x509.CertificateRevocationList]]:
    """Return the lists in a home folder, each with its file.

    Raises:
      UsageError: a file holds something else, or cannot be read; or a list is not whole.
    """
    found = []
    for path in _files(home.path / FOLDER):
        content = read_file(path, what="a list of revoked certificates", max_bytes=_MAX_BYTES)
        for listed in _lists(path, content):
            try:
                strange = [one.oid.dotted_string for one in listed.extensions if _is_strange(one)]
            except (ValueError, x509.DuplicateExtension):
                raise _no_list(path) from None
            if strange:
                raise UsageError(
                    f"{path} is not the whole list of its authority (extensions {', '.join(strange)}); ask for that one"
                )
            found.append((path, listed))
    return found


def _files(folder: Path) -> list[Path]:
    """Return the files of lists in a folder; refuse whatever else is there."""
    if not os.path.lexists(folder):
        return []
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise UsageError(
            f"cannot read {folder}, the lists of revoked certificates: {error.strerror}"
        ) from None
    lists = [path for path in paths if path.suffix.lower() == ".crl"]
    # Writers of whole files, this program among them, begin under a name with a dot.
    others = [path.name for path in paths if path not in lists and not path.name.startswith(".")]
    if others:
        raise UsageError(
            f"expected in {folder} lists of revoked certificates alone, as files NAME.crl, got {', '.join(others)}; "
            "rename lists, and move away what is none"
        )
    return lists


def _lists(path: Path, content: bytes) -> list[x509.CertificateRevocationList]:
    try:
        return [x509.load_der_x509_crl(content)]
    except ValueError:
        pass  # PEM, or nothing that counts
    blocks = _PEM.findall(content)
    if not blocks or _PEM.sub(b"", content).strip():
        raise _no_list(path)
    try:
        return [x509.load_pem_x509_crl(block) for block in blocks]
    except ValueError:
        raise _no_list(path) from None


def _no_list(path: Path) -> UsageError:
    return UsageError(
        f"expected in {path} a list of revoked certificates in DER form, or lists in PEM form and nothing else"
    )


def check_not_revoked(
    name: str,
    certificate: x509.Certificate,
    authority: Sequence[x509.Certificate],
    lists: Sequence[tuple[Path, x509.CertificateRevocationList]],
) -> None:
    """Check that nobody took back a member's certificate, nor one of those that vouch for it.

    Args:
      name: of the member.
      authority: from the issuer to the root; none for a member without one.
      lists: of `read_lists`. An issuer without a list takes nothing back.

    Raises:
      UsageError: a certificate is revoked; or the list of its issuer is not signed by the issuer, or is too old.
    """
    for one in (certificate, *authority):
        # By name and not by place: the member itself wrote down its chain.
        issuers = [issuer for issuer in authority if issuer.subject == one.issuer]
        for path, listed in lists:
            if listed.issuer != one.issuer:
                continue
            if issuers and not any(_signed_by(listed, issuer) for issuer in issuers):
                raise UsageError(
                    f"{path} is in the name of {name}'s authority, whose key did not sign it; fetch the list anew"
                )
            _check_current(path, listed)
            found = listed.get_revoked_certificate_by_serial_number(one.serial_number)
            if found is not None:
                whose = (
                    f"{name}'s certificate" if one is certificate else f"a certificate of {name}'s authority,"
                )
                raise UsageError(
                    f"{whose} {fingerprint(one)} is revoked since {found.revocation_date_utc:%Y-%m-%d} by {path}; "
                    f"ask {name} for its new member file"
                )


def _signed_by(listed: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return listed.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except (TypeError, UnsupportedAlgorithm):  # a key of another kind
        return False


def _check_current(path: Path, listed: x509.CertificateRevocationList) -> None:
    now, due = datetime.datetime.now(datetime.UTC), listed.next_update_utc
    if due is None or due <= now or listed.last_update_utc > now:
        until = "no time that it says" if due is None else f"{due:%Y-%m-%d %H:%M}"
        raise UsageError(
            f"{path} counts from {listed.last_update_utc:%Y-%m-%d %H:%M} to {until} UTC, which is not now; fetch the "
            "authority's newest list, or remove the file"
        )


def _is_strange(extension: x509.Extension[x509.ExtensionType]) -> bool:
    partial = isinstance(extension.value, x509.DeltaCRLIndicator | x509.IssuingDistributionPoint)
    return partial or (extension.critical and not isinstance(extension.value, _KNOWN))
