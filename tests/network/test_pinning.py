"""Handshakes over a pair of sockets: the pinned certificate of the right party is accepted, and nothing else."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from secagg.errors import AuthenticationError, UsageError
from secagg.network.identity import Identity, create_identity
from secagg.network.pinning import Tls, shared_secret

IDENTITIES = {name: create_identity(name) for name in ("a", "b", "c", "stranger")}


def tls(me: str, known: str) -> Tls:
    """Return the contexts of a party that holds the certificates of these others."""
    return Tls(IDENTITIES[me], {name: IDENTITIES[name].certificate for name in known})


def shake(contexts: Tls, sock: socket.socket, dialled: str | None) -> Any:
    """Return the name at the other end and the secure socket, or the error."""
    sock.settimeout(20)  # `shake` is written for sockets that do not block; with these it needs no poll
    try:
        steps = contexts.shake(sock, dialled)
        while True:
            next(steps)
    except StopIteration as done:
        return done.value[1], done.value[0]
    except (OSError, AuthenticationError) as error:
        return error


def meet(
    listening: Callable[[socket.socket], Any], dialling: Callable[[socket.socket], Any]
) -> tuple[Any, Any]:
    """Return what both ends of one connection say, each in a thread."""
    with ThreadPoolExecutor(2) as pool:
        ends = socket.socketpair()
        results = [pool.submit(run, end) for run, end in zip((listening, dialling), ends, strict=True)]
        return results[0].result(), results[1].result()


def close(*ends: Any) -> None:
    for end in ends:
        if isinstance(end, tuple):
            end[1].close()


def test_each_learns_the_name_under_which_the_others_certificate_was_pinned():
    a, b = meet(lambda s: shake(tls("a", "bc"), s, None), lambda s: shake(tls("b", "ac"), s, "a"))
    assert (a[0], b[0]) == ("b", "a")
    assert a[1].version() == b[1].version() == "TLSv1.3"
    assert tls("a", "bc").identity is IDENTITIES["a"]  # whose fingerprint errors name
    close(a, b)


def test_both_ends_of_a_connection_know_a_secret_that_no_other_connection_has():
    secrets = []
    for _ in range(2):
        a, b = meet(lambda s: shake(tls("a", "bc"), s, None), lambda s: shake(tls("b", "ac"), s, "a"))
        secrets.append((shared_secret(a[1]), shared_secret(b[1])))
        close(a, b)
    assert all(one == other and len(one) >= 32 for one, other in secrets)
    assert secrets[0] != secrets[1]
    plain = socket.socket()
    early = ssl.create_default_context().wrap_socket(plain, server_hostname="a")
    with plain, early, pytest.raises(AuthenticationError, match="handshake has ended"):
        shared_secret(early)


def test_another_party_than_the_one_that_was_dialled_is_refused_and_named_though_its_certificate_is_known():
    c, b = meet(lambda s: shake(tls("c", "ab"), s, None), lambda s: shake(tls("b", "ac"), s, "a"))
    assert isinstance(b, AuthenticationError)
    assert b.peer == "a"
    assert "expected a with certificate" in str(b)
    close(c)


def test_that_the_context_knows_a_certificate_is_not_enough_for_the_one_that_was_dialled():
    """The rule is stated once more behind OpenSSL: here the context takes c for a, and the comparison does not."""
    contexts = tls("b", "ac")
    contexts._dialling["a"] = contexts._dialling["c"]
    c, b = meet(lambda s: shake(tls("c", "ab"), s, None), lambda s: shake(contexts, s, "a"))
    assert isinstance(b, AuthenticationError)
    assert b.peer == "a"
    close(c)


def test_a_caller_that_nobody_pinned_is_refused():
    a, s = meet(lambda s: shake(tls("a", "bc"), s, None), lambda s: shake(tls("stranger", "a"), s, "a"))
    assert isinstance(a, ssl.SSLError)
    close(s)  # in TLS 1.3 the caller's side of the handshake is over before the refusal comes


def test_a_caller_that_the_context_takes_but_nobody_pinned_is_refused():
    contexts = tls("a", "b")
    contexts._listening.load_verify_locations(cadata=ssl.PEM_cert_to_DER_cert(_pem(IDENTITIES["stranger"])))
    a, s = meet(lambda s: shake(contexts, s, None), lambda s: shake(tls("stranger", "a"), s, "a"))
    assert isinstance(a, ssl.SSLCertVerificationError)
    close(s)


def _pem(identity: Identity) -> str:
    from cryptography.hazmat.primitives import serialization

    return identity.certificate.public_bytes(serialization.Encoding.PEM).decode()


def test_a_caller_without_a_certificate_is_refused():
    def call(sock: socket.socket) -> Any:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        sock.settimeout(20)
        try:
            with context.wrap_socket(sock) as secure:
                return secure.recv(1)  # the refusal comes after the handshake
        except OSError as error:
            return error

    a, stranger = meet(lambda s: shake(tls("a", "b"), s, None), call)
    assert isinstance(a, ssl.SSLError)
    assert not stranger or isinstance(stranger, OSError)


@pytest.mark.parametrize("calls", [True, False])
def test_older_versions_of_tls_are_refused(calls):
    old = tls("b", "a")
    for context in (old._listening, old._dialling["a"]):
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    one, other = meet(
        lambda s: shake(old if not calls else tls("a", "b"), s, None),
        lambda s: shake(old if calls else tls("a", "b"), s, "a" if calls else "b"),
    )
    assert isinstance(one, OSError | AuthenticationError)
    assert isinstance(other, OSError | AuthenticationError)


def test_no_session_can_be_resumed():
    listening, dialling = tls("a", "b"), tls("b", "a")

    def talk(a: Any, b: Any) -> None:
        a[1].send(b"x")  # tickets, if there were any, come before the first byte
        assert b[1].recv(1) == b"x"

    a, b = meet(lambda s: shake(listening, s, None), lambda s: shake(dialling, s, "a"))
    talk(a, b)
    assert listening._listening.num_tickets == 0
    assert b[1].session is None or not b[1].session.has_ticket
    assert not b[1].session_reused
    close(a, b)


def test_two_parties_with_one_certificate_are_refused():
    for others in ({"b": "b", "c": "b"}, {"b": "a"}):
        with pytest.raises(UsageError, match="the same certificate"):
            Tls(IDENTITIES["a"], {name: IDENTITIES[of].certificate for name, of in others.items()})
