"""The files that organisations keep and exchange, as test vectors: each with one of a later release, which is refused.

Long, as there are many kinds, each made in a few lines.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from made import Fields, Format, identity_of
from secagg.bench import store, utility
from secagg.jobs.checkpoints import read_sealed
from secagg.jobs.job_file import parse_job
from secagg.jobs.signature import read_record, sign_record, verify_record, with_private_part
from secagg.joint.approval.approval import Approval, keep, read_approval
from secagg.joint.approval.keys import ApproverKey, open_key
from secagg.joint.audit import entry
from secagg.joint.audit.bundle import read_bundle
from secagg.joint.consent.absence import Cells, check_absence
from secagg.joint.consent.proofs import ProofFile, read_proof
from secagg.joint.consortium.consortium import Consortium
from secagg.joint.consortium.organisation import Organisation, member_file, read_member_file
from secagg.network.identity import certificate_pem, fingerprint

NAMES: Final = ("north", "south", "west")
ANNA: Final = ApproverKey("anna", Ed25519PrivateKey.from_private_bytes(b"anna".ljust(32, b".")))
_NO: Final = "AuthenticationError"


def written(content: str, name: str = "file") -> Path:
    """Return a file with this content; its folder is in the temporary folder, and goes with the process."""
    folder = tempfile.TemporaryDirectory()
    _FOLDERS.append(folder)
    path = Path(folder.name, name)
    path.write_text(content, "utf-8")
    return path


_FOLDERS: Final[list[tempfile.TemporaryDirectory[str]]] = []


# Job files


def job_file(given: Fields) -> dict[str, Any]:
    job = parse_job(given["toml"], file=Path("job.toml"))
    return {"name": job.name, "parties": [party.name for party in job.peers()], "approval": job.approval}


def job_files() -> Format:
    parties = "".join(
        f'\n[[parties]]\nname = "{name}"\naddress = "{name}.example:7400"\ncertificate = """\n'
        f'{certificate_pem(identity_of(name).certificate).decode()}"""\n'
        for name in NAMES
    )
    begin = 'name = "j"\npattern = "collectors"\napproval = "off"\n'
    roles = f"\n[roles]\ninput = {json.dumps(NAMES)}\ncomputing = {json.dumps(NAMES)}\n"

    def text(first: str) -> Fields:
        return {"toml": first + begin + roles + parties}

    return Format(
        "job files",
        job_file,
        {"of format 1": text("format = 1\n"), "without a format, which is 1": text("")},
        {
            "of a later format": ("JobError", text("format = 2\n")),
            "a format that is no number": ("JobError", text('format = "1"\n')),
            "a field that nobody knows": ("JobError", text("formats = 1\n")),
        },
    )


# Consortia


def north() -> Organisation:
    return Organisation(
        name="north", id="0" * 31 + "1", serial=3, address=("north.example", 7400),
        certificate=identity_of("north").certificate, approvers={"anna": ANNA.public_key},
    )  # fmt: skip


def member(given: Fields) -> dict[str, Any]:
    found = read_member_file(written(given["toml"]))
    return {"toml": member_file(found.consortium, found.member, identity_of("north").secret_key)}


def member_files() -> Format:
    good = member_file("amlnet", north(), identity_of("north").secret_key)
    return Format(
        "member files of consortia",
        member,
        {"of north": {"toml": good}},
        {
            "of a later format": ("UsageError", {"toml": good.replace("format = 1", "format = 2")}),
            "another serial number": (_NO, {"toml": good.replace("serial = 3", "serial = 4")}),
            "of another consortium": (_NO, {"toml": good.replace('"amlnet"', '"amlnets"')}),
        },
    )


def consortium(given: Fields) -> dict[str, Any]:
    found = Consortium.read(written(given["toml"]))
    return {"digest": found.digest.hex(), "version": found.version, "members": sorted(found.members)}


