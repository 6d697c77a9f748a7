"""Keys, certificates and fingerprints."""

from __future__ import annotations

import datetime
import hashlib
import os
import stat
import warnings
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec
from cryptography.x509.oid import NameOID

from secagg.errors import UsageError
from secagg.network.identity import (
    Identity,
    certificate_pem,
    check_certificate,
    create_identity,
    fingerprint,
    load_certificate,
    load_identity,
)

DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def identity() -> Identity:
    return create_identity("bank_a")


def test_a_saved_identity_is_loaded_again(identity: Identity, tmp_path: Path) -> None:
    key_path, certificate_path = identity.save(tmp_path / "new" / "directory")
    loaded = load_identity("bank_a", key_path, certificate_path)
    assert loaded.certificate == identity.certificate
    assert loaded.fingerprint == identity.fingerprint
    message = b"signed by the key that was loaded"
    identity.certificate.public_key().verify(loaded.secret_key.sign(message), message)  # type: ignore[union-attr,call-arg]


def test_the_key_file_is_for_its_owner_alone_whatever_the_umask(identity: Identity, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        key_path, _ = identity.save(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(key_path.stat().st_mode) == 0o600


@pytest.mark.parametrize("suffix", ["key", "crt"])
def test_no_file_is_overwritten(identity: Identity, tmp_path: Path, suffix: str) -> None:
    there = tmp_path / f"bank_a.{suffix}"
    there.write_text("precious")
    with pytest.raises(UsageError, match="exists and will not be overwritten"):
        identity.save(tmp_path)
    assert there.read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_key_that_others_can_touch_is_refused_with_the_remedy(
    identity: Identity, tmp_path: Path, mode: int
) -> None:
    key_path, certificate_path = identity.save(tmp_path)
    key_path.chmod(mode)
    with pytest.raises(UsageError, match=f"mode {mode:04o}.*chmod 600 {key_path}"):
        load_identity("bank_a", key_path, certificate_path)


def test_the_fingerprint_is_sha256_of_the_certificate_as_openssl_prints_it(identity: Identity) -> None:
    digest = hashlib.sha256(identity.certificate.public_bytes(serialization.Encoding.DER)).hexdigest()
    pairs = fingerprint(identity.certificate).removeprefix("SHA256:").split(":")
    assert "".join(pairs).lower() == digest
    assert len(pairs) == 32


def test_two_identities_of_one_name_differ() -> None:
    assert create_identity("bank_a").fingerprint != create_identity("bank_a").fingerprint


def test_neither_repr_nor_certificate_tells_the_key(identity: Identity) -> None:
    secret = identity.secret_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    assert "ecret" not in repr(identity)
    assert "rivate" not in repr(identity)
    assert secret.splitlines()[1] not in certificate_pem(identity.certificate)


def test_a_certificate_is_self_signed_by_an_ed25519_key_and_is_no_authority(identity: Identity) -> None:
    certificate = identity.certificate
    certificate.verify_directly_issued_by(certificate)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert not constraints.value.ca
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["bank_a"]


def test_a_certificate_is_checked_for_name_and_time(identity: Identity) -> None:
    certificate = identity.certificate
    check_certificate(certificate, name="bank_a")
    with pytest.raises(UsageError, match="expected a certificate for bank_b, got one for bank_a"):
        check_certificate(certificate, name="bank_b")
    with pytest.raises(UsageError, match="bank_a's certificate expired at"):
        check_certificate(certificate, name="bank_a", at=certificate.not_valid_after_utc + DAY)
    with pytest.raises(UsageError, match=r"is valid from .* clock"):
        check_certificate(certificate, name="bank_a", at=certificate.not_valid_before_utc - DAY)


def test_validity_is_what_was_asked_for() -> None:
    certificate = create_identity("bank_a", valid_days=30).certificate
    now = datetime.datetime.now(datetime.UTC)
    check_certificate(certificate, name="bank_a", at=now + 29 * DAY)
    with pytest.raises(UsageError, match="expired"):
        check_certificate(certificate, name="bank_a", at=now + 31 * DAY)


@pytest.mark.parametrize("days", [0, -1, 100_000])
def test_impossible_validities_are_refused(days: int) -> None:
    with pytest.raises(UsageError, match="1 to 3653 days"):
        create_identity("bank_a", valid_days=days)


@pytest.mark.parametrize("name", ["", ".hidden", "-option", "a/b", "../up", "a b", "a" * 64, "bänk", "a\n"])
def test_names_that_cannot_be_files_or_labels_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="expected a name of 1 to 63"):
        create_identity(name)


def test_the_longest_name_works(tmp_path: Path) -> None:
    name = "a" * 63
    assert load_identity(name, *create_identity(name).save(tmp_path)).name == name


def test_key_and_certificate_must_belong_together(identity: Identity, tmp_path: Path) -> None:
    key_path, _ = identity.save(tmp_path / "a")
    _, certificate_path = create_identity("bank_a").save(tmp_path / "b")
    with pytest.raises(UsageError, match="is not that of the certificate"):
        load_identity("bank_a", key_path, certificate_path)


def test_a_certificate_of_another_name_is_not_loaded(identity: Identity, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a certificate for bank_b"):
        load_identity("bank_b", *identity.save(tmp_path))


def test_files_that_are_missing_or_something_else_are_named(identity: Identity, tmp_path: Path) -> None:
    key_path, certificate_path = identity.save(tmp_path)
    with pytest.raises(UsageError, match=r"cannot read .*nothing\.key: No such file"):
        load_identity("bank_a", tmp_path / "nothing.key", certificate_path)
    with pytest.raises(UsageError, match="expected a certificate in PEM form"):
        load_identity("bank_a", key_path, key_path)
    certificate_path.chmod(0o600)
    with pytest.raises(UsageError, match="expected a private key in PEM form"):
        load_identity("bank_a", certificate_path, certificate_path)
    with pytest.raises(UsageError, match="expected a certificate in PEM form"):
        load_certificate(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def test_an_encrypted_key_is_refused(identity: Identity, tmp_path: Path) -> None:
    key_path, certificate_path = identity.save(tmp_path)
    key_path.write_bytes(
        identity.secret_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    with pytest.raises(UsageError, match="is encrypted"):
        load_identity("bank_a", key_path, certificate_path)


def company_certificate(key: ec.EllipticCurvePrivateKey | dsa.DSAPrivateKey) -> x509.Certificate:
    """A certificate that an authority issued; its subject is a machine, the party is an alternative name."""
    authority = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "host.example")]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Company CA")]))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("bank_c")]), critical=False)
        .sign(authority, hashes.SHA256())
    )


def test_a_company_certificate_with_an_elliptic_curve_key_can_be_loaded(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    paths = Identity("bank_c", company_certificate(key), key).save(tmp_path)
    assert load_identity("bank_c", *paths).name == "bank_c"


def test_a_key_that_tls_13_cannot_use_is_refused(tmp_path: Path) -> None:
    key = dsa.generate_private_key(1024)
    paths = Identity("bank_c", company_certificate(key), key).save(tmp_path)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="expected an Ed25519, Ed448, EC or RSA key"):
        load_identity("bank_c", *paths)


def test_saving_where_nothing_can_be_written_says_so(identity: Identity, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write the identity of bank_a"):
        identity.save(tmp_path / "file")


FAKE = "SHA256:" + ":".join(["AA"] * 32)
# evil4 of the attacks: back to the line's begin, another party's name and fingerprint, the rest into the title.
REPAINTING = f"\rCN=north  \nvalid 2026-11-28 to 2028-11-27\n{FAKE}\x1b]0"


def odd_certificate(
    subject: list[tuple[x509.ObjectIdentifier, str]], *, issuer: str = "Company CA", dns: str = "north"
) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library warns of the lengths that are to be refused
        fields = [x509.NameAttribute(oid, text, _validate=False) for oid, text in subject]
    return certificate_pem(
        x509.CertificateBuilder()
        .subject_name(x509.Name(fields))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(dns)]), critical=False)
        .sign(key, hashes.SHA256())
    )


