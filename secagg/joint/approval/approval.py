"""An approval: a person's signature under a job, for one organisation of one consortium.

It covers everything that parties agree on but certificates: pattern or query, the owners' rules, parameters, parties, roles,
validity and how many runs. A changed byte of meaning is another job. Of a template it covers the ranges in place of the
values, and an approval of a run covers the values. The numbers that organisations drew when they joined are covered too, so
that it counts in no other consortium.
"""

from __future__ import annotations

import contextlib
import datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from secagg import signing
from secagg.errors import AuthenticationError, UsageError
from secagg.files import check_format, read_file
from secagg.home import Home
from secagg.jobs.job import Job
from secagg.joint.approval.keys import ApproverKey
from secagg.network.identity import check_name
from secagg.party import PartyId

Kind = Literal["template", "run"]
TEMPLATE: Final[Kind] = "template"
RUN: Final[Kind] = "run"
FORMAT: Final = 1
_LABEL: Final = "secagg.joint.approval"
_MAX_BYTES: Final = 1 << 14
_ENDING: Final = ".approval.json"


class _Numbered(msgspec.Struct):
    format: int


class Approval(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A person's approval of a job.

    Attributes:
      kind: of a job or template, or of one run within a template.
      scope: of the consortium, as `Consortium.scope` has it.
      subject: the digest of what is approved, `Job.template` or `Job.content`.
      party, person: whose it is.
      at: when it was signed, by the signer's clock, in UTC.
      times: how often the run may take place; of a template the job says it.
      signature: of all this, by the person's key.
    """

    kind: Kind
    scope: bytes
    subject: bytes
    party: PartyId
    person: str
    at: Annotated[datetime.datetime, msgspec.Meta(tz=True)]
    times: int
    signature: bytes = b""

    def check(self, public_key: bytes) -> None:
        """Check the signature.

        Raises:
          AuthenticationError: it is not that of this key.
        """
        try:
            key = Ed25519PublicKey.from_public_bytes(public_key)
        except ValueError:
            raise AuthenticationError(f"{self.party}/{self.person}'s key is none", peer=self.party) from None
        signing.verify(key, self.signature, _LABEL, self._parts(), peer=self.party)

    def signed(self, key: ApproverKey) -> Approval:
        """Return the same with a person's signature."""
        return msgspec.structs.replace(self, signature=signing.sign(key.secret_key, _LABEL, self._parts()))

    def _parts(self) -> list[bytes]:
        texts = (self.kind, self.party, self.person, self.at.isoformat(), str(self.times))
        return [self.scope, self.subject, *(text.encode() for text in texts)]


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An approval as it stands in a file."""

    format: int
    approval: Approval


def subject_of(job: Job, kind: Kind) -> bytes:
    """Return the digest that an approval of this kind is about."""
    return job.content if kind == RUN else job.template


def sign(job: Job, kind: Kind, *, scope: bytes, party: PartyId, key: ApproverKey, times: int = 1) -> Approval:
    """Return a person's approval of a job.

    Args:
      scope: of the consortium.
      party: whose person it is.
      times: how often the run may take place.

    Raises:
      UsageError: a run of a job that is no template, or `times` below 1.
    """
    if kind == RUN and not job.vary:
        raise UsageError(
            f"{job.name} has no [vary], so that each run is what was approved; approve the job itself"
        )
    if not 1 <= times <= 1000:
        raise UsageError(f"expected a run to be approved 1 to 1000 times, got {times}")
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    unsigned = Approval(kind, scope, subject_of(job, kind), party, key.name, now, times if kind == RUN else 1)
    return unsigned.signed(key)


def keep(folder: Path, approval: Approval) -> Path:
    """Write an approval into a folder, in the place of an earlier one of the same person; return where it is.

    Raises:
      UsageError: it cannot be written.
    """
    check_name(approval.person)  # it becomes part of a file's name
    name = f"{approval.subject.hex()[:32]}.{approval.kind}.{approval.person}{_ENDING}"
    path, unfinished = folder / name, folder / f".{name}.new"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(_encoded(approval))
        unfinished.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
    return path


def read_approval(path: Path) -> Approval:
    """Read an approval; whether it is valid is for `check`.

    Raises:
      UsageError: the file is none.
    """
    content = read_file(path, what="the approval", max_bytes=_MAX_BYTES)
    with contextlib.suppress(msgspec.MsgspecError):
        check_format(msgspec.json.decode(content, type=_Numbered).format, FORMAT, what=str(path))
        kept = msgspec.json.decode(content, type=_Kept)
        approval = kept.approval
        # Times of other zones would be signed as other texts than are sent to peers.
        if kept.format == FORMAT and not approval.at.utcoffset():
            return approval
    raise UsageError(
        f"expected an approval, as `secagg job approve` writes it, in {path}; take the file away, or have the job "
        "approved again"
    )


def approvals_of(home: Home, job: Job) -> list[Approval]:
    """Return the approvals in a home that are about this job or its template; whether they are valid is not checked."""
    subjects = {(TEMPLATE, job.template), (RUN, job.content)}
    return [one for one in approvals_in(home) if (one.kind, one.subject) in subjects]


def approvals_in(home: Home) -> list[Approval]:
    """Return all approvals in a home; whether they are valid is not checked.

    Raises:
      UsageError: a file is none.
    """
    return [read_approval(path) for path in sorted(home.approvals.glob(f"*{_ENDING}"))]


def _encoded(approval: Approval) -> bytes:
    return msgspec.json.format(msgspec.json.encode(_Kept(FORMAT, approval))) + b"\n"
