"""Make certificates and SuperNode keys for one machine: python make_certificates.py FOLDER NODES.

ca.pem signs superlink.pem, which is for localhost. supernode-0 and supernode-0.pub, and so on, are the keys by which the
SuperLink knows its SuperNodes. Between machines your own certificate authority signs, and each site makes its own key.
"""

import datetime
import ipaddress
import os
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def new_file(path, data):
    """Write what only this user may read; a file that is there stays."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def new_key():
    return ec.generate_private_key(ec.SECP384R1())


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def usage(**allowed):
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment")
    names += ("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**(dict.fromkeys(names, False) | allowed))


def certificate(subject, key, issuer, issuer_key):
    now = datetime.datetime.now(datetime.UTC)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        x509.CertificateBuilder(name(issuer), name(subject), key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(identifier, critical=False)
    )


def make_certificates(folder):
    """Make ca.pem, superlink.pem and superlink.key; nobody keeps the authority's key."""
    ca_key, link_key = new_key(), new_key()
    authority = (
        certificate("example authority", ca_key, "example authority", ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(ca_key, hashes.SHA384())
    )
    places = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    link = (
        certificate("SuperLink", link_key, "example authority", ca_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(places), critical=False)
        .sign(ca_key, hashes.SHA384())
    )
    new_file(folder / "ca.pem", authority.public_bytes(Encoding.PEM))
    new_file(folder / "superlink.pem", link.public_bytes(Encoding.PEM))
    private = link_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    new_file(folder / "superlink.key", private)


def make_supernode_key(folder, number):
    """Make what `ssh-keygen -t ecdsa -b 384` makes."""
    key = new_key()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    new_file(folder / f"supernode-{number}", private)
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    new_file(folder / f"supernode-{number}.pub", public)


def main(folder, nodes):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    make_certificates(folder)
    for number in range(int(nodes)):
        make_supernode_key(folder, number)


if __name__ == "__main__":
    main(*sys.argv[1:])
