"""Run records that their party signed, and checking them.

What is signed is the record without its `signature`, as JSON with sorted keys and without spaces. So a record may be
laid out anew, but a changed value, a left out or a doubled key is found. The signature shows that whoever holds the
certificate's key wrote the record. It does not show that the record is true.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

from secagg import signing
from secagg.errors import AuthenticationError, UsageError
from secagg.files import check_format, read_file
from secagg.network.identity import (
    Identity,
    PrivateKey,
    certificate_pem,
    check_certificate,
    fingerprint,
    load_certificate,
)

FORMAT: Final = 1
_LABEL: Final = "run record v1"
# Keys of the private part, which is not signed: they would let others test guesses, or concern this party alone.
PRIVATE: Final = ("salt", "agreed_private", "result_rows", "tables", "screened", "result")
_MAX_BYTES: Final = 1 << 24
_PSS: Final = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)


def sign_record(record: Mapping[str, Any], identity: Identity) -> dict[str, Any]:
    """Return a record with its party's signature and certificate, and its format where it does not say it yet."""
    record = {"format": FORMAT} | dict(record)
    signature = signed(identity.secret_key, _digest(record))
    return {
        **record,
        "signature": {
            "certificate": certificate_pem(identity.certificate).decode(),
            "value": base64.b64encode(signature).decode(),
        },
    }


def read_record(path: Path) -> dict[str, Any]:
    """Read a record's file.

    Raises:
      UsageError: it is none.
    """
    return parse_record(read_file(path, what="the run record", max_bytes=_MAX_BYTES), where=str(path))


def parse_record(content: bytes, *, where: str) -> dict[str, Any]:
    """Return the record in the content of a file; its signature is not checked.

    Args:
      where: which file, for the error.

    Raises:
      UsageError: it is none.
    """
    try:
        record = json.loads(content, object_pairs_hook=_distinct, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise UsageError(f"expected a run record (NAME.JOB.json) in {where}, got something else") from None
    if isinstance(record, dict):
        check_format(record.get("format"), FORMAT, what=where)
    if (
        not isinstance(record, dict)
        or not {"format", "party", "job", "parties", "signature"} <= record.keys()
    ):
        raise UsageError(f"expected a signed run record (NAME.JOB.json) in {where}, got something else")
    return record


def with_private_part(
    record: Mapping[str, Any], record_path: Path, private: Path | None = None
) -> dict[str, Any]:
    """Return a record that `verify_record` accepted with what its private part holds, if that is there.

    Args:
      private: where the private part is, if not beside the record.

    Raises:
      UsageError: `private` cannot be read, or the record tells of no such part.
      AuthenticationError: the private part is not what was recorded.
    """
    kept = record.get("private")
    if not isinstance(kept, dict):
        if private is not None:
            raise UsageError(f"the record tells of no private part, so {private} cannot be checked")
        return dict(record)
    path = private or record_path.parent / Path(str(kept.get("file"))).name
    if private is None and not path.is_file():
        return dict(record)
    content = read_file(path, what="the private part of the run record", max_bytes=_MAX_BYTES)
    if hashlib.sha256(content).hexdigest() != kept.get("sha256"):
        raise AuthenticationError(
            f"{path} is not what was recorded; it was changed", peer=str(record["party"])
        )
    try:
        part = json.loads(content, object_pairs_hook=_distinct, parse_constant=_no_number)
    except (ValueError, RecursionError):
        part = None
    if not isinstance(part, dict):
        raise UsageError(f"expected the private part of a run record in {path}, got something else")
    return {**{name: part[name] for name in PRIVATE if name in part}, **record}


def verify_record(record: Mapping[str, Any], certificate: x509.Certificate | None) -> x509.Certificate:
    """Return the certificate whose key signed a record.

    Args:
      certificate: the party's, where it is known; without it, whose certificate that is remains to be compared.

    Raises:
      AuthenticationError: the signature does not fit, or is not that of the party that the record names.
    """
    unsigned = {name: value for name, value in record.items() if name != "signature"}
    party = str(record["party"])
    try:
        signer = load_certificate(record["signature"]["certificate"].encode())
        signature = base64.b64decode(record["signature"]["value"], validate=True)
        known = {str(entry["name"]): entry["certificate"] for entry in record["parties"]}
    except (TypeError, KeyError, AttributeError, UsageError, binascii.Error):
        raise AuthenticationError("the record's signature is malformed", peer=party) from None
    if certificate is not None and signer != certificate:
        raise AuthenticationError(
            f"the record was signed with the certificate {fingerprint(signer)}, and the one given is "
            f"{fingerprint(certificate)}",
            peer=party,
        )
    if known.get(party) != fingerprint(signer):
        raise AuthenticationError(
            f"the record was signed with the certificate {fingerprint(signer)}, which is not that of {party} in the job",
            peer=party,
        )
    try:
        # Whoever signs in another party's name can name its own certificate for it.
        check_certificate(signer, name=party, at=signer.not_valid_before_utc)
    except UsageError as error:
        raise AuthenticationError(
            f"the record is not signed in {party}'s name: {error}", peer=party
        ) from None
    try:
        check_signed(signer.public_key(), signature, _digest(unsigned))
    except (InvalidSignature, ValueError, RecursionError):
        raise AuthenticationError(
            "the record is not what its party signed: it was changed", peer=party
        ) from None
    return signer


@dataclass(frozen=True, slots=True)
class RecordedFile:
    """A file whose digest stands in a record.

    Attributes:
      what: "result" or "table".
      given: whether whoever checks said where it is.
    """

    what: str
    path: Path
    sha256: str
    given: bool


def recorded_files(
    record: Mapping[str, Any], record_path: Path, *, result: Path | None = None, tables: Sequence[Path] = ()
) -> list[RecordedFile]:
    """Return the files of a record that `verify_record` accepted, and where they should be.

    Args:
      record_path: the result is looked for beside it.
      result, tables: where they are, if not where the record says; of the tables all or none.

    Raises:
      UsageError: a result or a number of tables of which the record says nothing.
    """
    own, read = record.get("result"), []
    for table in (record.get("tables") or {}).values():
        read += table["files"]
    if result is not None and own is None:
        raise UsageError(f"the record tells of no result, so {result} cannot be checked")
    if tables and len(tables) != len(read):
        raise UsageError(f"the record tells of {len(read)} tables, and {len(tables)} were given")
    found = []
    if own is not None:
        beside = record_path.parent / Path(own["file"]).name
        found.append(RecordedFile("result", result or beside, own["sha256"], result is not None))
    for i, entry in enumerate(read):
        path = tables[i] if tables else Path(entry["path"])
        found.append(RecordedFile("table", path, entry["sha256"], bool(tables)))
    return found


def signed(key: PrivateKey, digest: bytes) -> bytes:
    """Return a party's signature of a digest, by the kind of key that it has."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(digest, ec.ECDSA(hashes.SHA256()))
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(digest, _PSS, hashes.SHA256())
    return key.sign(digest)


def check_signed(key: object, signature: bytes, digest: bytes) -> None:
    """Check a signature that `signed` made with the private key of this public one.

    Raises:
      InvalidSignature: it is another one, or such a key signs nothing here.
    """
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, digest, ec.ECDSA(hashes.SHA256()))
    elif isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, digest, _PSS, hashes.SHA256())
    elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        key.verify(signature, digest)
    else:
        raise InvalidSignature


def _digest(record: Mapping[str, Any]) -> bytes:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return signing.digest(_LABEL, [text.encode()])


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key comes twice")
    return made


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number in JSON")
