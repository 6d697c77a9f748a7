"""Digests that no two statements share, and signatures that fit one statement, purpose and key alone."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import assume, given
from hypothesis import strategies as st

from secagg import signing
from secagg.errors import AuthenticationError, RemoteProtocolError

# RFC 8032, section 7.1, test 2: secret key, public key, and the signature of the one byte 0x72.
RFC_SECRET = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
RFC_PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
RFC_SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)
KEY = Ed25519PrivateKey.from_private_bytes(RFC_SECRET)
PARTS = [b"session", b"", b"\x00" * 40]


def test_a_digest_is_sha256_of_the_label_and_the_parts_each_behind_its_length() -> None:
    spelt_out = b"".join(len(s).to_bytes(8, "big") + s for s in (b"secagg", "läbel".encode(), b"ab", b""))
    assert signing.digest("läbel", [b"ab", b""]) == hashlib.sha256(spelt_out).digest()
    assert len(signing.digest("", [])) == signing.DIGEST_BYTES


statements = st.tuples(st.text(max_size=4), st.lists(st.binary(max_size=4), max_size=4))


@pytest.mark.slow
@given(statements, statements)
def test_different_statements_have_different_digests(
    a: tuple[str, list[bytes]], b: tuple[str, list[bytes]]
) -> None:
    assume(a != b)
    assert signing.digest(*a) != signing.digest(*b)


def test_moving_a_byte_between_label_and_parts_changes_the_digest() -> None:
    same_bytes = [
        ("ab", [b"cd"]),
        ("a", [b"bcd"]),
        ("abc", [b"d"]),
        ("ab", [b"c", b"d"]),
        ("ab", [b"cd", b""]),
    ]
    digests = [signing.digest(label, parts) for label, parts in same_bytes]
    assert len(set(digests)) == len(same_bytes)


def test_all_kinds_of_buffers_count_in_bytes() -> None:
    words = np.arange(6, dtype=np.uint64)
    raw = words.tobytes()
    expected = signing.digest("l", [raw])
    for same in (
        bytearray(raw),
        memoryview(raw),
        memoryview(words.data),
        memoryview(words.reshape(2, 3).data),
    ):
        assert signing.digest("l", [same]) == expected


def test_the_published_vector_of_ed25519() -> None:
    assert KEY.public_key().public_bytes_raw() == RFC_PUBLIC
    assert KEY.sign(b"\x72") == RFC_SIGNATURE


def test_a_signature_is_that_of_the_digest() -> None:
    signature = signing.sign(KEY, "label", PARTS)
    assert len(signature) == signing.SIGNATURE_BYTES
    KEY.public_key().verify(signature, signing.digest("label", PARTS))  # raises if it is not
    signing.verify(KEY.public_key(), signature, "label", PARTS, peer="bank")


def refused(signature: bytes, label: str, parts: list[bytes], key: Ed25519PrivateKey = KEY) -> str:
    with pytest.raises(AuthenticationError) as caught:
        signing.verify(key.public_key(), signature, label, parts, peer="bank b")
    assert isinstance(caught.value, RemoteProtocolError)
    assert caught.value.peer == "bank b"
    assert caught.value.__cause__ is None
    return str(caught.value)


def test_a_signature_for_one_purpose_statement_or_key_is_none_for_another() -> None:
    signature = signing.sign(KEY, "upload", PARTS)
    refused(signature, "uploads", PARTS)
    refused(signature, "upload", [*PARTS, b""])
    refused(signature, "upload", [*PARTS[:-1], b"\x00" * 39])
    refused(signature, "upload", PARTS[::-1])
    refused(signature, "upload", PARTS, Ed25519PrivateKey.from_private_bytes(bytes(32)))


def test_every_altered_signature_is_refused_and_the_error_says_what_was_expected_of_whom() -> None:
    signature = signing.sign(KEY, "upload", PARTS)
    for i, bit in itertools.product(range(len(signature)), (1, 128)):
        altered = bytearray(signature)
        altered[i] ^= bit
        text = refused(bytes(altered), "upload", PARTS)
    assert "bank b's signature of upload" in text


@pytest.mark.parametrize("length", [0, 1, 63, 65, 128])
def test_signatures_of_another_length_are_refused(length: int) -> None:
    refused((signing.sign(KEY, "upload", PARTS) * 2)[:length], "upload", PARTS)