@pytest.mark.parametrize(
    ("subject", "others", "says"),
    [
        ([(x509.ObjectIdentifier("2.5.4.13"), REPAINTING)], {}, r"unexpected field \(2\.5\.4\.13\)"),
        ([(NameOID.COMMON_NAME, REPAINTING)], {}, "malformed one"),
        ([(NameOID.ORGANIZATION_NAME, "Bank\x1b[2J")], {}, "subject's organization is no plain"),
        ([(NameOID.ORGANIZATION_NAME, "Bank\u202egnab")], {}, "is no plain printable text"),
        ([(NameOID.ORGANIZATION_NAME, FAKE[:60])], {}, "is no plain printable text"),
        ([(NameOID.COMMON_NAME, "\rCN=north\nvalid")], {}, "subject's common name is no plain"),
        ([(NameOID.STREET_ADDRESS, "S" * 129)], {}, "of at most 128 characters"),
        ([(NameOID.ORGANIZATION_NAME, "Bank" + 40 * " " + "x")], {}, "is no plain printable text"),
        ([(NameOID.COMMON_NAME, "north"), (NameOID.COMMON_NAME, "south")], {}, "two common names"),
        ([(NameOID.COMMON_NAME, "north")], {"issuer": "CA\nfake"}, "issuer's common name is no plain"),
        ([(NameOID.COMMON_NAME, "north")], {"dns": "north\x1b[2J"}, "alternative name is no plain|malformed"),
    ],
)
def test_a_certificate_whose_fields_could_mislead_whoever_looks_at_it_is_refused(
    subject: list[tuple[x509.ObjectIdentifier, str]], others: dict[str, str], says: str
) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        load_certificate(odd_certificate(subject, **others))
    assert str(caught.value).isprintable()


def test_a_company_certificate_with_the_usual_fields_is_accepted() -> None:
    subject = [
        (NameOID.COUNTRY_NAME, "DE"),
        (NameOID.ORGANIZATION_NAME, "Bank für Gemeinwohl AG"),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "550e8400e29b41d4a716446655440000"),
        (NameOID.EMAIL_ADDRESS, "mpc@bank.example"),
        (NameOID.COMMON_NAME, "north"),
    ]
    check_certificate(load_certificate(odd_certificate(subject)), name="north")


def test_certificates_and_keys_are_read_with_a_bound(identity: Identity, tmp_path: Path) -> None:
    key_path, certificate_path = identity.save(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (Path("/dev/zero"), tmp_path / "pipe"):
        with pytest.raises(UsageError, match="a device or a pipe"):
            load_identity("bank_a", key_path, path)
        with pytest.raises(UsageError, match="a device or a pipe"):
            load_identity("bank_a", path, certificate_path)
    certificate_path.write_bytes(bytes(1 << 17))
    with pytest.raises(UsageError, match="at most 65536 bytes"):
        load_identity("bank_a", key_path, certificate_path)
