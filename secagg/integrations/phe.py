"""Keys and ciphertexts of python-paillier (`phe`) to secagg's and back.

phe encrypts one number m * 16^exponent a ciphertext, with s = 1 and masks r^n. The same ciphertext is one residue
of secagg's with one slot. phe shows everybody the exponent, which tells the size of a number that was encrypted
without a precision: give phe `precision=2**-plan.frac_bits`, as `from_encrypted_numbers` asks for anyway.

Keys come and go as text too, as `pheutil` writes them: JSON with numbers in base64url. The text of a secret key is as secret
as the key.

A key of phe's has no base for short masks, and its primes are not chosen so that one would be safe. So secagg encrypts
under it with full-length masks, some thirty times more slowly than under its own keys.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeVar

import msgspec

try:
    import gmpy2
    import phe
except ImportError:
    raise ImportError('this needs gmpy2 and python-paillier: pip install "secagg[phe]"') from None

from secagg.errors import PlanError, UsageError
from secagg.fixed_point import Plan
from secagg.he.paillier import Ciphertext, PublicKey, SecretKey
from secagg.he.paillier.residues import Modulus
from secagg.he.scheme import Header

_LOG2_BASE = 4  # of phe.EncodedNumber.BASE
_MAX_JSON_CHARACTERS: Final = 1 << 16  # a secret key of 16,384 bits takes 6,000


class _PublicJson(msgspec.Struct, frozen=True):
    """A public key as `pheutil extract` writes it."""

    kty: Literal["DAJ"]
    alg: Literal["PAI-GN1"]
    n: str


class _SecretJson(msgspec.Struct, frozen=True):
    """A secret key as `pheutil genpkey` writes it."""

    kty: Literal["DAJ"]
    p: str
    q: str
    pub: _PublicJson


J = TypeVar("J", _PublicJson, _SecretJson)


def to_public_key(key: PublicKey) -> phe.PaillierPublicKey:
    """Return phe's form of a public key; what is encrypted with it has phe's masks.

    Raises:
      UsageError: a key with s > 1.
    """
    _check_plain(key.modulus)
    return phe.PaillierPublicKey(int(key.n))


def from_public_key(key: phe.PaillierPublicKey) -> PublicKey:
    """Return secagg's form of a public key, which has full-length masks.

    Raises:
      UsageError: a modulus too short or otherwise impossible.
    """
    return PublicKey(key.n)


def to_secret_key(key: SecretKey) -> phe.PaillierPrivateKey:
    """Return phe's form of a secret key. It is as secret, and phe lets it be pickled.

    Raises:
      UsageError: a key with s > 1.
    """
    return phe.PaillierPrivateKey(to_public_key(key.public_key), *key.prime_factors())


def from_secret_key(key: phe.PaillierPrivateKey) -> SecretKey:
    """Return secagg's form of a secret key.

    Raises:
      UsageError: a modulus too short or otherwise impossible.
    """
    return SecretKey(from_public_key(key.public_key), key.p, key.q)


def to_public_json(key: PublicKey, *, comment: str = "secagg") -> str:
    """Return a public key as `pheutil extract` writes it.

    Args:
      key: with s = 1.
      comment: "kid", for people.

    Raises:
      UsageError: a key with s > 1.
    """
    _check_plain(key.modulus)
    return json.dumps(_public_fields(key, comment))


def from_public_json(text: str | bytes) -> PublicKey:
    """Return the public key in a text that `pheutil extract` wrote.

    Raises:
      UsageError: no such text, a secret key, or a modulus too short or otherwise impossible.
    """
    return PublicKey(_number(_decoded(text, _PublicJson, "public").n, "n"))


def to_secret_json(key: SecretKey, *, comment: str = "secagg") -> str:
    """Return a secret key as `pheutil genpkey` writes it. It is as secret: write it to a file that you alone may read.

    Args:
      key: with s = 1.
      comment: "kid", for people.

    Raises:
      UsageError: a key with s > 1.
    """
    _check_plain(key.public_key.modulus)
    p, q = key.prime_factors()
    fields = {"kty": "DAJ", "key_ops": ["decrypt"], "p": _base64(p), "q": _base64(q)}
    return json.dumps(fields | {"pub": _public_fields(key.public_key, comment), "kid": comment})


def from_secret_json(text: str | bytes) -> SecretKey:
    """Return the secret key in a text that `pheutil genpkey` wrote.

    Raises:
      UsageError: no such text, primes that are not those of its modulus, or a modulus that is impossible.
    """
    fields = _decoded(text, _SecretJson, "secret")
    p, q, n = _number(fields.p, "p"), _number(fields.q, "q"), _number(fields.pub.n, "n")
    if p * q != n:
        raise UsageError("the secret and the public part of this key of pheutil's do not belong together")
    return SecretKey(PublicKey(n), p, q)


def to_encrypted_numbers(ciphertext: Ciphertext) -> list[phe.EncryptedNumber]:
    """Return an array encrypted with `slots=1` as phe's numbers, in the array's order.

    phe's exponents count in powers of 16: numbers with frac_bits that are no multiple of 4 are multiplied by 2, 4 or 8
    under encryption.

    Raises:
      UsageError: a key with s > 1, or a ciphertext of more slots.
    """
    modulus = ciphertext.modulus
    _check_plain(modulus)
    if ciphertext.slots != 1:
        raise UsageError(
            f"phe reads one number a ciphertext, this one has {ciphertext.slots}; encrypt with slots=1"
        )
    places = -(-ciphertext.header.plan.frac_bits // _LOG2_BASE)
    factor = 1 << (_LOG2_BASE * places - ciphertext.header.plan.frac_bits)
    residues = gmpy2.powmod_base_list(ciphertext.integers(), factor, modulus.ciphertext)
    public_key = phe.PaillierPublicKey(int(modulus.n))
    return [phe.EncryptedNumber(public_key, int(residue), -places) for residue in residues]


def from_encrypted_numbers(
    numbers: Sequence[phe.EncryptedNumber], public_key: PublicKey, plan: Plan, *, weight: int = 1
) -> Ciphertext:
    """Return phe's numbers as one ciphertext of shape (len(numbers),).

    Args:
      numbers: at least one; what they hold is not known here, and if it is beyond the plan, decryption says so.
        Those that phe has not randomised yet, such as sums with plain numbers, it randomises first.
      public_key: of the same modulus.
      plan: with frac_bits that no number's exponent exceeds.
      weight: how many plain numbers within the plan's clip one of these may have been summed from.

    Raises:
      UsageError: no number, numbers of another type or under another key, or of a key with s > 1.
      PlanError: a number has more fractional bits than the plan.
      RangeError: the plan has no room for the weight.
    """
    _check_plain(public_key.modulus)
    residues = []
    for i, number in enumerate(numbers):
        if not isinstance(number, phe.EncryptedNumber):
            raise UsageError(f"expected phe.EncryptedNumber at index {i}, got {type(number).__name__}")
        if number.public_key.n != public_key.n:
            raise UsageError(f"the number at index {i} is encrypted under another key than {public_key!r}")
        shift = _LOG2_BASE * number.exponent + plan.frac_bits
        if not 0 <= shift < plan.bits:
            raise PlanError(
                f"the number at index {i} has {-_LOG2_BASE * number.exponent} fractional bits, the plan {plan.frac_bits}; "
                f"encrypt with precision=2**-{plan.frac_bits // _LOG2_BASE * _LOG2_BASE}, or plan for more"
            )
        residues.append(gmpy2.powmod(number.ciphertext(), 1 << shift, public_key.modulus.ciphertext))
    if not residues:
        raise UsageError("expected at least one encrypted number")
    header = Header(public_key.scheme, public_key.key_id, plan, (len(residues),), weight=weight)
    return public_key.read_integers(residues, header, slots=1)


def _check_plain(modulus: Modulus) -> None:
    if modulus.s != 1:
        raise UsageError(f"phe has keys with s = 1 only, not s = {modulus.s}")


def _public_fields(key: PublicKey, comment: str) -> dict[str, Any]:
    return {"kty": "DAJ", "alg": "PAI-GN1", "key_ops": ["encrypt"], "n": _base64(key.n), "kid": comment}


def _decoded(text: str | bytes, kind: type[J], which: str) -> J:
    if len(text) > _MAX_JSON_CHARACTERS:
        raise UsageError(f"a key of pheutil's has at most {_MAX_JSON_CHARACTERS} characters, got {len(text)}")
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        # What msgspec says may quote the text, which may be a secret key.
        raise UsageError(
            f"expected a {which} key as pheutil writes it, JSON with kty DAJ, got something else"
        ) from None


def _base64(number: int) -> str:
    n = int(number)
    return base64.urlsafe_b64encode(n.to_bytes(-(-n.bit_length() // 8), "big")).rstrip(b"=").decode()


def _number(text: str, name: str) -> int:
    """Return a number in base64url, without or with its filling."""
    bare = text.rstrip("=").encode("ascii", "replace")
    try:
        standard = bare.translate(bytes.maketrans(b"-_+/", b"+/!!"))
        octets = binascii.a2b_base64(standard + b"=" * (-len(bare) % 4), strict_mode=True)
    except binascii.Error:
        octets = b""
    if not any(octets):
        raise UsageError(f"expected a number in base64url as {name} of pheutil's key, got something else")
    return int.from_bytes(octets, "big")
