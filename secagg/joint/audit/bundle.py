"""What an auditor gets of one party: a ZIP file with its log, the certificates, and the records of the runs in the log.

    audit.log           the log, byte for byte
    certificates/*.crt  those that signed it, and those of the parties of the runs, as far as they are known
    records/*.json      signed run records, without their private parts

The archive's comment is the format's number. The log's entries and the records have their own besides.

Nothing in it is secret to the parties of the runs. The auditor compares the fingerprints of certificates with what
the parties say by another way, as parties do.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from secagg.errors import AuthenticationError, UsageError
from secagg.files import check_format, read_file, write_file
from secagg.jobs.signature import parse_record, read_record, verify_record
from secagg.joint.audit.log import MAX_LOG_BYTES, AuditLog, Entries, read_entries
from secagg.joint.audit.verification import VerifiedLog, check_record, verify_log
from secagg.network.identity import certificate_pem, fingerprint, load_certificate, read_certificate

FORMAT: Final = 1
_COMMENT: Final = b"secagg audit bundle %d"
_LOG: Final = "audit.log"
_CERTIFICATES: Final = "certificates/"
_RECORDS: Final = "records/"
_MAX_MEMBERS: Final = 20_000
_MAX_MEMBER_BYTES: Final = 1 << 24
_MODE: Final = 0o600
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the same log gives the same file


@dataclass(frozen=True, slots=True)
class Bundle:
    """A log with what belongs to it.

    Attributes:
      certificates: known to whoever made the bundle; an auditor compares them.
      records: by file name.
    """

    log: Entries
    certificates: tuple[x509.Certificate, ...]
    records: Mapping[str, Mapping[str, Any]]

    def verified(self, certificates: Sequence[x509.Certificate] = ()) -> VerifiedLog:
        """Return the log after checking it, and every record against it; errors as `verify_log` and `check_record`."""
        log = verify_log(self.log, certificates)
        for name, record in self.records.items():
            try:
                check_record(log, record)
                signer = verify_record(record, None)
            except AuthenticationError as error:
                raise AuthenticationError(f"{name}: {error}", peer=log.party) from None
            if fingerprint(signer) not in log.certificates:
                raise AuthenticationError(
                    f"{name} is signed with the certificate {fingerprint(signer)}, with which no entry of the log is",
                    peer=log.party,
                )
        return log

    def write(self, path: Path) -> None:
        """Write the file, for its owner alone; nothing is overwritten.

        Raises:
          UsageError: it cannot be written.
        """
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.comment = _COMMENT % FORMAT
            for name, member in self._members():
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), member, zipfile.ZIP_DEFLATED)
        try:
            write_file(path, content.getvalue(), mode=_MODE)
        except FileExistsError:
            raise UsageError(
                f"{path} exists and will not be overwritten; choose another name with --out"
            ) from None
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from None

    def _members(self) -> Iterator[tuple[str, bytes]]:
        yield _LOG, b"".join(entry.line + b"\n" for entry in self.log.entries)
        for certificate in self.certificates:
            name = fingerprint(certificate).removeprefix("SHA256:").replace(":", "").lower()
            yield f"{_CERTIFICATES}{name}.crt", certificate_pem(certificate)
        for name, record in self.records.items():
            yield f"{_RECORDS}{name}", (json.dumps(record, indent=2, allow_nan=False) + "\n").encode()


def make_bundle(
    log: AuditLog, *, certificates: Iterable[x509.Certificate], records: Iterable[Path]
) -> Bundle:
    """Return the bundle of a party's own log, checked.

    Args:
      certificates: of all parties, as this one knows them.
      records: files of run records; those of runs that the log does not have are left out.

    Raises:
      UsageError, AuthenticationError: a file that cannot be used, or a record that is not the log's.
    """
    entries = log.read()
    verified = verify_log(entries)
    found = {**verified.certificates, **{fingerprint(one): one for one in certificates}}
    kept = {}
    for path in records:
        record = read_record(path)
        if record.get("party") == verified.party and verified.run_of(str(record.get("session"))) is not None:
            kept[f"{str(record['session'])[:16]}.{path.name}"] = record  # each run of one job has its own
    bundle = Bundle(entries, tuple(found.values()), kept)
    bundle.verified()
    return bundle


def read_bundle(path: Path) -> Bundle:
    """Return a bundle from a ZIP file of `Bundle.write`, or a log alone from its file.

    Raises:
      UsageError: it is neither, of a later format, or larger than a bundle can be.
      AuthenticationError: the log was changed.
    """
    content = read_file(path, what="the audit log", max_bytes=MAX_LOG_BYTES)
    if not content.startswith(b"PK"):
        return Bundle(read_entries(content, path=str(path)), (), {})
    log = None
    certificates, records = [], {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if number := re.fullmatch(_COMMENT.replace(b"%d", rb"(\d{1,9})"), archive.comment):
                check_format(int(number[1]), FORMAT, what=str(path))
            members = archive.infolist()
            names = {member.filename for member in members}
            if len(members) > _MAX_MEMBERS or len(names) < len(members):
                raise UsageError(f"expected at most {_MAX_MEMBERS} files of different names in {path}")
            for member in members:
                name = member.filename
                limit = MAX_LOG_BYTES if name == _LOG else _MAX_MEMBER_BYTES
                if member.file_size > limit:
                    raise UsageError(
                        f"{name} in {path} takes {member.file_size} bytes; expected at most {limit}"
                    )
                with archive.open(member) as file:
                    held = file.read(limit + 1)
                if name == _LOG:
                    log = read_entries(held, path=f"{path}: {name}")
                elif name.startswith(_CERTIFICATES):
                    certificates.append(load_certificate(held))
                elif name.startswith(_RECORDS):
                    records[name.removeprefix(_RECORDS)] = parse_record(held, where=f"{path}: {name}")
                else:
                    raise UsageError(f"expected a log, certificates and records in {path}, got {name!r:.100}")
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise UsageError(f"{path} is no ZIP file that can be read: {str(error)!r:.100}") from None
    if log is None:
        raise UsageError(f"expected {_LOG} in {path}; is it a file of `secagg audit export`?")
    return Bundle(log, tuple(certificates), records)


def certificates_in(folder: Path) -> list[x509.Certificate]:
    """Return the certificates in a folder of keys, those that can be read."""
    return [read_certificate(path) for path in sorted(folder.glob("*.crt"))]
