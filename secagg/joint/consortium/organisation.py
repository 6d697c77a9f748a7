"""One organisation of a consortium, and the member file by which it tells the others of itself.

    format = 1
    consortium = "aml-north"

    [member]
    name = "north"
    id = "5f0c..."                  # drawn when the organisation joined; it stays through every change
    serial = 3                      # one more at each change
    address = "mpc.north.example:7400"
    roles = ["input", "computing", "result"]      # words of ISO/IEC 4922-1
    tables = ["transfers"]          # what it holds; an empty list says nothing about tables
    needed = {template = 2, run = 1}              # approvals that the others hold it to
    approvers = {anna = "bWFk...", bert = "..."}  # public keys, Ed25519, in base64
    certificate = "-----BEGIN ..."
    authority = "-----BEGIN ..."    # optional: its company's certificates, from the issuer to the root

    [signature]
    own = "..."                     # by the certificate's key
    previous = "..."                # after a rotation: by the key before

The signatures are over all of `[member]` and the name of the consortium.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519

from secagg.errors import AuthenticationError, UsageError
from secagg.jobs.job import Address
from secagg.jobs.job_parties import parse_address
from secagg.jobs.signature import check_signed, signed
from secagg.joint.consortium.authority import load_authority
from secagg.network.identity import (
    PrivateKey,
    certificate_pem,
    check_certificate,
    check_name,
    fingerprint,
    load_certificate,
)
from secagg.signing import digest
from secagg.toml_files import FORMAT, FieldFault, check_values, convert, parse_toml, read_toml

ROLES: Final = ("input", "computing", "result")
ID_BYTES: Final = 16
_LABEL: Final = "secagg.joint.consortium"
_ID: Final = re.compile(r"[0-9a-f]{32}")
_TABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_MOST_NEEDED: Final = 20
_MOST_APPROVERS: Final = 100
_MOST_TABLES: Final = 200


@dataclass(frozen=True, slots=True)
class Needed:
    """How many persons approve.

    Attributes:
      template: a job, or a template of jobs.
      run: one run within an approved template.
    """

    template: int = 2
    run: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Organisation:
    """One organisation as the others know it; see the module for what each field is."""

    name: str
    id: str
    serial: int
    address: Address
    certificate: x509.Certificate
    roles: tuple[str, ...] = ROLES
    tables: tuple[str, ...] = ()
    needed: Needed = field(default_factory=Needed)
    approvers: Mapping[str, bytes] = field(default_factory=dict)
    authority: tuple[x509.Certificate, ...] = ()

    def plain(self) -> dict[str, Any]:
        """Return everything that members compare, as plain data."""
        return {
            "name": self.name,
            "id": self.id,
            "serial": self.serial,
            "address": list(self.address),
            "roles": list(self.roles),
            "tables": list(self.tables),
            "needed": [self.needed.template, self.needed.run],
            "approvers": dict(sorted(self.approvers.items())),
            "certificate": fingerprint(self.certificate),
            "authority": [fingerprint(one) for one in self.authority],
        }

    def shown_approvers(self) -> list[str]:
        """Return approvers with their public keys, for people."""
        return [f"{person} ({base64.b64encode(key).decode()})" for person, key in self.approvers.items()]

    def toml(self) -> list[str]:
        """Return the fields as lines of TOML."""
        text = json.dumps  # for texts without control characters, JSON's strings are TOML's
        host, port = self.address
        approvers = (
            f"{text(person)} = {text(base64.b64encode(key).decode())}"
            for person, key in self.approvers.items()
        )
        lines = [
            f"name = {text(self.name)}",
            f"id = {text(self.id)}",
            f"serial = {self.serial}",
            f"address = {text(f'[{host}]:{port}' if ':' in host else f'{host}:{port}')}",
            f"roles = {text(self.roles)}",
            f"tables = {text(self.tables)}",
            f"needed = {{template = {self.needed.template}, run = {self.needed.run}}}",
            f"approvers = {{{', '.join(approvers)}}}",
            f"# fingerprint {fingerprint(self.certificate)}",
            f'certificate = """\n{certificate_pem(self.certificate).decode()}"""',
        ]
        if self.authority:
            pem = "".join(certificate_pem(one).decode() for one in self.authority)
            lines += [f'authority = """\n{pem}"""']
        return lines


class MemberField(msgspec.Struct, forbid_unknown_fields=True):
    """An organisation as TOML has it."""

    name: str
    id: str
    serial: int
    address: str
    certificate: str
    roles: list[str] = msgspec.field(default_factory=lambda: list(ROLES))
    tables: list[str] = []
    needed: dict[str, int] = {}
    approvers: dict[str, str] = {}
    authority: str = ""


class _Signature(msgspec.Struct, forbid_unknown_fields=True):
    own: str
    previous: str = ""


class _MemberFile(msgspec.Struct, forbid_unknown_fields=True):
    consortium: str
    member: MemberField
    signature: _Signature


@dataclass(frozen=True, slots=True)
class MemberFile:
    """A member file whose own signature fits.

    Attributes:
      previous: the signature of the key before, b"" where there is none; `check_previous` says whether it fits.
    """

    consortium: str
    member: Organisation
    previous: bytes

    def check_previous(self, certificate: x509.Certificate) -> None:
        """Check that the key of an earlier certificate of this organisation signed the change.

        Raises:
          AuthenticationError: it did not.
        """
        _check(certificate, self.previous, self.consortium, self.member, "the key before the change")


def member_file(
    consortium: str, member: Organisation, key: PrivateKey, previous: PrivateKey | None = None
) -> str:
    """Return the member file of an organisation, signed with its key, and after a rotation with the one before."""
    content = _content(consortium, member)
    lines = [
        "# For the other members: secagg consortium add FILE",
        f"format = {FORMAT}",
        f"consortium = {json.dumps(consortium)}",
        "",
        "[member]",
        *member.toml(),
        "",
        "[signature]",
        f'own = "{base64.b64encode(signed(key, content)).decode()}"',
    ]
    if previous is not None:
        lines += [f'previous = "{base64.b64encode(signed(previous, content)).decode()}"']
    return "\n".join(lines) + "\n"


def read_member_file(path: Path) -> MemberFile:
    """Read a member file and check its own signature; whose it is remains to be checked.

    Raises:
      UsageError: it is none, or a field is wrong.
      AuthenticationError: the signature does not fit.
    """
    text = read_toml(path, what="the member file", kind=UsageError)
    tables = parse_toml(text, file=path, kind=UsageError)
    try:
        check_values(tables)
        fields = convert(tables, _MemberFile)
        check_consortium_name(fields.consortium, "consortium")
        member = organisation(fields.member, "member")
        own, previous = _decoded(fields.signature.own), _decoded(fields.signature.previous)
    except FieldFault as fault:
        raise fault.error(path, text, UsageError) from None
    _check(member.certificate, own, fields.consortium, member, "its own key")
    return MemberFile(fields.consortium, member, previous)


def organisation(fields: MemberField, place: str) -> Organisation:
    """Return an organisation of its fields; raises `FieldFault`."""
    try:
        check_name(fields.name)
        certificate = load_certificate(fields.certificate.encode())
        # Whether it is valid now is asked where it is used: an expired one can be looked at, and replaced.
        check_certificate(certificate, name=fields.name, at=certificate.not_valid_before_utc)
        address = parse_address(fields.address)
        authority = load_authority(fields.authority)
    except UsageError as error:
        raise FieldFault(place, str(error)) from None
    if not _ID.fullmatch(fields.id):
        raise FieldFault(f"{place}.id", f"expected 32 hexadecimal digits, got {fields.id!r:.80}")
    if fields.serial < 1:
        raise FieldFault(f"{place}.serial", f"expected 1 or more, got {fields.serial}")
    strange = [role for role in fields.roles if role not in ROLES]
    if strange or len(set(fields.roles)) != len(fields.roles):
        raise FieldFault(f"{place}.roles", f"expected some of {', '.join(ROLES)}, got {fields.roles!r:.80}")
    if len(fields.tables) > _MOST_TABLES or not all(map(_TABLE.fullmatch, fields.tables)):
        raise FieldFault(f"{place}.tables", f"expected names of tables, got {fields.tables!r:.80}")
    return Organisation(
        name=fields.name,
        id=fields.id,
        serial=fields.serial,
        address=address,
        certificate=certificate,
        roles=tuple(fields.roles),
        tables=tuple(fields.tables),
        needed=needed(fields.needed, f"{place}.needed"),
        approvers=approvers(fields.approvers, f"{place}.approvers"),
        authority=authority,
    )


def needed(given: Mapping[str, int], place: str) -> Needed:
    """Return how many persons approve; raises `FieldFault`."""
    for name, count in given.items():
        if name not in ("template", "run"):
            raise FieldFault(f"{place}.{name}", "expected `template` and `run`")
        least = 1 if name == "template" else 0
        if not least <= count <= _MOST_NEEDED:
            raise FieldFault(f"{place}.{name}", f"expected {least} to {_MOST_NEEDED} persons, got {count}")
    return Needed(**given)


def approvers(given: Mapping[str, str], place: str) -> dict[str, bytes]:
    """Return approvers' public keys; raises `FieldFault`."""
    found: dict[str, bytes] = {}
    if len(given) > _MOST_APPROVERS:
        raise FieldFault(place, f"expected at most {_MOST_APPROVERS} approvers, got {len(given)}")
    for person, text in given.items():
        try:
            check_name(person)
            key = base64.b64decode(text, validate=True)
            ed25519.Ed25519PublicKey.from_public_bytes(key)
        except (UsageError, ValueError, binascii.Error):
            raise FieldFault(
                f"{place}.{person}", f"expected a name and an Ed25519 public key in base64, got {text!r:.80}"
            ) from None
        if key in found.values():
            raise FieldFault(
                f"{place}.{person}", "another approver has the same key; each person has a key of their own"
            )
        found[person] = key
    return found


def check_consortium_name(name: str, place: str) -> None:
    """Check that a consortium can be called this; raises `FieldFault`."""
    try:
        check_name(name)
    except UsageError as error:
        raise FieldFault(place, str(error)) from None


def _content(consortium: str, member: Organisation) -> bytes:
    plain = msgspec.msgpack.encode(member.plain(), order="deterministic")
    return digest(f"{_LABEL} member", [consortium.encode(), plain])


def _check(
    certificate: x509.Certificate, signature: bytes, consortium: str, member: Organisation, whose: str
) -> None:
    try:
        check_signed(certificate.public_key(), signature, _content(consortium, member))
    except (InvalidSignature, ValueError):
        raise AuthenticationError(
            f"the member file of {member.name} is not signed by {whose}; ask {member.name} for it again",
            peer=member.name,
        ) from None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise FieldFault("signature", "expected base64") from None
