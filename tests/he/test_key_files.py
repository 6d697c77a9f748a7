"""Keys in files: what comes back, what is refused, and who may read them."""

from __future__ import annotations

import hashlib
import importlib
import os
import stat
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from numpy.typing import NDArray

from secagg import fixed_point, signing, wire
from secagg.errors import RemoteProtocolError, SecaggError, UsageError
from secagg.he import key_files
from secagg.he.key_files import SealedSecret, load_secret, save_secret
from secagg.wire import Message

DIGEST_BYTES = 32
PASSWORD = b"six random words are what it takes"
CONTENT = np.arange(1000, dtype=np.uint8) ^ np.uint8(0x5A)


class SafeFields(Message, frozen=True):
    name: str
    content: NDArray[np.uint8]


class OtherFields(Message, frozen=True):
    name: str
    content: NDArray[np.uint8]


class Safe:
    """A secret with the fields that all have here."""

    def __init__(self, name: str, content: NDArray[np.uint8]) -> None:
        self.name, self.content = name, content

    def to_message(self) -> Message:
        return SafeFields(self.name, self.content)

    @classmethod
    def from_message(cls, message: SafeFields) -> Self:
        return cls(message.name, message.content)


class OtherSafe(Safe):
    def to_message(self) -> Message:
        return OtherFields(self.name, self.content)

    @classmethod
    def from_message(cls, message: OtherFields) -> Self:  # type: ignore[override]
        return cls(message.name, message.content)


SAFE = Safe("combination", CONTENT)


@pytest.fixture(scope="module")
def sealed_content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return what a file under the password holds; each sealing takes half a second."""
    path = tmp_path_factory.mktemp("sealed") / "key"
    save_secret(path, SAFE, password=PASSWORD)
    return path.read_bytes()


@pytest.fixture
def sealed(tmp_path: Path, sealed_content: bytes) -> Path:
    return write(tmp_path / "sealed.key", sealed_content)


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make scrypt cheap where a test opens many files."""

    def little(*, salt: bytes, length: int, n: int, r: int, p: int) -> Scrypt:
        return Scrypt(salt=salt, length=length, n=2, r=1, p=1)

    monkeypatch.setattr(key_files, "Scrypt", little)


