"""Who a party is: a private key, a self-signed certificate, and the fingerprint that people compare.

There is no certificate authority. Parties exchange their certificate files once and compare fingerprints by another way (a
phone call, a signed letter). From then on each trusts exactly those files. The private key never leaves the machine on
which it was made.
"""

from __future__ import annotations

import datetime
import os
import re
import secrets
import ssl
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from secagg.errors import UsageError
from secagg.files import read_file
from secagg.printable import printable

VALID_DAYS: Final = 730
_CLOCK_SKEW: Final = datetime.timedelta(hours=1)  # a certificate made just now is valid on slower clocks
# Also a file name and a DNS label list; 63 is what a common name and a DNS label can both hold.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_MAX_FILE_BYTES: Final = 1 << 16  # of a key or a certificate
_MAX_VALUE: Final = 128  # characters of one field of a certificate, as in X.520
# Shown beside the real one, such a text could be taken for the fingerprint.
_LIKE_A_FINGERPRINT: Final = re.compile(r"(?:[0-9A-Fa-f]{2}:){8}|  ")
# What a company's authority writes about whom a certificate is for and who issued it. A field that is none of
# these could say anything to whoever looks at the certificate, such as another party's fingerprint.
_EXPECTED_FIELDS: Final = {
    oid: name
    for name, oid in (
        ("common name", NameOID.COMMON_NAME),
        ("organization", NameOID.ORGANIZATION_NAME),
        ("organizational unit", NameOID.ORGANIZATIONAL_UNIT_NAME),
        ("organization identifier", NameOID.ORGANIZATION_IDENTIFIER),
        ("country", NameOID.COUNTRY_NAME),
        ("state or province", NameOID.STATE_OR_PROVINCE_NAME),
        ("locality", NameOID.LOCALITY_NAME),
        ("street", NameOID.STREET_ADDRESS),
        ("postal code", NameOID.POSTAL_CODE),
        ("serial number", NameOID.SERIAL_NUMBER),
        ("e-mail address", NameOID.EMAIL_ADDRESS),
        ("domain component", NameOID.DOMAIN_COMPONENT),
        ("user identifier", NameOID.USER_ID),
    )
}

_MALFORMED: Final = (
    ValueError,
    UserWarning,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)

PrivateKey = (
    ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
)


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """A party's name, certificate and private key."""

    name: str
    certificate: x509.Certificate
    secret_key: PrivateKey = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """The certificate's fingerprint."""
        return fingerprint(self.certificate)

    def save(self, directory: Path) -> tuple[Path, Path]:
        """Write NAME.key (readable by its owner alone) and NAME.crt; return both paths.

        Raises:
          UsageError: one of the files exists, or the directory cannot be written to.
        """
        key_path, certificate_path = directory / f"{self.name}.key", directory / f"{self.name}.crt"
        for path in (key_path, certificate_path):
            if path.exists():
                raise UsageError(
                    f"{path} exists and will not be overwritten; move it away, or choose another directory"
                )
        key = self.secret_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            directory.mkdir(parents=True, exist_ok=True)
            _write_new(key_path, key, mode=0o600)
            _write_new(certificate_path, certificate_pem(self.certificate), mode=0o644)
        except OSError as error:
            raise UsageError(f"cannot write the identity of {self.name} to {directory}: {error}") from None
        return key_path, certificate_path

    def load_into(self, context: ssl.SSLContext) -> None:
        """Make a TLS context present this identity."""
        # OpenSSL takes keys from files only; under a password drawn for this one call the file tells nothing.
        password = secrets.token_bytes(32)
        key = self.secret_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password),
        )
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "identity.pem"
            _write_new(path, key + certificate_pem(self.certificate), mode=0o600)
            context.load_cert_chain(path, password=password)


def _write_new(path: Path, content: bytes, *, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)


