"""python-paillier reads what secagg wrote and the other way round; sums cross over."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("gmpy2", reason="Paillier needs gmpy2")
pytest.importorskip("phe", reason="the integration of phe needs it")

import phe

import secagg.integrations.phe as bridge
from secagg.errors import PlanError, RangeError, UsageError
from secagg.fixed_point import plan
from secagg.he.paillier import PublicKey, SecretKey

NUMBERS = [0.0, 1.0, -1.0, 3.25, -99.9375, 100.0, -100.0, 2.0**-20]


@pytest.fixture(scope="module")
def ours() -> SecretKey:
    key = SecretKey.generate(2048)
    key.public_key.prepare(window=3)
    return key


@pytest.fixture(scope="module")
def theirs():
    return phe.generate_paillier_keypair(n_length=2048)


@pytest.mark.parametrize("frac_bits", [20, 21, 22, 23])
def test_phe_reads_what_we_wrote(ours, frac_bits):
    p = plan(clip=100.0, frac_bits=frac_bits, parties=10)
    secret_key = bridge.to_secret_key(ours)
    numbers = bridge.to_encrypted_numbers(ours.public_key.encrypt(NUMBERS, p, slots=1))
    assert [secret_key.decrypt(number) for number in numbers] == NUMBERS


@pytest.mark.slow
def test_phe_reads_our_sums_and_adds_to_them(ours):
    p = plan(clip=100.0, frac_bits=20, parties=10)
    secret_key = bridge.to_secret_key(ours)
    ciphertext = ours.public_key.encrypt(NUMBERS, p, slots=1) * -3
    for number, x in zip(bridge.to_encrypted_numbers(ciphertext), NUMBERS, strict=True):
        mixed = number + secret_key.public_key.encrypt(0.1) + 7
        assert secret_key.decrypt(mixed) == pytest.approx(-3 * x + 7.1, abs=2.0**-40)


@pytest.mark.slow
def test_we_read_what_phe_wrote_under_its_own_key(theirs):
    public_key, secret_key = theirs
    p = plan(clip=100.0, frac_bits=20, parties=10)
    key = bridge.from_secret_key(secret_key)
    assert key.public_key.h is None
    written = [public_key.encrypt(x, precision=2.0**-20) for x in NUMBERS]
    ciphertext = bridge.from_encrypted_numbers(written, bridge.from_public_key(public_key), p)
    assert key.decrypt(ciphertext).tolist() == NUMBERS
    mixed = ciphertext + key.public_key.encrypt(NUMBERS, p, slots=1)
    assert key.decrypt(mixed).tolist() == [2 * x for x in NUMBERS]
    back = bridge.to_encrypted_numbers(mixed)
    assert [secret_key.decrypt(number) for number in back] == [2 * x for x in NUMBERS]


def test_numbers_of_phe_with_coarser_exponents_fit_a_finer_plan(ours):
    p = plan(clip=100.0, frac_bits=27, parties=10)
    public_key = bridge.to_public_key(ours.public_key)
    written = [
        public_key.encrypt(3),
        public_key.encrypt(-2.5, precision=0.25),
        public_key.encrypt(0.75, precision=2.0**-16),
    ]
    assert len({number.exponent for number in written}) == 3
    assert ours.decrypt(bridge.from_encrypted_numbers(written, ours.public_key, p)).tolist() == [
        3,
        -2.5,
        0.75,
    ]


def test_sums_made_by_phe_are_read_with_their_weight(ours):
    p = plan(clip=100.0, frac_bits=20, parties=10)
    public_key = bridge.to_public_key(ours.public_key)
    total = sum((public_key.encrypt(90.0, precision=2.0**-20) for _ in range(4)), 7)
    assert ours.decrypt(bridge.from_encrypted_numbers([total], ours.public_key, p, weight=5)).tolist() == [
        367.0
    ]
    with pytest.raises(RangeError, match="no sum of weight 1"):
        ours.decrypt(bridge.from_encrypted_numbers([total], ours.public_key, p))
    with pytest.raises(RangeError, match="does not fit a plan"):
        bridge.from_encrypted_numbers([total], ours.public_key, p, weight=11)


def test_numbers_that_phe_has_not_randomised_are_randomised(ours):
    p = plan(clip=100.0, frac_bits=20, parties=10)
    public_key = bridge.to_public_key(ours.public_key)
    bare = public_key.encrypt(1, r_value=1)
    first, second = (
        bridge.from_encrypted_numbers(
            [phe.EncryptedNumber(public_key, bare.ciphertext(False))], ours.public_key, p
        )
        for _ in range(2)
    )
    assert first.integers() != second.integers()
    assert ours.decrypt(first + second).tolist() == [2.0]


def test_keys_go_both_ways(ours, theirs):
    public_key, secret_key = theirs
    assert bridge.to_public_key(bridge.from_public_key(public_key)) == public_key
    assert bridge.to_secret_key(bridge.from_secret_key(secret_key)) == secret_key
    assert bridge.to_public_key(ours.public_key).n == ours.public_key.n
    assert bridge.to_secret_key(ours).public_key == bridge.to_public_key(ours.public_key)


def test_what_phe_cannot_hold_is_refused(ours):
    p = plan(clip=100.0, frac_bits=20, parties=10)
    with pytest.raises(UsageError, match="slots=1"):
        bridge.to_encrypted_numbers(ours.public_key.encrypt(NUMBERS, p))
    wide = PublicKey(int(ours.public_key.n), s=2)
    for call in (
        lambda: bridge.to_public_key(wide),
        lambda: bridge.to_secret_key(SecretKey(wide, *ours.prime_factors())),
        lambda: bridge.from_encrypted_numbers([], wide, p),
    ):
        with pytest.raises(UsageError, match="s = 1 only"):
            call()


def test_what_is_no_number_of_phes_or_does_not_fit_is_refused(ours, theirs):
    p = plan(clip=100.0, frac_bits=20, parties=10)
    public_key = bridge.to_public_key(ours.public_key)
    for numbers, kind, words in (
        ([], UsageError, "at least one"),
        ([5], UsageError, "expected phe.EncryptedNumber at index 0, got int"),
        ([public_key.encrypt(1), theirs[0].encrypt(1)], UsageError, "index 1 is encrypted under another key"),
        ([public_key.encrypt(0.1)], PlanError, "has 56 fractional bits, the plan 20"),
        ([phe.EncryptedNumber(public_key, 5, 40)], PlanError, "fractional bits"),
    ):
        with pytest.raises(kind, match=words):
            bridge.from_encrypted_numbers(numbers, ours.public_key, p)
    with pytest.raises(UsageError, match="too short"):
        bridge.from_public_key(phe.PaillierPublicKey(126869))


def pheutil(*arguments: str, text: str = "") -> str:
    from click.testing import CliRunner
    from phe.command_line import cli

    done = CliRunner().invoke(cli, list(arguments), input=text, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("pheutil")
    pheutil("genpkey", "--keysize", "2048", str(path / "secret"))
    pheutil("extract", str(path / "secret"), str(path / "public"))
    return path


@pytest.mark.slow
def test_keys_of_pheutil_are_read_and_decrypt_what_phe_encrypts(written):
    secret = bridge.from_secret_json((written / "secret").read_text())
    public = bridge.from_public_json((written / "public").read_bytes())
    assert public.key_id == secret.public_key.key_id
    p = plan(clip=100.0, frac_bits=20, parties=10)
    numbers = [bridge.to_public_key(public).encrypt(x, precision=2.0**-20) for x in NUMBERS]
    assert secret.decrypt(bridge.from_encrypted_numbers(numbers, public, p)).tolist() == NUMBERS


def test_pheutil_reads_the_keys_that_we_write(ours, tmp_path):
    (tmp_path / "secret").write_text(bridge.to_secret_json(ours, comment="ours"))
    pheutil("extract", str(tmp_path / "secret"), str(tmp_path / "public"))
    assert json.loads((tmp_path / "public").read_text()) == json.loads(
        bridge.to_public_json(ours.public_key, comment="ours")
    )
    pheutil("encrypt", str(tmp_path / "public"), "--output", str(tmp_path / "number"), "3.25")
    assert "3.25" in pheutil("decrypt", str(tmp_path / "secret"), str(tmp_path / "number"))
    back = bridge.from_secret_json((tmp_path / "secret").read_text())
    assert back.prime_factors() == ours.prime_factors()
    assert bridge.from_public_json((tmp_path / "public").read_text()).n == ours.public_key.n


def test_texts_that_are_no_keys_of_pheutils_are_refused_and_not_shown(ours, written):
    secret = json.loads((written / "secret").read_text())
    other = json.loads(bridge.to_public_json(ours.public_key))
    for fields, words in (
        ({**secret, "kty": "RSA"}, "expected a secret key as pheutil writes it"),
        ({**secret, "p": 5}, "expected a secret key as pheutil writes it"),
        ({k: v for k, v in secret.items() if k != "q"}, "expected a secret key as pheutil writes it"),
        (secret["pub"], "expected a secret key as pheutil writes it"),
        ({**secret, "p": ""}, "expected a number in base64url as p"),
        ({**secret, "p": secret["p"][:-1] + "\u2603"}, "expected a number in base64url as p"),
        ({**secret, "p": secret["p"] + "+/"}, "expected a number in base64url as p"),
        ({**secret, "pub": other}, "do not belong together"),
        ({**secret, "q": secret["p"]}, "do not belong together"),
    ):
        with pytest.raises(UsageError, match=words) as refusal:
            bridge.from_secret_json(json.dumps(fields))
        assert secret["p"][:20] not in str(refusal.value)
        assert refusal.value.__cause__ is None
    for text in ("", "{", "[" * 50_000, "null", b"\xff\xfe", json.dumps({**secret["pub"], "alg": "x"})):
        with pytest.raises(UsageError, match="expected a public key as pheutil writes it"):
            bridge.from_public_json(text)
    with pytest.raises(UsageError, match="at most 65536 characters"):
        bridge.from_public_json(" " * 70_000)
    with pytest.raises(UsageError, match="too short"):
        bridge.from_public_json(json.dumps({**secret["pub"], "n": "AQAB"}))
    with pytest.raises(UsageError, match="s = 1 only"):
        bridge.to_public_json(PublicKey(int(ours.public_key.n), s=2))
