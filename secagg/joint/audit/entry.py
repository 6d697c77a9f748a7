"""One line of an audit log: JSON in one spelling, signed, and bound to the line before it.

A line is JSON with sorted keys and without spaces, so that a changed byte is a changed entry or no entry. An entry's hash
is SHA-256 of its line, the signature included, and the next entry names it as `previous`. What is signed is the entry
without its signature.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from secagg import signing
from secagg.errors import AuthenticationError, UsageError
from secagg.files import check_format
from secagg.jobs.signature import check_signed, signed
from secagg.network.identity import Identity, fingerprint

KEY: Final = "key"  # the entries that follow are signed with the certificate in this one
START: Final = "start"  # a run that shares data from here on
END: Final = "end"
ANEW: Final = "anew"  # a peer's log that was lost may begin anew
NO_ENTRY: Final = bytes(signing.DIGEST_BYTES)  # what the first entry names as the one before it
MAX_LINE_BYTES: Final = 1 << 22  # what two thousand links and the statements of all parties take stays below
FORMAT: Final = 1  # of an entry; a log may go on in a later one
_SIGNED_LABEL: Final = "secagg audit entry v1"
_HASH_LABEL: Final = "secagg audit line v1"
# What every entry has, and of which type it is.
_FIELDS: Final[Mapping[str, type]] = {
    "format": int,
    "entry": int,
    "time": str,
    "party": str,
    "event": str,
    "previous": str,
    "certificate": str,
    "signature": str,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as it stands in a log; `made` and `parsed` return them.

    Attributes:
      content: of its line, the signature included.
      hash: of its line.
    """

    content: Mapping[str, Any]
    line: bytes
    hash: bytes

    @property
    def number(self) -> int:
        """Return its place in the log, from 0."""
        return int(self.content["entry"])

    @property
    def event(self) -> str:
        """Return what happened."""
        return str(self.content["event"])

    @property
    def time(self) -> str:
        """Return when, by the clock of the log's party."""
        return str(self.content["time"])

    @property
    def certificate(self) -> str:
        """Return the fingerprint of the certificate whose key signed the entry."""
        return str(self.content["certificate"])


def made(body: Mapping[str, Any], identity: Identity) -> Entry:
    """Return the entry of a body, which holds all fields but format, certificate and signature."""
    content = {**body, "format": FORMAT, "certificate": fingerprint(identity.certificate)}
    signature = signed(identity.secret_key, _signed_digest(content))
    content["signature"] = base64.b64encode(signature).decode()
    return _entry(content, spelt(content))


def parsed(line: bytes, *, where: str) -> Entry:
    """Return the entry in a line; its signature and place are not checked.

    Args:
      where: the file and the line, for errors.

    Raises:
      AuthenticationError: it is no entry, or not in the one spelling.
      UsageError: it is of a later format.
    """
    try:
        content = json.loads(line, object_pairs_hook=_distinct, parse_constant=_no_number)
        if isinstance(content, dict):
            check_format(content.get("format"), FORMAT, what=where)
        fits = isinstance(content, dict) and all(
            type(content.get(name)) is kind for name, kind in _FIELDS.items()
        )
        if not fits or spelt(content) != line or len(bytes.fromhex(content["previous"])) != len(NO_ENTRY):
            raise ValueError
    except UsageError:
        raise
    except (ValueError, RecursionError):
        raise AuthenticationError(
            f"{where} is no entry of an audit log: it was changed, or the file is something else", peer=""
        ) from None
    return _entry(content, line)


def check_signature(entry: Entry, certificate: x509.Certificate, *, where: str) -> None:
    """Check that an entry is signed with the key of the certificate that it names.

    Raises:
      AuthenticationError: it is not.
    """
    party = str(entry.content["party"])
    content = {name: value for name, value in entry.content.items() if name != "signature"}
    try:
        if fingerprint(certificate) != entry.certificate:
            raise InvalidSignature
        signature = base64.b64decode(str(entry.content["signature"]), validate=True)
        check_signed(certificate.public_key(), signature, _signed_digest(content))
    except (InvalidSignature, binascii.Error):
        raise AuthenticationError(
            f"{where} is not what {party} signed with the certificate {entry.certificate}: it was changed, or "
            "another key signed it",
            peer=party,
        ) from None


def spelt(content: Mapping[str, Any]) -> bytes:
    """Return the one spelling of an entry."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _entry(content: Mapping[str, Any], line: bytes) -> Entry:
    return Entry(content, line, signing.digest(_HASH_LABEL, [line]))


def _signed_digest(content: Mapping[str, Any]) -> bytes:
    return signing.digest(_SIGNED_LABEL, [spelt(content)])


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made_of = dict(pairs)
    if len(made_of) != len(pairs):
        raise ValueError("a key comes twice")
    return made_of


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number in JSON")
