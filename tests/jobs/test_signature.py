"""Run records: whatever is changed in one, in its result or in its table is found."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from secagg.errors import AuthenticationError, UsageError
from secagg.jobs.signature import read_record, recorded_files, sign_record, verify_record
from secagg.network.identity import Identity, create_identity, fingerprint

NORTH, SOUTH = create_identity("north"), create_identity("south")


def unsigned(identity: Identity = NORTH) -> dict[str, Any]:
    return {
        "format": 1, "party": "north", "job": "j", "result_rows": 3, "risks": {"log2_false_match": -51.25}, "note": "é",
        "parties": [{"name": "north", "certificate": fingerprint(identity.certificate)},
                    {"name": "south", "certificate": fingerprint(SOUTH.certificate)}],
        "result": {"file": "north.j.csv", "sha256": "00"},
        "tables": {"transfers": {"files": [{"path": "/data/t.csv", "sha256": "11"}]}},
    }  # fmt: skip


def with_key(key: Any) -> Identity:
    """An identity whose certificate is another's but for the key."""
    made = NORTH.certificate
    builder = x509.CertificateBuilder().subject_name(made.subject).issuer_name(made.subject)
    builder = builder.public_key(key.public_key()).serial_number(5)
    builder = builder.not_valid_before(made.not_valid_before_utc).not_valid_after(made.not_valid_after_utc)
    return Identity("north", builder.sign(NORTH.secret_key, None), key)


@pytest.mark.parametrize(
    "identity",
    [
        NORTH,
        with_key(ec.generate_private_key(ec.SECP256R1())),
        with_key(rsa.generate_private_key(65537, 2048)),
    ],
    ids=["Ed25519", "P-256", "RSA"],
)
def test_a_signed_record_is_accepted_however_it_is_laid_out(identity: Identity, tmp_path: Path) -> None:
    record = sign_record(unsigned(identity), identity)
    for indent, ascii_only in ((2, True), (None, False)):
        (tmp_path / "record.json").write_text(json.dumps(record, indent=indent, ensure_ascii=ascii_only))
        again = read_record(tmp_path / "record.json")
        assert verify_record(again, None) == identity.certificate
        assert verify_record(again, identity.certificate) == identity.certificate
    record["result_rows"] = 4
    with pytest.raises(AuthenticationError, match="it was changed"):
        verify_record(record, None)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, inside in items for path in paths(inside, (*at, key)))]


@pytest.mark.parametrize("path", [path for path in paths(unsigned()) if path], ids=str)
def test_every_changed_removed_or_added_value_is_found(path: tuple[Any, ...]) -> None:
    for change in ("change", "remove", "add"):
        record = copy.deepcopy(sign_record(unsigned(), NORTH))
        inside = record
        for key in path[:-1]:
            inside = inside[key]
        if change == "change":
            inside[path[-1]] = "something else"
        elif change == "remove":
            del inside[path[-1]]
            if path == ("party",):
                continue  # no record any more
        elif isinstance(inside, dict):
            inside["another"] = 1
        else:
            inside.append(1)
        with pytest.raises(AuthenticationError):
            verify_record(record, None)


def test_a_record_that_another_party_signed_is_found() -> None:
    record = sign_record(unsigned(), SOUTH)
    with pytest.raises(AuthenticationError, match="which is not that of north in the job"):
        verify_record(record, None)
    forged = unsigned(create_identity("north"))
    with pytest.raises(AuthenticationError, match="which is not that of north"):
        verify_record(sign_record(forged, NORTH), None)
    stranger = create_identity("north")
    record = sign_record(unsigned(stranger), stranger)
    assert verify_record(record, None) == stranger.certificate  # which is why it is to be compared
    with pytest.raises(AuthenticationError, match="and the one given is"):
        verify_record(record, NORTH.certificate)


@pytest.mark.parametrize("signature", [None, {}, {"certificate": 1, "value": ""}, {"certificate": "", "value": ""},
                                       "text", {"certificate": "x", "value": "*"}])  # fmt: skip
def test_a_malformed_signature_is_found(signature: Any) -> None:
    with pytest.raises(AuthenticationError, match="malformed"):
        verify_record({**unsigned(), "signature": signature}, None)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "nonsense", '{"a": 1, "a": 2}', '{"a": NaN}', "[" * 100_000, '{"party": 1}', "\x00"],
    ids=lambda text: text[:10],
)
def test_what_is_no_record_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(UsageError, match=r"expected a (signed )?run record"):
        read_record(tmp_path / "record.json")


def test_a_key_that_comes_twice_is_refused_although_readers_would_take_the_last(tmp_path: Path) -> None:
    text = json.dumps(sign_record(unsigned(), NORTH))
    (tmp_path / "record.json").write_text('{"result_rows": 0, ' + text[1:])
    with pytest.raises(UsageError, match="expected a run record"):
        read_record(tmp_path / "record.json")


def test_files_are_looked_for_where_the_record_or_whoever_checks_says() -> None:
    record = unsigned()
    found = recorded_files(record, Path("/kept/record.json"))
    assert [(f.what, str(f.path), f.sha256, f.given) for f in found] == [
        ("result", "/kept/north.j.csv", "00", False),
        ("table", "/data/t.csv", "11", False),
    ]
    found = recorded_files(record, Path("r"), result=Path("/x"), tables=[Path("/y")])
    assert [(str(f.path), f.given) for f in found] == [("/x", True), ("/y", True)]
    record["result"]["file"] = "../../etc/passwd"
    assert recorded_files(record, Path("/kept/record.json"))[0].path == Path("/kept/passwd")
    with pytest.raises(UsageError, match="tells of 1 tables, and 2 were given"):
        recorded_files(record, Path("r"), tables=[Path("/x"), Path("/y")])
    del record["result"]
    with pytest.raises(UsageError, match="tells of no result"):
        recorded_files(record, Path("r"), result=Path("/x"))