def consortia() -> Format:
    begin = 'format = 1\nname = "amlnet"\nme = "north"\nremoved = []\nrevoked = []\n\n[[members]]'
    good = "\n".join([begin, *north().toml(), ""])
    return Format(
        "consortia",
        consortium,
        {"of one member": {"toml": good}},
        {
            "of a later format": ("UsageError", {"toml": good.replace("format = 1", "format = 2")}),
            "without this member": ("UsageError", {"toml": good.replace('me = "north"', 'me = "south"')}),
        },
    )


# Approvals


def approval(given: Fields) -> dict[str, Any]:
    found = read_approval(written(given["json"]))
    found.check(ANNA.public_key)
    path = written("")
    return {"json": keep(path.parent, found).read_text("utf-8")}


def approvals() -> Format:
    at = datetime.datetime(2026, 9, 1, 12, tzinfo=datetime.UTC)
    made = Approval("template", b"s" * 32, b"t" * 32, "north", "anna", at, 1).signed(ANNA)
    good = keep(written("").parent, made).read_text("utf-8")
    return Format(
        "approvals of jobs",
        approval,
        {"of anna": {"json": good}},
        {
            "of a later format": ("UsageError", {"json": good.replace('"format": 1', '"format": 2')}),
            "without a format": ("UsageError", {"json": good.replace('"format": 1,', "")}),
            "another person": (_NO, {"json": good.replace('"anna"', '"bert"')}),
            "cut off": ("UsageError", {"json": good[:-4]}),
        },
    )


def approver_key(given: Fields) -> dict[str, Any]:
    key = open_key(given["json"].encode(), given["password"])
    return {"name": key.name, "public_key": base64.b64encode(key.public_key).decode()}


def approver_keys() -> Format:
    """Salt and nonce were drawn once; fewer rounds of scrypt than usual make the tests quick."""
    content = {
        "format": 1, "kind": "secagg approver key", "name": "anna",
        "public_key": "XpY/6V1pMSk9qFIFfjJsYflUGBn51QoF8KrtvqxnTp4=", "log_n": 14,
        "salt": "VwmAG75JvmhhK2exbUjnQg==", "nonce": "lNZPTxzr7oJfuOPG",
        "sealed": "0uQiu5OwV/n4qZyPxjFdncKAUnwzgtB23U2zcx/jrUzv6yLiytUX878T2XMTsqdh",
    }  # fmt: skip

    def key(password: str = "correct horse", **changes: Any) -> Fields:
        return {"password": password, "json": json.dumps(content | changes)}

    return Format(
        "keys of approvers, under a password",
        approver_key,
        {"of anna": key()},
        {
            "of a later format": ("UsageError", key(format=2)),
            "another password": ("UsageError", key("horse correct")),
            "another name": ("UsageError", key(name="bert")),
        },
    )


# Logs, checkpoints, measurements


def audit_entry(given: Fields) -> dict[str, Any]:
    found = entry.parsed(given["line"].encode(), where="audit.log:1")
    entry.check_signature(found, identity_of("north").certificate, where="audit.log:1")
    return {"line": found.line.decode(), "hash": found.hash.hex()}


def audit_entries() -> Format:
    body = {
        "entry": 0, "time": "2026-10-01T06:00:01.120+00:00", "party": "north", "event": entry.KEY,
        "previous": entry.NO_ENTRY.hex(), "pem": "é",
    }  # fmt: skip
    good = entry.made(body, identity_of("north")).line.decode()
    return Format(
        "entries of audit logs",
        audit_entry,
        {"the first": {"line": good}},
        {
            "of a later format": ("UsageError", {"line": good.replace('"format":1', '"format":2')}),
            "without a format": (_NO, {"line": good.replace('"format":1,', "")}),
            "another number": (_NO, {"line": good.replace('"entry":0', '"entry":1')}),
            "another spelling": (_NO, {"line": good.replace(",", ", ")}),
        },
    )


