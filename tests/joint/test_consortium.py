"""A consortium: members who hold the same are equal in version and digest, and nothing takes a member's place unseen."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from members import NAMES, THREE, Members
from secagg.errors import AuthenticationError, JobError, UsageError
from secagg.home import Home
from secagg.joint.approval.gate import ApprovalGate
from secagg.joint.approval.policy import Policy
from secagg.joint.consortium import Consortium, changes, read_member_file
from secagg.joint.consortium.authority import check_chain
from secagg.joint.consortium.consortium import Removed, Revoked
from secagg.joint.consortium.organisation import approvers
from secagg.joint.consortium.revocation import check_not_revoked, read_lists
from secagg.network.identity import certificate_pem, create_identity, fingerprint
from secagg.toml_files import FieldFault

JOB = f"""\
name = "j"
approval = "off"
pattern = "structuring"
{THREE}"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Members:
    return Members.made(tmp_path_factory.mktemp("members"), NAMES)


@pytest.fixture
def members(made: Members, tmp_path: Path) -> Members:
    return made.copied(tmp_path)


def state(home: Home) -> tuple[int, bytes]:
    consortium = Consortium.load(home)
    return consortium.version, consortium.digest


def test_members_who_hold_the_same_have_one_version_and_digest_in_whatever_order_it_came(
    members: Members,
) -> None:
    states = {state(home) for home in members.homes.values()}
    assert len(states) == 1
    before = states.pop()
    members.set_policy("west", replace(members.consortium("west").members["west"].needed, template=3))
    assert state(members.homes["west"]) > before
    members.tell("west")
    assert len({state(home) for home in members.homes.values()}) == 1


def test_a_file_says_the_same_after_it_was_written_and_read(members: Members) -> None:
    changes.remove(members.homes["north"], "west")
    one = members.consortium("north")
    one.save(members.homes["north"])
    again = members.consortium("north")
    assert (again.digest, again.version, again.me) == (one.digest, one.version, "north")
    assert again.members["south"].plain() == one.members["south"].plain()


def test_a_member_that_rotates_is_taken_over_by_its_old_keys_signature_and_the_old_certificate_is_refused(
    members: Members,
) -> None:
    old = members.identity("south").certificate
    changes.rotate(members.homes["south"])
    assert fingerprint(members.identity("south").certificate) != fingerprint(old)
    members.tell("south")
    assert len({state(home) for home in members.homes.values()}) == 1
    job = members.job(JOB, "north")
    members.consortium("north").check_job(job)
    stale = replace(
        job, members=tuple(replace(m, certificate=old) if m.name == "south" else m for m in job.members)
    )
    with pytest.raises(JobError, match=r"south's certificate SHA256:.* is revoked in the consortium banks"):
        members.consortium("west").check_job(stale)


def test_a_lost_keys_successor_needs_the_fingerprint_told_by_phone(members: Members) -> None:
    changes.rotate(members.homes["south"], lost=True)
    told = read_member_file(members.homes["south"].path / "south.member.toml")
    north = members.homes["north"]
    with pytest.raises(
        AuthenticationError, match="is not signed by its key before, and no known authority issued it"
    ):
        changes.add(north, told)
    with pytest.raises(AuthenticationError, match="and not the one told by phone"):
        changes.add(north, told, told_fingerprint="SHA256:" + "00:" * 31 + "00")
    changes.add(north, told, told_fingerprint=fingerprint(told.member.certificate))
    assert state(north) == state(members.homes["south"])


def test_a_stranger_cannot_take_a_members_place(members: Members, tmp_path: Path) -> None:
    thief = Home.create(tmp_path / "thief")
    changes.found(thief, "banks", "south", address=("evil.example", 1))
    told = read_member_file(thief.path / "south.member.toml")
    with pytest.raises(UsageError, match="another organisation of the name south"):
        changes.add(members.homes["north"], told)
    real = read_member_file(members.homes["south"].path / "south.member.toml").member
    posing = replace(real, serial=9, certificate=told.member.certificate)
    with pytest.raises(AuthenticationError, match="not signed by its key before"):
        changes.add(members.homes["north"], replace(told, member=posing))