def create_identity(name: str, *, valid_days: int = VALID_DAYS) -> Identity:
    """Make an Ed25519 key and a certificate for it that the key itself signs.

    Args:
      name: 1 to 63 letters, digits, dots, hyphens and underscores; the first a letter or digit.
      valid_days: from now on.

    Raises:
      UsageError: another kind of name, or a validity under a day or over 10 years.
    """
    check_name(name)
    if not 1 <= valid_days <= 3653:
        raise UsageError(f"expected a validity of 1 to 3653 days, got {valid_days}")
    secret_key = ed25519.Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = _now()
    usage = {
        "digital_signature": True,
        "content_commitment": False,
        "key_encipherment": False,
        "data_encipherment": False,
        "key_agreement": False,
        "key_cert_sign": False,
        "crl_sign": False,
        "encipher_only": False,
        "decipher_only": False,
    }
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(secret_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + datetime.timedelta(days=valid_days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        # Not an authority: a certificate signed by this key is nobody's.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .sign(secret_key, None)
    )
    return Identity(name, certificate, secret_key)


def load_identity(name: str, key_path: Path, certificate_path: Path) -> Identity:
    """Read a party's own key and certificate.

    Raises:
      UsageError: a missing or malformed file; a key that others on this machine can read; a key and certificate that do not
        belong together; a certificate that is not `name`'s or not valid now.
    """
    certificate = read_certificate(certificate_path, what=f"{name}'s certificate")
    check_certificate(certificate, name=name)
    pem = read_file(key_path, what=f"{name}'s private key", max_bytes=_MAX_FILE_BYTES, private=True)
    try:
        secret_key = serialization.load_pem_private_key(pem, password=None)
    except TypeError:
        raise UsageError(f"the private key in {key_path} is encrypted; give one without a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(f"expected a private key in PEM form in {key_path}; is it the .key file?") from None
    if not isinstance(secret_key, PrivateKey):
        raise UsageError(f"expected an Ed25519, Ed448, EC or RSA key in {key_path}; make one of these")
    if _public_bytes(secret_key.public_key()) != _public_bytes(certificate.public_key()):
        raise UsageError(f"the key in {key_path} is not that of the certificate in {certificate_path}")
    return Identity(name, certificate, secret_key)


def read_certificate(path: Path, *, what: str = "the certificate") -> x509.Certificate:
    """Read a certificate's file; errors as `load_certificate` and `secagg.files.read_file`."""
    return load_certificate(read_file(path, what=what, max_bytes=_MAX_FILE_BYTES))


def load_certificate(pem: bytes) -> x509.Certificate:
    """Read one certificate in PEM form.

    Raises:
      UsageError: it is not one, or holds fields that people or programs could be misled by.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of fields too long for X.509, or of a serial number below 1
        try:
            certificate = x509.load_pem_x509_certificate(pem)
        except (ValueError, UserWarning):
            raise UsageError(
                "expected a certificate in PEM form (-----BEGIN CERTIFICATE-----); is it the .crt file?"
            ) from None
        try:
            # All of this is decoded when it is first looked at.
            names = [("subject", certificate.subject), ("issuer", certificate.issuer)]
            alternative = _alternative_names(certificate)
            _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc, certificate.public_key()
        except _MALFORMED:
            raise UsageError(
                "expected a certificate whose fields, dates and key can be read, got a malformed one; "
                "ask for one made by `secagg identity new`"
            ) from None
    for where, name in names:
        _check_fields(where, name)
    for text in alternative:
        _check_text("alternative name", text)
    return certificate


def _check_fields(where: str, name: x509.Name) -> None:
    seen = set()
    for attribute in name:
        field = _EXPECTED_FIELDS.get(attribute.oid)
        if field is None:
            raise UsageError(
                f"the certificate's {where} has an unexpected field ({attribute.oid.dotted_string}); expected "
                f"names, places and addresses only. Ask for one made by `secagg identity new`"
            )
        if field == "common name" and field in seen:
            raise UsageError(f"the certificate's {where} has two common names; expected one")
        seen.add(field)
        _check_text(f"{where}'s {field}", attribute.value)


def _check_text(what: str, value: str | bytes) -> None:
    shown = value if isinstance(value, str) else value.hex()
    if (
        shown is not value
        or len(shown) > _MAX_VALUE
        or printable(shown) != shown
        or _LIKE_A_FINGERPRINT.search(shown)
    ):
        raise UsageError(
            f"the certificate's {what} is no plain printable text of at most {_MAX_VALUE} characters, "
            f'but "{printable(shown, 80)}"; do not use it, and ask whoever sent it for one made by `secagg identity new`'
        )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as the text that goes into a file."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def fingerprint(certificate: x509.Certificate) -> str:
    """Return "SHA256:" and the digest of the whole certificate in hexadecimal pairs, as openssl prints it."""
    return "SHA256:" + certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def check_name(name: str) -> None:
    """Check that a name can stand in a certificate and in a file name.

    Raises:
      UsageError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"expected a name of 1 to 63 letters, digits, '.', '-' and '_', the first a letter or digit, got {name!r:.80}"
        )


def check_certificate(
    certificate: x509.Certificate, *, name: str, at: datetime.datetime | None = None
) -> None:
    """Check that a certificate is `name`'s and valid now (or `at` another time).

    Raises:
      UsageError: it is not.
    """
    when = at if at is not None else _now()
    names = _names(certificate)
    if name not in names:
        raise UsageError(
            f"expected a certificate for {name}, got one for {', '.join(sorted(names)) or 'nobody'}; "
            f"is it the right file, and is {name} spelt as in the certificate?"
        )
    if when < certificate.not_valid_before_utc:
        raise UsageError(
            f"{name}'s certificate is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on, and it is "
            f"{when:%Y-%m-%d %H:%M}; is this machine's clock right?"
        )
    if when > certificate.not_valid_after_utc:
        raise UsageError(
            f"{name}'s certificate expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC and it is "
            f"{when:%Y-%m-%d %H:%M}; {name} makes a new one and every party replaces the old file"
        )


def _names(certificate: x509.Certificate) -> set[str]:
    names = {str(a.value) for a in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)}
    return names | set(_alternative_names(certificate))


def _alternative_names(certificate: x509.Certificate) -> list[str]:
    """Return the machine names; alternative names of other kinds are neither shown nor compared."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return extension.value.get_values_for_type(x509.DNSName)


def _public_bytes(key: object) -> bytes:
    return key.public_bytes(  # type: ignore[attr-defined, no-any-return]  # every public key type has it
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