def checkpoint(given: Fields) -> dict[str, Any]:
    path = written("")
    path.write_bytes(bytes.fromhex(given["bytes"]))
    return {"content": read_sealed(path, bytes.fromhex(given["key"]), given["header"].encode()).hex()}


def checkpoints() -> Format:
    """The salt was drawn once."""
    good = {
        "key": (b"k" * 32).hex(),
        "header": '{"step":1}',
        "bytes": b"secagg checkpoint 1\n".hex()
        + "0000000a7b2273746570223a317d"
        + "7b1ccf6cc66f942d9294ee2aff9b6019e4461904c0ac79003e0ba6ad763707212a5af24c1d8e788603cdb81829efe717236e2a5f0393d1",
    }
    later = good["bytes"].replace(b" 1\n".hex(), b" 2\n".hex())
    return Format(
        "checkpoints",
        checkpoint,
        {"of a few bytes": good},
        {
            "of a later format": ("UsageError", {**good, "bytes": later}),
            "another key": ("UsageError", {**good, "key": (b"l" * 32).hex()}),
            "of another step": ("UsageError", {**good, "header": '{"step":2}'}),
            "one bit altered": ("UsageError", {**good, "bytes": good["bytes"][:-1] + "0"}),
            "cut off": ("UsageError", {**good, "bytes": good["bytes"][:-2]}),
        },
    )


def result_file(given: Fields) -> dict[str, Any]:
    return {"keys": [result["key"] for result in store.read(written(given["lines"]))]}


def bench_results() -> Format:
    tables: dict[str, Any] = {
        name: {} for name in ("case", "parties", "links", "networks", "machine", "versions")
    }
    result: dict[str, Any] = {"format": 1, "key": "k", "where": "w", **tables}

    def lines(**changes: Any) -> Fields:
        return {"lines": json.dumps(result | changes) + "\n"}

    return Format(
        "results of secagg bench",
        result_file,
        {"one": lines()},
        {
            "of a later format": ("UsageError", lines(format=2)),
            "something else": ("UsageError", {"lines": '{"a": 1}\n'}),
        },
    )


def utility_file(given: Fields) -> dict[str, Any]:
    points = utility.read(written(given["lines"]))
    return {"accuracies": [one.accuracy for one in points], "lines": "".join(map(utility.line_of, points))}


def utility_results() -> Format:
    points = (utility.Utility("wine", 124, None, 1, 0.875), utility.Utility("wine", 124, 2.0, 1, 0.75))
    good = "".join(map(utility.line_of, points))
    return Format(
        "results of secagg bench utility",
        utility_file,
        {"with and without noise": {"lines": good}},
        {
            "of a later format": ("UsageError", {"lines": good.replace('"format": 1', '"format": 2')}),
            "without a format": ("UsageError", {"lines": good.replace('"format": 1, ', "")}),
            "a field that nobody knows": ("UsageError", {"lines": good.replace("rows", "persons")}),
        },
    )


# Proofs of absence, bundles for auditors, private parts of run records


def proof(given: Fields) -> dict[str, Any]:
    found = read_proof(written(given["json"]))
    check_absence(found.absence, _CELLS.root(), given["spelt"])
    name = "json" if '"format"' in given["json"] else "rewritten"
    return {"party": found.party, "session": found.session, name: found.to_json().decode()}


_CELLS: Final = Cells.of(b"c" * 32, [("deposits.customer", "Ada"), ("deposits.customer", "Bob")])