def write(path: Path, content: bytes | bytearray, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def with_digest(content: bytes) -> bytes:
    return content + hashlib.sha256(content).digest()


def refused(path: Path, kind: type[Safe] = Safe, *, password: bytes | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        load_secret(path, kind, password=password)
    text = str(caught.value)
    assert str(path) in text
    assert PASSWORD.decode() not in text
    assert "combination" not in text
    assert caught.value.__cause__ is None
    return text


# What comes back, and who may read it.


@pytest.mark.parametrize(
    "password", [pytest.param(None, id="open"), pytest.param(PASSWORD, id="sealed", marks=pytest.mark.slow)]
)
def test_a_secret_comes_back_from_a_file_that_its_owner_alone_may_read(
    tmp_path: Path, password: bytes | None
) -> None:
    path = tmp_path / "key"
    before = os.umask(0)  # the mode must not hang on it
    try:
        save_secret(path, SAFE, password=password)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    got = load_secret(path, Safe, password=password)
    assert type(got) is Safe
    assert got.name == "combination"
    assert np.array_equal(got.content, CONTENT)


@pytest.mark.slow
def test_a_sealed_file_shows_nothing_of_the_secret(sealed: Path) -> None:
    content = sealed.read_bytes()
    assert b"combination" not in content
    assert CONTENT[:8].tobytes() not in content
    assert PASSWORD not in content


def test_two_sealed_files_of_one_secret_and_password_have_nothing_in_common(
    tmp_path: Path, cheap: None
) -> None:
    files = []
    for name in "ab":
        save_secret(tmp_path / name, SAFE, password=PASSWORD)
        files.append(wire.from_bytes((tmp_path / name).read_bytes()[:-DIGEST_BYTES], SealedSecret))
    assert files[0].salt != files[1].salt
    assert np.mean(files[0].sealed == files[1].sealed) < 0.05  # 1 of 256 agree by chance


@pytest.mark.slow
def test_a_sealed_file_is_scrypt_and_aes_gcm_as_the_docstring_says(sealed: Path) -> None:
    file = wire.from_bytes(sealed.read_bytes()[:-DIGEST_BYTES], SealedSecret)
    key = Scrypt(salt=file.salt, length=32, n=2**17, r=8, p=1).derive(PASSWORD)
    bound = signing.digest("secagg.he.key_files/sealed", [SafeFields.KIND.encode(), file.salt])
    content = AESGCM(key).decrypt(bytes(12), file.sealed.tobytes(), bound)
    assert wire.from_bytes(content, SafeFields).name == "combination"


@pytest.mark.slow
def test_a_sealed_file_may_be_read_by_others(sealed: Path) -> None:
    sealed.chmod(0o644)
    assert load_secret(sealed, Safe, password=PASSWORD).name == "combination"


# What is refused on writing.


def test_no_file_is_overwritten_nor_followed_through_a_link(tmp_path: Path) -> None:
    existing = write(tmp_path / "existing", b"precious")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    for path in (existing, link, tmp_path):
        with pytest.raises(UsageError, match="will not be overwritten"):
            save_secret(path, SAFE)
    assert existing.read_bytes() == b"precious"
    assert not (tmp_path / "nowhere").exists()


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot write .*nowhere/key: No such file"):
        save_secret(tmp_path / "nowhere" / "key", SAFE)


@pytest.mark.parametrize("password", [b"", "text", 7], ids=repr)
def test_empty_passwords_and_other_types_are_refused_and_nothing_is_written(
    tmp_path: Path, password: Any
) -> None:
    with pytest.raises(UsageError, match="a byte string that is not empty"):
        save_secret(tmp_path / "key", SAFE, password=password)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_write_that_fails_leaves_no_half_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(_: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises((UsageError, KeyboardInterrupt), match=r"No space left|^$"):
        save_secret(tmp_path / "key", SAFE)
    assert not list(tmp_path.iterdir())


# What is refused on reading.


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o666])
def test_open_files_that_others_may_touch_are_refused(tmp_path: Path, mode: int) -> None:
    save_secret(tmp_path / "key", SAFE)
    (tmp_path / "key").chmod(mode)
    text = refused(tmp_path / "key")
    assert f"mode {mode:04o}" in text
    assert "chmod 600" in text


@pytest.mark.slow
def test_a_wrong_password_is_refused(sealed: Path) -> None:
    assert "password does not open" in refused(sealed, password=PASSWORD + b"!")


@pytest.mark.slow
def test_a_missing_and_a_needless_password_are_told_apart(tmp_path: Path, sealed: Path) -> None:
    assert "is encrypted; give its password" in refused(sealed)
    save_secret(tmp_path / "key", SAFE)
    assert "expected an encrypted key" in refused(tmp_path / "key", password=PASSWORD)


def test_an_empty_password_does_not_pass_for_none(sealed: Path) -> None:
    with pytest.raises(UsageError, match="not empty"):
        load_secret(sealed, Safe, password=b"")


def test_another_kind_is_refused_by_name_sealed_or_not(tmp_path: Path, sealed: Path) -> None:
    text = refused(sealed, OtherSafe, password=PASSWORD)
    assert OtherFields.KIND in text
    assert SafeFields.KIND in text
    save_secret(tmp_path / "key", SAFE)
    assert f"expected a {OtherFields.KIND}" in refused(tmp_path / "key", OtherSafe)


def test_a_sealed_file_whose_kind_was_changed_does_not_open(
    tmp_path: Path, sealed_content: bytes, cheap: None
) -> None:
    save_secret(tmp_path / "a", SAFE, password=PASSWORD)
    file = wire.from_bytes((tmp_path / "a").read_bytes()[:-DIGEST_BYTES], SealedSecret)
    forged = wire.to_bytes(SealedSecret(OtherFields.KIND, file.salt, file.sealed))
    assert "was altered" in refused(write(tmp_path / "b", with_digest(forged)), OtherSafe, password=PASSWORD)


@pytest.mark.slow
@pytest.mark.parametrize(
    "password", [pytest.param(None, id="open"), pytest.param(PASSWORD, id="sealed", marks=pytest.mark.slow)]
)
def test_every_altered_bit_of_a_file_is_noticed(tmp_path: Path, cheap: None, password: bytes | None) -> None:
    small = Safe("combination", CONTENT[:40])
    save_secret(tmp_path / "key", small, password=password)
    content = (tmp_path / "key").read_bytes()
    path = write(tmp_path / "altered", content)
    for position in range(len(content)):
        for bit in range(8):
            altered = bytearray(content)
            altered[position] ^= 1 << bit
            path.write_bytes(altered)
            later = position == 3 and altered[3] > 1
            says = "a later release wrote it" if later else "is it the right file?"
            assert says in refused(path, password=password)
    assert np.array_equal(load_secret(tmp_path / "key", Safe, password=password).content, small.content)


@pytest.mark.slow
def test_who_makes_the_digest_anew_does_not_alter_a_sealed_file_unnoticed(
    tmp_path: Path, cheap: None
) -> None:
    save_secret(tmp_path / "key", Safe("combination", CONTENT[:40]), password=PASSWORD)
    content = (tmp_path / "key").read_bytes()[:-DIGEST_BYTES]
    unused = 0
    for position in range(len(content)):
        altered = bytearray(content)
        altered[position] ^= 0x11
        path = write(tmp_path / "altered", with_digest(bytes(altered)))
        try:
            # Bytes that only fill up to a multiple of 16 say nothing; the secret is what it was.
            assert np.array_equal(load_secret(path, Safe, password=PASSWORD).content, CONTENT[:40])
            unused += 1
        except UsageError as error:
            assert str(path) in str(error)  # noqa: PT017  # most positions raise, a few may not
    assert unused < 60


@pytest.mark.parametrize("length", [0, 1, 23, 24, 100, -17, -1])
def test_cut_off_files_are_refused(tmp_path: Path, sealed_content: bytes, length: int) -> None:
    cut = write(tmp_path / "cut", sealed_content[:length])
    refused(cut, password=PASSWORD)
    refused(cut)


def test_other_files_are_refused(tmp_path: Path) -> None:
    other = write(tmp_path / "other", b"-----BEGIN PRIVATE KEY-----\n" * 9)
    assert "is it the right file?" in refused(other)
    assert "is it the right file?" in refused(other, password=PASSWORD)
    assert "cannot read" in refused(tmp_path / "none")
    assert "cannot read" in refused(tmp_path)


@pytest.mark.parametrize("error", [UsageError, RemoteProtocolError])
def test_what_the_key_itself_refuses_is_the_files_fault(tmp_path: Path, error: type[SecaggError]) -> None:
    class Choosy(Safe):
        @classmethod
        def from_message(cls, message: SafeFields) -> Self:
            raise error("too short for a key")

    save_secret(tmp_path / "key", SAFE)
    with pytest.raises(UsageError, match="too short for a key"):
        load_secret(tmp_path / "key", Choosy)


def test_a_class_whose_message_is_not_annotated_is_the_programmers_mistake(tmp_path: Path) -> None:
    class Vague(Safe):
        @classmethod
        def from_message(cls, message: Any) -> Self:
            return cls("", CONTENT)

    with pytest.raises(TypeError, match=r"Vague.from_message is not annotated"):
        load_secret(tmp_path / "key", Vague)


# The schemes' own keys.


@pytest.mark.parametrize(
    ("module", "needs"),
    [
        ("secagg.he.rlwe.keys", "numpy"),
        ("secagg.he.paillier.secret_key", "gmpy2"),
        ("secagg.he.ckks.keys", "tenseal"),
    ],
    ids=["rlwe", "paillier", "ckks"],
)
@pytest.mark.slow
def test_a_schemes_secret_key_from_a_file_decrypts(tmp_path: Path, module: str, needs: str) -> None:
    pytest.importorskip(needs, reason=f"the scheme needs {needs}")
    keys = importlib.import_module(module)
    secret_key = keys.SecretKey.generate(2048) if needs == "gmpy2" else keys.SecretKey.generate()
    if needs == "gmpy2":
        secret_key.public_key.prepare(window=4)
    save_secret(tmp_path / "key", secret_key)
    loaded = load_secret(tmp_path / "key", keys.SecretKey)
    assert type(loaded) is keys.SecretKey
    assert loaded.public_key.key_id == secret_key.public_key.key_id
    numbers = np.array([1.5, -2.25, 0.0])
    ciphertext = secret_key.public_key.encrypt(numbers, fixed_point.plan(clip=4.0, frac_bits=8, parties=2))
    assert np.allclose(loaded.decrypt(ciphertext), numbers, atol=2**-9)