def test_an_altered_or_old_member_file_is_refused(members: Members, tmp_path: Path) -> None:
    path = members.homes["south"].path / "south.member.toml"
    other = tmp_path / "altered.toml"
    other.write_text(path.read_text().replace("127.0.0.1", "127.0.0.9"))
    with pytest.raises(AuthenticationError, match="member file of south is not signed by its own key"):
        read_member_file(other)
    old = read_member_file(path)
    with pytest.raises(UsageError, match="number 2 is known already"):
        changes.add(members.homes["north"], old)
    other.write_text(path.read_text().replace('consortium = "banks"', 'consortium = "other"'))
    with pytest.raises(AuthenticationError):
        read_member_file(other)


def test_a_removed_member_is_refused_everywhere(members: Members) -> None:
    home = members.homes["north"]
    job = members.job(JOB, "north")
    told = read_member_file(members.homes["west"].path / "west.member.toml")
    changes.remove(home, "west")
    consortium = Consortium.load(home)
    with pytest.raises(JobError, match=r"west's certificate SHA256:.* is revoked in the consortium banks"):
        consortium.check_job(job)
    elsewhere = replace(
        job,
        members=tuple(
            replace(m, certificate=create_identity("west").certificate) if m.name == "west" else m
            for m in job.members
        ),
    )
    with pytest.raises(JobError, match="west was removed from the consortium banks"):
        consortium.check_job(elsewhere)
    with pytest.raises(UsageError, match=r"west's certificate .* is revoked here"):
        changes.add(home, told)
    older = replace(told.member, certificate=create_identity("west").certificate)  # one that north never saw
    with pytest.raises(UsageError, match="west was removed from banks; it joins again by a new member file"):
        changes.add(home, replace(told, member=older))
    with pytest.raises(UsageError, match="north is this organisation"):
        changes.remove(home, "north")


def test_a_certificate_role_or_table_other_than_the_members_is_refused(members: Members) -> None:
    job = members.job(JOB)
    consortium = members.consortium("north")
    wrong = create_identity("south").certificate
    other = replace(
        job, members=tuple(replace(m, certificate=wrong) if m.name == "south" else m for m in job.members)
    )
    with pytest.raises(JobError, match="and the consortium banks knows"):
        consortium.check_job(other)
    changes.change(members.homes["south"], roles=["computing"])
    members.tell("south")
    with pytest.raises(
        JobError, match="south has the role input in the job, and in the consortium banks only computing"
    ):
        members.consortium("north").check_job(job)
    changes.change(members.homes["south"], roles=["input", "computing"], tables=["transfers"])
    members.tell("south")
    with pytest.raises(
        JobError, match="south is to put in deposits, and by the consortium banks it holds transfers"
    ):
        members.consortium("north").check_job(job)


def authority(name: str = "Example Company") -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    return key, _certificate(name, key, name, key, ca=True)


def _certificate(
    subject: str,
    key: Any,
    issuer: str,
    issuer_key: Any,
    *,
    ca: bool,
    days: float = 30,
    also: Sequence[str] = (),
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    usage = dict.fromkeys(
        [
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ],
        False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, **usage), critical=True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    if not ca:
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False).add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in (subject, *also)]), critical=False
        )
    return builder.sign(issuer_key, hashes.SHA256())