def absence_proofs() -> Format:
    spelt = {"deposits.customer": "Eve"}
    made = ProofFile(party="north", session="5e" * 32, absence=_CELLS.absence(spelt))
    good = made.to_json().decode()
    first = '  "format": 1,\n'

    def file(text: str, name: str = "Eve") -> Fields:
        return {"json": text, "spelt": {"deposits.customer": name}}

    return Format(
        "proofs that a person was not in a run",
        proof,
        {"of Eve": file(good), "without a format, which is 1": file(good.replace(first, ""))},
        {
            "of a later format": ("UsageError", file(good.replace('"format": 1', '"format": 2'))),
            "of a later format, with other fields": ("UsageError", file('{"format": 2, "cells": []}')),
            "a format that is none": ("UsageError", file(good.replace('"format": 1', '"format": 0'))),
            "cut off": ("UsageError", file(good[:-4])),
            "of somebody who was there": (_NO, file(good, "Ada")),
        },
    )


def audit_bundle(given: Fields) -> dict[str, Any]:
    path = written("")
    path.write_bytes(bytes.fromhex(given["zip"]))
    bundle = read_bundle(path)
    log, again = bundle.verified([identity_of("north").certificate]), path.with_name("again.zip")
    bundle.write(again)
    # How a ZIP file is packed differs between versions of zlib.
    with zipfile.ZipFile(again) as archive:
        members = {name: archive.read(name).decode() for name in archive.namelist()}
        return {"party": log.party, "comment": archive.comment.decode(), "members": members}


def audit_bundles() -> Format:
    north = identity_of("north")
    pem = certificate_pem(north.certificate).decode()
    body = {
        "entry": 0, "time": "2026-10-01T06:00:01.120+00:00", "party": "north", "event": entry.KEY,
        "previous": entry.NO_ENTRY.hex(), "pem": pem,
    }  # fmt: skip
    log = entry.made(body, north).line.decode() + "\n"

    def packed(comment: str = "secagg audit bundle 1", name: str = "audit.log", content: str = log) -> Fields:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.comment = comment.encode()
            for each, text in ((name, content), ("certificates/north.crt", pem)):
                archive.writestr(zipfile.ZipInfo(each, (1980, 1, 1, 0, 0, 0)), text)
        return {"zip": file.getvalue().hex()}

    return Format(
        "bundles of a log with its certificates and records, for auditors",
        audit_bundle,
        {"of a log of one entry": packed(), "without a format, which is 1": packed("")},
        {
            "of a later format": ("UsageError", packed("secagg audit bundle 2")),
            "of a later format, with other files": (
                "UsageError",
                packed("secagg audit bundle 2", "audit.cbor"),
            ),
            "a file that nobody knows": ("UsageError", packed(name="audit.txt")),
            "another party's log": (_NO, packed(content=log.replace('"north"', '"south"'))),
        },
    )


def private_part(given: Fields) -> dict[str, Any]:
    path = written(given["record"], "north.j.json")
    path.with_name("north.j.private.json").write_text(given["private"], "utf-8")
    record = read_record(path)
    verify_record(record, None)
    return {"fields": sorted(with_private_part(record, path).keys() - record.keys())}


def private_parts() -> Format:
    private = json.dumps({"salt": "00", "result_rows": 3, "tables": {}}, indent=2) + "\n"
    digest = hashlib.sha256(private.encode()).hexdigest()
    content: dict[str, Any] = {
        "format": 1, "party": "north", "job": "j", "outcome": "complete",
        "parties": [{"name": "north", "certificate": fingerprint(identity_of("north").certificate)}],
        "private": {"file": "north.j.private.json", "sha256": digest},
    }  # fmt: skip

    def signed(private: str = private, **changes: Any) -> Fields:
        record = json.dumps(sign_record(content | changes, identity_of("north")))
        return {"record": record, "private": private}

    return Format(
        "private parts of run records, which are of their record's format",
        private_part,
        {"as it is written": signed()},
        {
            "one row more": (_NO, signed(private.replace("3", "4"))),
            "of a record of a later format": ("UsageError", signed(format=2)),
        },
    )


KEPT_FILES: Final[tuple[Callable[[], Format], ...]] = (
    job_files, member_files, consortia, approvals, approver_keys, audit_entries, checkpoints, bench_results,
    utility_results, absence_proofs, audit_bundles, private_parts
)  # fmt: skip
