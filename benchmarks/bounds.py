"""What bounds a figure on this machine, as steps to be timed in turn with it: OpenSSL, numpy, BLAS and plain TLS.

Nothing here is secagg's, so that a bound does not move with the code that it bounds. All steps run in one thread.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from secagg.network.identity import create_identity

Step = Callable[[], None]
_CACHED: Final = 1 << 18  # bytes, which a cache of the second level holds
_WRITTEN: Final = 1 << 16  # bytes at a time on a link; the socket's own buffer holds as many


def keystream(nbytes: int) -> Step:
    """Return the step that makes so many bytes by AES-256-CTR, a cache's worth at a time."""
    cipher = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(bytes(16))).encryptor()
    zeros, into = memoryview(bytes(_CACHED)), memoryview(bytearray(_CACHED))

    def run() -> None:
        for start in range(0, nbytes, _CACHED):
            size = min(_CACHED, nbytes - start)
            cipher.update_into(zeros[:size], into[:size])

    return run


def memory(nbytes: int) -> Step:
    """Return the step that reads and writes so many bytes together: a numpy copy of half of them."""
    source = np.ones(max(1, nbytes // 2), np.uint8)
    target = np.ones_like(source)
    return lambda: np.copyto(target, source)


def float_products(rows: int, side: int) -> Step:
    """Return the step that multiplies `rows` rows by a square matrix in float64."""
    a, b = np.ones((rows, side)), np.ones((side, side))
    out = np.empty((rows, side))

    def run() -> None:
        np.matmul(a, b, out=out)

    return run


def signatures_and_agreements(peers: int) -> Step:
    """Return the step of two new X25519 keys, a signature, and two agreements and a check of a signature a peer."""
    signer, message = Ed25519PrivateKey.generate(), bytes(64)
    checker, signature = signer.public_key(), signer.sign(message)
    other = X25519PrivateKey.generate().public_key()

    def run() -> None:
        keys = [X25519PrivateKey.generate() for _ in range(2)]
        signer.sign(message)
        for _ in range(peers):
            checker.verify(signature, message)
            for key in keys:
                key.exchange(other)

    return run


def together(*steps: Step) -> Step:
    """Return the step that does all of them one after the other."""

    def run() -> None:
        for step in steps:
            step()

    return run


class Link:
    """A TLS 1.3 connection over loopback both of whose ends are here: the work of one party that sends and receives."""

    def __init__(self) -> None:
        with TemporaryDirectory() as folder:
            key, certificate = create_identity("bound").save(Path(folder))
            here, there = (ssl.SSLContext(p) for p in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT))
            here.load_cert_chain(certificate, key)
            there.load_verify_locations(certificate)
        there.check_hostname = False
        here.minimum_version = there.minimum_version = ssl.TLSVersion.TLSv1_3
        with socket.create_server(("127.0.0.1", 0)) as listener:
            outer = socket.create_connection(listener.getsockname())
            inner, _ = listener.accept()
        for sock in (inner, outer):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted: list[ssl.SSLSocket] = []
        thread = threading.Thread(target=lambda: accepted.append(here.wrap_socket(inner, server_side=True)))
        thread.start()
        self._sender = there.wrap_socket(outer)
        thread.join()
        (self._receiver,) = accepted

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sender.close()
        self._receiver.close()

    def carry(self, nbytes: int) -> Step:
        """Return the step that sends so many bytes and receives as many."""
        data, into = memoryview(os.urandom(_WRITTEN)), memoryview(bytearray(_WRITTEN))

        def run() -> None:
            for start in range(0, nbytes, _WRITTEN):
                size = min(_WRITTEN, nbytes - start)
                self._sender.sendall(data[:size])
                done = 0
                while done < size:
                    done += self._receiver.recv_into(into[done:size])

        return run
