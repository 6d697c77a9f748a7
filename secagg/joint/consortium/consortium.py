"""Who takes part: all organisations of a consortium, as one of them knows it.

Each keeps a file of its own, `consortium.toml`, and changes it by the commands of `secagg consortium`. Version and digest
follow from what is in it, in whatever order it came there. So members who hold the same are equal in both, and compare them
by phone. Parties of a run compare the digest too.

A certificate that was replaced, and those of members who were removed, stay in the file as revoked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from secagg.errors import JobError, UsageError
from secagg.home import Home
from secagg.jobs.agreement import OFF
from secagg.jobs.job import Job, Member
from secagg.joint.consortium.organisation import (
    ROLES,
    MemberField,
    Organisation,
    check_consortium_name,
    organisation,
)
from secagg.network.identity import fingerprint
from secagg.party import PartyId
from secagg.printable import printable
from secagg.signing import digest
from secagg.toml_files import FORMAT, FieldFault, check_values, convert, parse_toml, read_toml

_LABEL: Final = "secagg.joint.consortium"
_SHOWN_DIGITS: Final = 40  # of the digest, in hexadecimal: what two persons can read to each other


class Removed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An organisation that is no member any more; `serial` is the last one that was known."""

    name: str
    id: str
    serial: int


class Revoked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A certificate that is refused, and whose it was."""

    fingerprint: str
    member: str


class _ConsortiumFile(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    me: str
    members: list[MemberField]
    removed: list[Removed] = []
    revoked: list[Revoked] = []


@dataclass(frozen=True, slots=True)
class Consortium:
    """A consortium.

    Attributes:
      me: which of the members this organisation is.
      members: by name, this one among them.
    """

    name: str
    me: PartyId
    members: Mapping[PartyId, Organisation]
    removed: tuple[Removed, ...] = ()
    revoked: tuple[Revoked, ...] = field(default=())

    @classmethod
    def load(cls, home: Home) -> Consortium:
        """Read a home's consortium.

        Raises:
          UsageError: there is none, or a field is wrong.
        """
        if not home.consortium.is_file():
            raise UsageError(
                f"{home.consortium} is not there; make a consortium with `secagg consortium new`"
            )
        return cls.read(home.consortium)

    @classmethod
    def read(cls, path: Path) -> Consortium:
        """Read a consortium's file; errors as `load`."""
        text = read_toml(path, what="the consortium", kind=UsageError)
        tables = parse_toml(text, file=path, kind=UsageError)
        try:
            check_values(tables)
            fields = convert(tables, _ConsortiumFile)
            check_consortium_name(fields.name, "name")
            members = [organisation(one, f"members[{i}]") for i, one in enumerate(fields.members)]
            names = [member.name for member in members]
            if len(set(names)) != len(names) or fields.me not in names:
                raise FieldFault(
                    "members", f"expected members of different names, with {fields.me!r:.80} among them"
                )
        except FieldFault as fault:
            raise fault.error(path, text, UsageError) from None
        return cls(
            fields.name,
            fields.me,
            dict(zip(names, members, strict=True)),
            tuple(fields.removed),
            tuple(fields.revoked),
        )

    def save(self, home: Home) -> None:
        """Write the consortium in the place of what was there, whole or not at all.

        Raises:
          UsageError: it cannot be written.
        """
        unfinished = home.consortium.with_suffix(".new")
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(self._toml().encode())
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(home.consortium)
        except OSError as error:
            raise UsageError(f"cannot write {home.consortium}: {error.strerror}") from None

    @property
    def version(self) -> int:
        """Return the number of changes so far: members who hold the same have the same number."""
        return sum(m.serial for m in self.members.values()) + sum(r.serial + 1 for r in self.removed)

    @property
    def digest(self) -> bytes:
        """Return 32 bytes that are equal where two members hold the same."""
        plain = (
            [self.members[name].plain() for name in sorted(self.members)],
            sorted((r.name, r.id, r.serial) for r in self.removed),
            sorted((r.fingerprint, r.member) for r in self.revoked),
        )
        return digest(_LABEL, [self.name.encode(), msgspec.msgpack.encode(plain, order="deterministic")])

    @property
    def shown_digest(self) -> str:
        """Return the first 160 bits of the digest as people read them to each other."""
        text = self.digest.hex()[:_SHOWN_DIGITS]
        return " ".join(text[i : i + 4] for i in range(0, len(text), 4))

    def directory(self) -> dict[PartyId, Member]:
        """Return all members as a job takes them."""
        return {m.name: Member(m.name, m.address, m.certificate) for m in self.members.values()}

    def scope(self, job: Job) -> bytes:
        """Return what binds an approval to this consortium and these organisations, 32 bytes.

        Names and certificates may be used elsewhere; the numbers that organisations drew when they joined are not.
        """
        ids = [self.members[name].id for name in job.roster]
        return digest(f"{_LABEL} scope", [self.name.encode(), *(one.encode() for one in ids)])

    def check_job(self, job: Job) -> None:
        """Check that a job's parties are members, with the certificates, roles and tables that members know of them.

        Parties of a job without approval need not be members.

        Raises:
          JobError: a party that is no member or was removed; a certificate that is revoked or another one; a role or a
            table that the member does not have.
        """
        revoked = {one.fingerprint: one.member for one in self.revoked}
        for party in job.members:
            shown = None if party.certificate is None else fingerprint(party.certificate)
            if shown in revoked:
                raise JobError(
                    f"{party.name}'s certificate {shown} is revoked in the consortium {self.name}: {revoked[shown]} "
                    "replaced it or was removed; leave it out of the job, and ask for the new one"
                )
            member = self.members.get(party.name)
            if member is None:
                self._check_stranger(party.name, job)
                continue
            if shown is not None and shown != fingerprint(member.certificate):
                raise JobError(
                    f"{party.name}'s certificate in the job is {shown}, and the consortium {self.name} knows "
                    f"{fingerprint(member.certificate)}; leave it out of the job, or add {party.name}'s new member file"
                )
            self._check_part(member, job)

    def _check_stranger(self, name: PartyId, job: Job) -> None:
        if any(one.name == name for one in self.removed):
            raise JobError(
                f"{name} was removed from the consortium {self.name}; it takes part in nothing any more"
            )
        if job.approval != OFF:
            raise JobError(
                f"{name} is no member of the consortium {self.name}, which has {', '.join(self.members)}; add its member "
                "file with `secagg consortium add`"
            )

    def _check_part(self, member: Organisation, job: Job) -> None:
        for role, names in job.roles.items():
            if role in ROLES and member.name in names and role not in member.roles:
                raise JobError(
                    f"{member.name} has the role {role} in the job, and in the consortium {self.name} only "
                    f"{', '.join(member.roles) or 'none'}"
                )
        if member.tables and member.name in job.input_parties:
            missing = [name for name in job.pattern_at(member.name).inputs if name not in member.tables]
            if missing:
                raise JobError(
                    f"{member.name} is to put in {printable(', '.join(missing), 200)}, and by the consortium {self.name} "
                    f"it holds {', '.join(member.tables)}"
                )

    def _toml(self) -> str:
        lines = [
            "# Written by `secagg consortium`. Members compare version and digest by phone: secagg consortium show",
            f"# version {self.version}",
            f"# digest {self.shown_digest}",
            f"format = {FORMAT}",
            f"name = {json.dumps(self.name)}",
            f"me = {json.dumps(self.me)}",
        ]
        for name in sorted(self.members):
            lines += ["", "[[members]]", *self.members[name].toml()]
        for gone in self.removed:
            lines += [
                "",
                "[[removed]]",
                f'name = "{gone.name}"',
                f'id = "{gone.id}"',
                f"serial = {gone.serial}",
            ]
        for one in self.revoked:
            lines += ["", "[[revoked]]", f'fingerprint = "{one.fingerprint}"', f'member = "{one.member}"']
        return "\n".join(lines) + "\n"


def directory_of(home: Home | None) -> dict[PartyId, Member]:
    """Return all members that a home knows as a job takes them; nobody without a home or a consortium."""
    if home is None or not home.consortium.exists():
        return {}
    return Consortium.load(home).directory()
