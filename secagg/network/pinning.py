"""TLS 1.3 between parties that hold each other's certificates: those are accepted, and nothing else."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Generator, Iterable, Mapping
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from secagg.errors import AuthenticationError, UsageError
from secagg.network.identity import Identity, fingerprint
from secagg.network.sockets import Waiting
from secagg.party import PartyId

# What OpenSSL's reasons have in common, and what they mean here.
_FAULTS: Final = (
    (("PEER_DID_NOT_RETURN",), "shows no certificate"),
    (("ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW"), "does not speak TLS 1.3"),
    (("UNKNOWN_CA", "CERTIFICATE"), "does not take this party's certificate for the one it knows"),
    (
        (
            "HTTP",
            "WRONG_VERSION",
            "UNKNOWN_PROTOCOL",
            "TOO_LONG",
            "RECORD_LAYER",
            "RECORD_TYPE",
            "UNEXPECTED_MESSAGE",
        ),
        "does not speak TLS; is it a secagg party?",
    ),
)


class Tls:
    """TLS contexts that present one identity and accept the given certificates.

    Raises:
      UsageError: two parties have the same certificate.
    """

    def __init__(self, identity: Identity, certificates: Mapping[PartyId, x509.Certificate]) -> None:
        self.identity = identity
        self._certificates = dict(certificates)
        self._names = {_der(certificate): name for name, certificate in certificates.items()}
        if len({_der(identity.certificate), *self._names}) != len(certificates) + 1:
            raise UsageError("two parties have the same certificate; each party needs a key of its own")
        self._listening = _context(ssl.PROTOCOL_TLS_SERVER, identity, certificates.values())
        self._listening.num_tickets = 0  # a resumed connection would not show its certificate
        self._dialling = {
            name: _context(ssl.PROTOCOL_TLS_CLIENT, identity, [certificate])
            for name, certificate in certificates.items()
        }

    def shake(
        self, sock: socket.socket, dialled: PartyId | None
    ) -> Generator[Waiting, None, tuple[ssl.SSLSocket, PartyId]]:
        """Make a connection secure and return it with the name of who is at the other end.

        Args:
          sock: connected and non-blocking; closed on error.
          dialled: whom this party dialled; None when it was called.

        Raises:
          AuthenticationError: another than `dialled` is there.
          ssl.SSLCertVerificationError: the caller has no certificate that is known here.
          OSError: the connection ended, or does not speak TLS 1.3.
        """
        context = self._listening if dialled is None else self._dialling[dialled]
        with sock:
            secure = context.wrap_socket(sock, server_side=dialled is None, do_handshake_on_connect=False)
        try:
            while True:
                try:
                    secure.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    yield secure.fileno(), select.POLLIN
                except ssl.SSLWantWriteError:
                    yield secure.fileno(), select.POLLOUT
            # The context has refused all others already. That the certificates are equal is the whole of the
            # rule, so it is stated once where no option of a library can change it.
            name = self._names.get(secure.getpeercert(binary_form=True) or b"")
            if name is None or dialled not in (None, name):
                raise ssl.SSLCertVerificationError("certificate is not the one that was pinned")
        except ssl.SSLCertVerificationError as error:
            secure.close()
            if dialled is None:
                raise
            raise AuthenticationError(
                f"expected {dialled} with certificate {fingerprint(self._certificates[dialled])}, but another one is "
                f"presented there ({verification(error)}); check the address, and compare fingerprints with {dialled}",
                peer=dialled,
            ) from None
        except BaseException:
            secure.close()
            raise
        return secure, name


def shared_secret(secure: ssl.SSLSocket) -> bytes:
    """Return what both ends of a connection know and nobody else, 32 bytes or more; each connection has its own.

    It is the client's Finished message: a MAC under a key of this handshake, which goes encrypted over the wire
    [RFC 8446, 4.4.4]. Connections are never resumed, so both ends mean the client's.

    Raises:
      AuthenticationError: the handshake has not ended.
    """
    secret = secure.get_channel_binding("tls-unique")
    if secret is None or len(secret) < 32:
        raise AuthenticationError("expected a connection whose TLS handshake has ended", peer="")
    return secret


def handshake_fault(error: ssl.SSLError) -> str:
    """Return what the other end of a connection did instead of a handshake, in words that go after its name."""
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
        return "hung up before it had said who it is"
    reason = error.reason or ""
    for marks, fault in _FAULTS:
        if any(mark in reason for mark in marks):
            return fault
    return f"broke off the TLS handshake ({reason.lower().replace('_', ' ') or 'unreadable bytes'})"


def verification(error: ssl.SSLCertVerificationError) -> str:
    """Return what OpenSSL disliked about a certificate."""
    return str(getattr(error, "verify_message", "")) or str(error.args[-1])


def _context(protocol: int, identity: Identity, trusted: Iterable[x509.Certificate]) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the certificate itself is pinned, whatever the machine is called
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # also one that a company's authority issued
    for certificate in trusted:
        context.load_verify_locations(cadata=_der(certificate))
    identity.load_into(context)
    return context


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)