def issued(folder: Path, name: str, company: tuple[Any, x509.Certificate]) -> tuple[Path, Path, Path]:
    """Return the files of a key, its certificate, and the authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(name, key, "Example Company", company[0], ca=False)
    folder.mkdir(exist_ok=True)
    pem = serialization.Encoding.PEM
    files = folder / "key.pem", folder / "crt.pem", folder / "ca.pem"
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for path, content in zip(
        files, (secret, certificate.public_bytes(pem), company[1].public_bytes(pem)), strict=True
    ):
        path.write_bytes(content)
    files[0].chmod(0o600)
    return files


def test_a_chain_is_checked_at_this_time() -> None:
    key, root = authority()
    check_chain(_certificate("east", key, "Example Company", key, ca=False), [root])
    over = _certificate("east", key, "Example Company", key, ca=False, days=-0.5)
    with pytest.raises(UsageError, match="was not issued by the authority that is given"):
        check_chain(over, [root])


def revoked_by(
    company: tuple[Any, x509.Certificate],
    *serials: int,
    days: float = 7,
    since: float = -1,
    key: Any = None,
    extension: tuple[x509.ExtensionType, bool] | None = None,
) -> bytes:
    """Return a company's list of revoked certificates."""
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(company[1].subject)
        .last_update(now + datetime.timedelta(days=since))
        .next_update(now + datetime.timedelta(days=days))
        .add_extension(x509.CRLNumber(1), critical=False)
    )
    if extension is not None:
        builder = builder.add_extension(extension[0], critical=extension[1])
    for serial in serials:
        one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        builder = builder.add_revoked_certificate(one)
    return builder.sign(key or company[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_a_certificate_that_a_companys_authority_took_back_ends_all_runs_with_its_member(
    members: Members, tmp_path: Path
) -> None:
    company = authority()
    key, certificate, root = issued(tmp_path / "first", "east", company)
    east = Home.create(tmp_path / "east")
    changes.found(east, "banks", "east", address=("127.0.0.1", 9), given=(key, certificate), authority=root)
    told, north = read_member_file(east.path / "east.member.toml"), members.homes["north"]
    mine = told.member.certificate
    folder = north.path / "revoked"
    folder.mkdir()
    for content, said in (
        (
            revoked_by(company, mine.serial_number),
            "east's certificate .* is revoked since .*ask east for its new",
        ),
        (revoked_by(company, days=-0.1), "counts from .* to .* UTC, which is not now; fetch"),
        (revoked_by(company, since=0.1), "counts from .* to .* UTC, which is not now; fetch"),
        (revoked_by(company, key=authority()[0]), "whose key did not sign it"),
        *(
            (revoked_by(company, extension=(one, critical)), "not the whole list of its authority")
            for one, critical in (
                (x509.DeltaCRLIndicator(1), True),
                (x509.DeltaCRLIndicator(1), False),
                (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\5\0"), True),
            )
        ),
        (b"no list", "expected in .* a list of revoked certificates"),
        (
            revoked_by(authority("other")) + revoked_by(company, mine.serial_number),
            "east's certificate .* is revoked since",
        ),
        (revoked_by(company) + certificate_pem(company[1]), "lists in PEM form and nothing else"),
        (revoked_by(company)[:-30] + revoked_by(company), "lists in PEM form and nothing else"),
    ):
        (folder / "company.crl").write_bytes(content)
        with pytest.raises(UsageError, match=said):
            changes.add(north, told)
    (folder / "company.crl").write_bytes(revoked_by(company, mine.serial_number + 1))
    for other, said in (
        ("COMPANY.CRL", "is revoked since"),
        ("company.pem", r"as files NAME.crl, got company\.pem"),
    ):
        (folder / other).write_bytes(revoked_by(company, mine.serial_number))
        with pytest.raises(UsageError, match=said):
            changes.add(north, told)
        (folder / other).unlink()
    (folder / ".company.crl.unfinished").touch()
    changes.add(north, told)

    # A chain in another order, one with a namesake of the issuer, and none hide nothing.
    lists = read_lists_of(folder, revoked_by(company, mine.serial_number), north)
    for chain in ([company[1]], [authority("x")[1], company[1]], [authority()[1], company[1]], []):
        with pytest.raises(UsageError, match="is revoked since"):
            check_not_revoked("east", mine, chain, lists)

    replace(Policy.load(north), unapproved="allow").save(north)
    gate, job = ApprovalGate(north), members.job(JOB.replace("west", "east"))
    with pytest.raises(JobError, match=r"j cannot run: east's certificate .* is revoked since"):
        gate.ready(job, "north")


def test_the_certificate_of_an_authority_in_between_may_be_taken_back_by_the_one_above(
    members: Members,
) -> None:
    company, key = authority(), ec.generate_private_key(ec.SECP256R1())
    between = _certificate("Branch", key, "Example Company", company[0], ca=True)
    mine = _certificate("east", ec.generate_private_key(ec.SECP256R1()), "Branch", key, ca=False)
    north = members.homes["north"]
    folder = north.path / "revoked"
    folder.mkdir()
    lists = read_lists_of(folder, revoked_by(company, between.serial_number + 1), north)
    check_not_revoked("east", mine, [between, company[1]], lists)
    lists = read_lists_of(folder, revoked_by(company, between.serial_number), north)
    with pytest.raises(UsageError, match=r"a certificate of east's authority, .* is revoked since"):
        check_not_revoked("east", mine, [between, company[1]], lists)


def read_lists_of(folder: Path, content: bytes, home: Home) -> Any:
    (folder / "company.crl").write_bytes(content)
    return read_lists(home)


def test_a_companys_own_authority_vouches_for_its_members_next_certificate_and_no_other_does(
    members: Members, tmp_path: Path
) -> None:
    company = authority()
    key, certificate, root = issued(tmp_path / "first", "east", company)
    east = Home.create(tmp_path / "east")
    changes.found(east, "banks", "east", address=("127.0.0.1", 9), given=(key, certificate), authority=root)
    north = members.homes["north"]
    changes.add(north, read_member_file(east.path / "east.member.toml"))

    key, certificate, _ = issued(tmp_path / "second", "east", company)
    changes.rotate(east, new=(key, certificate), lost=True)
    said = changes.add(north, read_member_file(east.path / "east.member.toml"))
    assert "the authority that issued the certificate before issued the new one" in said[-1]

    other = authority()
    key, certificate, root = issued(tmp_path / "third", "east", other)
    with pytest.raises(UsageError, match="was not issued by the authority that is given"):
        changes.rotate(east, new=(key, certificate), lost=True)
    changes.rotate(east, new=(key, certificate), authority=root, lost=True)
    told = read_member_file(east.path / "east.member.toml")
    with pytest.raises(AuthenticationError, match="no known authority issued it"):
        changes.add(north, told)
    # To name the authority before is not enough: it has to have issued the certificate.
    with pytest.raises(UsageError, match="was not issued by the authority that is given"):
        changes.add(north, replace(told, member=replace(told.member, authority=(company[1],))))


def test_a_number_or_a_certificate_is_that_of_one_member_alone(members: Members) -> None:
    told = read_member_file(members.homes["south"].path / "south.member.toml")
    key = ec.generate_private_key(ec.SECP256R1())
    shared = _certificate("south", key, "south", key, ca=False, also=["sud"])
    north = members.homes["north"]
    changes.add(
        north,
        replace(told, member=replace(told.member, serial=9, certificate=shared)),
        told_fingerprint=fingerprint(shared),
    )
    second = replace(told.member, name="sud", certificate=shared)
    for one in (
        replace(second, id="0" * 32),
        replace(second, certificate=create_identity("sud").certificate),
    ):
        with pytest.raises(UsageError, match="sud has the number or certificate of south"):
            changes.add(north, replace(told, member=one))


def test_everything_that_a_member_says_of_itself_is_compared_and_signed(
    members: Members, tmp_path: Path
) -> None:
    consortium = members.consortium("north")
    south = consortium.members["south"]
    eve = members.keys["west"]["anna"].public_key
    others: dict[str, Any] = {
        "name": "sued",
        "id": "0" * 32,
        "serial": 99,
        "address": ("127.0.0.1", 99),
        "certificate": create_identity("south").certificate,
        "roles": ("input",),
        "tables": ("deposits",),
        "needed": replace(south.needed, run=0),
        "approvers": {**south.approvers, "eve": eve},
        "authority": (south.certificate,),
    }
    for name, other in others.items():
        changed = replace(south, **{name: other})
        assert (
            replace(consortium, members={**consortium.members, "south": changed}).digest != consortium.digest
        )
    revoked = (Revoked(fingerprint(south.certificate), "south"),)
    assert replace(consortium, revoked=revoked).digest != consortium.digest
    assert replace(consortium, removed=(Removed("east", "0" * 32, 1),)).digest != consortium.digest
    text = (members.homes["south"].path / "south.member.toml").read_text()
    altered = tmp_path / "altered.toml"
    altered.write_text(
        text.replace("approvers = {", f'approvers = {{"eve" = "{base64.b64encode(eve).decode()}", ')
    )
    with pytest.raises(AuthenticationError, match="is not signed by its own key"):
        read_member_file(altered)


def test_one_person_is_no_two_approvers(members: Members) -> None:
    key = members.keys["south"]["anna"].public_key
    with pytest.raises(FieldFault, match="another approver has the same key"):
        approvers({name: base64.b64encode(key).decode() for name in ("anna", "bert")}, "approvers")
