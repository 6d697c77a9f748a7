"""Paillier's key shared among n parties, any t of whom decrypt together [DJ01, section 4].

    dealer      p = 2 p' + 1, q = 2 q' + 1 with all four prime; m = p' q'; Delta = n!; v a random square
                d = 0 modulo m, d = 1 modulo n^s; f of degree t - 1 over Z_(n^s m), f(0) = d
                party i gets s_i = f(i); all get v and v_i = v^(Delta s_i)
    party i     c_i = c^(2 Delta s_i), and a proof that log_(c^4)(c_i^2) = log_v(v_i)
    anybody     checks the proofs; of t good shares c' = product of c_i^(2 lambda_i), where lambda_i is Delta times
                Lagrange's coefficient, an integer: c' = c^(4 Delta^2 d) = (1 + n)^(4 Delta^2 M)

Threat model: **the dealer knows the whole key** and has to be trusted to forget it. The parties agree on who may be the
dealer. The adversary controls t - 1 parties from the beginning (static corruption), and these may do whatever they like.
It learns of ciphertexts no more than their headers and what is decrypted. For, given t - 1 key shares and the plaintext,
everybody can compute what the other parties send [DJ01, section 4; the tests do it]. A party that sends a wrong share is
named and left out. The result is right as soon as t others answer, which n >= 2 t - 1 makes sure of.
Whoever asks for a decryption says what is decrypted. Key holders answer only for sums that they have checked, since t
answers open any ciphertext.

The proof on a share is that of `dleq`, which says why it is sound and hides s_i, in the random oracle model. One proof
serves all residues of a ciphertext. v fails to generate the squares with a probability below 2^(4 - |n|/2). Everything is
hashed: the key with all v_i, the ciphertext with its header, the caller's context, the party, its shares. So a share or a
proof for another ciphertext, session or party is none for this one.

Randomizers h^a with short exponents are as safe here as under a plain key. For them [DJN10] asks for p = q = 3 modulo 4
and gcd(p - 1, q - 1) = 2. Safe primes fulfil both, since p' and q' are odd and different. With p' and q' prime, a random
h = -x^2 fails to generate all that it can with a probability below 2^(4 - |n|/2).

Exponents that hang on s_i are raised in constant time (`powmod_sec`), so residues need no blinding.

Dealing, answering and combining are in one file because they are three sides of one formula.

Learns: each party and whoever combines: the announced plaintexts. Dealer: everything.
Cost: a share has (s + 1) |n| / 8 bytes a residue, and (s + 1) |n| / 8 + |Delta| / 8 + 112 once. Party: an
exponentiation by (s + 1) |n| + |Delta| bits a residue, two more for the proof and 30 (of hundreds) to 80 (of
twenty) products a residue. Who combines: as much as that proof for each share, its products twice, and a power by
|2 lambda_i| a residue.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NoReturn, Self

import gmpy2
import numpy as np
from gmpy2 import mpz, powmod, powmod_sec
from numpy.typing import NDArray

from secagg import fixed_point, signing, wire
from secagg.errors import RemoteProtocolError, TooFewPartiesError, UsageError
from secagg.he import scheme
from secagg.he.paillier import primes, residues
from secagg.he.paillier.checks import LARGEST_KEY_BITS, SMALLEST_KEY_BITS
from secagg.he.paillier.ciphertexts import Ciphertext
from secagg.he.paillier.dleq import CHALLENGE_BYTES, Setting
from secagg.he.paillier.integer_shares import check_threshold, combine_powers, share_exponent
from secagg.he.paillier.packing import Packing
from secagg.he.paillier.public_key import PublicKey, PublicKeyMessage
from secagg.he.paillier.randomizers import draw_below, random_base
from secagg.he.paillier.workers import in_parts
from secagg.prg import Stream, system_stream
from secagg.ring import RingArray
from secagg.wire import Buffer, Message

_LABEL: Final = "secagg.he.paillier.threshold/"


class ThresholdPublicKeyMessage(PublicKeyMessage, frozen=True):
    """A public key on the wire: a plain key's fields and what proofs are checked with.

    Fields:
      threshold: t.
      squares: v, v_1, .. v_n in little-endian order, shape (n + 1, bytes of n^(s+1)).
    """

    threshold: int
    squares: NDArray[np.uint8]


class KeyShareMessage(Message, frozen=True):
    """A key share as it is kept."""

    public_key: ThresholdPublicKeyMessage
    party: int
    exponent: bytes


class DecryptionShare(Message, frozen=True):
    """What a key holder answers for one ciphertext.

    Fields:
      party: i, from 1.
      statement: digest of key, ciphertext and context, 32 bytes.
      block: c_i of each residue in little-endian order, shape (residues, bytes of n^(s+1)).
      challenge: 32 bytes.
      response: z = r + challenge * Delta * s_i, little-endian, of fixed length.
    """

    party: int
    statement: bytes
    block: NDArray[np.uint8]
    challenge: bytes
    response: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Combined:
    """What a ciphertext decrypts to.

    Attributes:
      values: the numbers, float64, of the ciphertext's shape.
      encoded: the same as elements of the plan's ring.
      refused: why shares were left out, by the party from whom they came.
    """

    values: NDArray[np.float64]
    encoded: RingArray
    refused: Mapping[int, RemoteProtocolError]


class ThresholdPublicKey(PublicKey):
    """A public key whose secret is shared; encrypts as any `PublicKey`, and checks and combines shares.

    Args:
      n, s, h, randomizer_bits: as for `PublicKey`; n a product of safe primes.
      threshold: how many parties decrypt together, 2 to the number of parties.
      v: a random square modulo n^(s+1).
      verification_keys: v_1 .. v_n, one for each party.

    Raises:
      UsageError: what cannot be a key; the message says why.
    """

    __slots__ = ("_delta", "_setting", "threshold", "v", "verification_keys")

    message_type: ClassVar[type[Message]] = ThresholdPublicKeyMessage

    threshold: int
    v: mpz
    verification_keys: tuple[mpz, ...]

    def __init__(
        self,
        n: int,
        *,
        threshold: int,
        v: int,
        verification_keys: Sequence[int],
        s: int = 1,
        h: int | None = None,
        randomizer_bits: int | None = None,
    ) -> None:
        super().__init__(n, s=s, h=h, randomizer_bits=randomizer_bits)
        self._share(threshold, v, verification_keys)

    def _share(self, threshold: int, v: int, verification_keys: Sequence[int]) -> None:
        check_threshold(len(verification_keys), threshold)
        self.threshold, self.v = threshold, mpz(v)
        self.verification_keys = tuple(mpz(vi) for vi in verification_keys)
        squares = (self.v, *self.verification_keys)
        if not all(1 < x < self.modulus.ciphertext and gmpy2.gcd(x, self.n) == 1 for x in squares):
            raise UsageError("expected verification keys in 2 .. n^(s+1) - 1 that are coprime to n")
        self._delta = mpz(math.factorial(self.parties))
        self._setting = Setting(
            self.modulus.ciphertext, self.v, int((self._delta * self.modulus.ciphertext).bit_length())
        )
        parts = [self._key_id, bytes([threshold]), *(self._residue(x) for x in squares)]
        self._key_id = signing.digest(_LABEL + "public key", parts)

    @property
    def key_id(self) -> bytes:
        """SHA-256 of the plain key, the threshold and the verification keys."""
        return self._key_id

    @property
    def payload_bytes(self) -> int:
        """Bytes of v and the verification keys."""
        return (self.parties + 1) * self.modulus.residue_bytes

    @property
    def parties(self) -> int:
        """How many parties hold a share."""
        return len(self.verification_keys)

    def to_message(self) -> ThresholdPublicKeyMessage:
        """Return the key as a message."""
        plain = super().to_message()
        squares = b"".join(self._residue(x) for x in (self.v, *self.verification_keys))
        block = np.frombuffer(squares, np.uint8).reshape(-1, self.modulus.residue_bytes)
        return ThresholdPublicKeyMessage(
            plain.n, plain.s, plain.h, plain.randomizer_bits, self.threshold, block
        )

    @classmethod
    def from_message(cls, message: PublicKeyMessage, *, peer: str = "") -> Self:
        """Return the key in a message from a peer.

        Raises:
          RemoteProtocolError: it is no threshold key.
        """
        if not isinstance(message, ThresholdPublicKeyMessage):
            raise RemoteProtocolError("expected a threshold key, got a plain one", peer=peer)
        plain = PublicKey.from_message(message, peer=peer)
        key = cls.__new__(cls)
        key._set(plain.n, plain.s, plain.h, plain.randomizer_bits, SMALLEST_KEY_BITS)
        try:
            shape = message.squares.shape
            if len(shape) != 2 or shape[0] < 1 or shape[1] != key.modulus.residue_bytes:
                raise UsageError(f"expected rows of {key.modulus.residue_bytes} bytes, got shape {shape}")
            numbers = _numbers(message.squares)
            key._share(message.threshold, numbers[0], numbers[1:])
        except UsageError as error:
            raise RemoteProtocolError(
                f"a threshold key from {peer or 'the stored bytes'}: {error}", peer=peer
            ) from None
        return key

    @classmethod
    def from_bytes(cls, data: Buffer, *, peer: str = "") -> Self:
        """Return the key that `to_bytes` made bytes of.

        Raises:
          WireError: the bytes are no threshold key.
          RemoteProtocolError: as `from_message`.
        """
        return cls.from_message(wire.from_bytes(data, ThresholdPublicKeyMessage, peer=peer), peer=peer)

    def verify(
        self,
        share: DecryptionShare,
        ciphertext: Ciphertext,
        *,
        context: bytes,
        party: int,
        peer: str = "",
    ) -> None:
        """Check that a share is a party's right one for a ciphertext.

        Args:
          share: what came.
          ciphertext: as the caller holds it.
          context: what the share is for, as given to `partial_decrypt`: session, round.
          party: whose share it must be, from 1.
          peer: whom it came from, for errors.

        Raises:
          RemoteProtocolError: it is another party's, for another ciphertext, key or context, malformed or wrong.
          UsageError: a ciphertext under another key, or no such party.
        """
        statement = self._statement(ciphertext, context)
        self._check_share(share, ciphertext, statement, party, peer or f"party {party}")

    def combine(
        self,
        ciphertext: Ciphertext,
        shares: Mapping[int, DecryptionShare],
        *,
        context: bytes,
        peers: Mapping[int, str] | None = None,
        executor: Executor | None = None,
    ) -> Combined:
        """Check shares and decrypt with t of those that are right.

        Args:
          ciphertext: as the caller holds it.
          shares: what came, by the party that it came from; all of them are checked.
          context: as given to `partial_decrypt`.
          peers: the parties' names, for errors.
          executor: threads to share the work.

        Raises:
          TooFewPartiesError: fewer than t right ones; names those that sent wrong ones.
          UsageError: a ciphertext under another key, or no such party.
          RangeError: what was decrypted is no sum that the ciphertext's header allows.
        """
        statement = self._statement(ciphertext, context)
        came = list(shares.items())

        def check(start: int, stop: int) -> list[list[mpz] | RemoteProtocolError]:
            results: list[list[mpz] | RemoteProtocolError] = []
            for party, share in came[start:stop]:
                name = (peers or {}).get(party) or f"party {party}"
                try:
                    results.append(self._check_share(share, ciphertext, statement, party, name))
                except RemoteProtocolError as error:
                    results.append(error)
            return results

        checked = [result for part in in_parts(check, len(came), executor, step=1) for result in part]
        good: dict[int, list[mpz]] = {}
        refused: dict[int, RemoteProtocolError] = {}
        for (party, _), result in zip(came, checked, strict=True):
            if isinstance(result, RemoteProtocolError):
                refused[party] = result
            else:
                good[party] = result
        if len(good) < self.threshold:
            wrong = "; ".join(str(error) for error in refused.values())
            raise TooFewPartiesError(
                f"expected right shares of {self.threshold} of {self.parties} key holders, got {len(good)}"
                + (f" and wrong ones: {wrong}" if wrong else ""),
                peer=next((error.peer for error in refused.values()), ""),
            )
        # Any t right shares give the same; the first t in order of party are as good as others.
        chosen = sorted(good)[: self.threshold]
        powers = combine_powers(
            [good[i] for i in chosen], chosen, self.parties, self.modulus.ciphertext, executor
        )
        if any(x % self.n != 1 for x in powers):
            raise RemoteProtocolError(
                "shares that pass their proofs do not combine: the key was not dealt as it ought"
            )
        scale = 4 * self._delta**2 * residues.log([1 + self.n], self.n, self.s)[0]
        unscale = gmpy2.invert(scale, self.modulus.plaintext)
        plaintexts = [x * unscale % self.modulus.plaintext for x in residues.log(powers, self.n, self.s)]
        header = ciphertext.header
        encoded = Packing(header.plan, self.modulus.plaintext, ciphertext.slots).unpack(plaintexts, header)
        values = fixed_point.decode(encoded, header.plan, summands=header.weight)
        return Combined(values, encoded, refused)

    def _residue(self, value: mpz) -> bytes:
        octets: bytes = value.to_bytes(self.modulus.residue_bytes, "little")
        return octets

    def _statement(self, ciphertext: scheme.Ciphertext, context: bytes) -> bytes:
        """Return the digest of what a share is for."""
        scheme.check_ciphertext(ciphertext, self)
        if not isinstance(ciphertext, Ciphertext):
            raise UsageError(f"expected a Paillier ciphertext, got {type(ciphertext).__name__}")
        return signing.digest(_LABEL + "statement", [self.key_id, context, ciphertext.to_bytes()])

    def _proved(self, statement: bytes, party: int, block: NDArray[np.uint8]) -> bytes:
        """Return the digest of what a share's proof says; the key's id in the statement stands for v and all v_i."""
        return signing.digest(_LABEL + "share", [statement, bytes([party]), np.ascontiguousarray(block).data])

    def _check_share(
        self, share: DecryptionShare, ciphertext: Ciphertext, statement: bytes, party: int, peer: str
    ) -> list[mpz]:
        """Return the numbers in a share that is right; raises as `verify` does."""
        if not 1 <= party <= self.parties:
            raise UsageError(f"this key has parties 1 to {self.parties}, not {party}")
        if share.party != party:
            raise RemoteProtocolError(
                f"expected the decryption share of party {party} from {peer}, got that of {share.party}",
                peer=peer,
            )
        if share.statement != statement:
            raise RemoteProtocolError(
                f"expected {peer}'s decryption share for this ciphertext, key and context, got one for another",
                peer=peer,
            )
        cs = ciphertext.integers()
        shape = (len(cs), self.modulus.residue_bytes)
        lengths = (len(share.challenge), len(share.response))
        expected = (CHALLENGE_BYTES, self._setting.response_bytes)
        if share.block.shape != shape or lengths != expected:
            raise RemoteProtocolError(
                f"expected a decryption share of shape {shape} and a proof of {expected} bytes from {peer}, got "
                f"{share.block.shape} and {lengths}",
                peer=peer,
            )
        numbers = _numbers(share.block)
        if max(numbers) >= self.modulus.ciphertext or gmpy2.gcd(_product(numbers, self.n), self.n) != 1:
            raise RemoteProtocolError(
                f"a number in {peer}'s decryption share is not below n^(s+1) or not coprime to n", peer=peer
            )
        proved = self._proved(statement, party, share.block)
        v_i = self.verification_keys[party - 1]
        if not self._setting.holds(cs, numbers, v_i, proved, share.challenge, share.response):
            raise RemoteProtocolError(
                f"{peer}'s decryption share is wrong: its proof does not hold; decrypt with the others' shares",
                peer=peer,
            )
        return numbers


class KeyShare:
    """One party's share of the secret key. Never shown, never pickled; `to_message` is for `key_files` alone.

    Args:
      public_key: whose.
      party: i, from 1.
      exponent: s_i.

    Raises:
      UsageError: no such party, or an exponent that is not the party's.
    """

    __slots__ = ("_exponent", "party", "public_key")

    public_key: ThresholdPublicKey
    party: int

    def __init__(self, public_key: ThresholdPublicKey, party: int, exponent: int) -> None:
        if not 1 <= party <= public_key.parties:
            raise UsageError(f"this key has parties 1 to {public_key.parties}, not {party}")
        self.public_key, self.party, self._exponent = public_key, party, mpz(exponent)
        if not 0 < self._exponent < public_key.modulus.ciphertext:
            raise UsageError(f"expected the share of party {party}, got another number")
        secret = public_key._delta * self._exponent
        if (
            powmod_sec(public_key.v, secret, public_key.modulus.ciphertext)
            != public_key.verification_keys[party - 1]
        ):
            raise UsageError(
                f"expected the share of party {party} of {public_key!r}, got that of another party or key"
            )

    def __repr__(self) -> str:
        return f"<KeyShare of party {self.party} of {self.public_key!r}, hidden>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []  # rich prints tracebacks with the values of locals

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key share is not pickled or copied; write it with secagg.he.key_files")

    def to_message(self) -> KeyShareMessage:
        """Return the share as a message. It is secret: see `key_files`."""
        exponent = self._exponent.to_bytes(self.public_key.modulus.residue_bytes, "little")
        return KeyShareMessage(self.public_key.to_message(), self.party, exponent)

    @classmethod
    def from_message(cls, message: KeyShareMessage, *, peer: str = "") -> Self:
        """Return the share in a message from the dealer, or in one that was kept.

        Parties compare the id of its public key with one another before they use it.

        Raises:
          RemoteProtocolError: its public key is none, or the share is not that key's.
        """
        public_key = ThresholdPublicKey.from_message(message.public_key, peer=peer)
        try:
            return cls(public_key, message.party, mpz.from_bytes(message.exponent, "little"))
        except UsageError as error:
            source = peer or "the stored bytes"
            raise RemoteProtocolError(f"a key share from {source}: {error}", peer=peer) from None

    def partial_decrypt(
        self,
        ciphertext: Ciphertext,
        *,
        context: bytes,
        rng: Stream | None = None,
        executor: Executor | None = None,
    ) -> DecryptionShare:
        """Return this party's part of a decryption, with a proof. Answer for announced sums only.

        Args:
          ciphertext: the sum.
          context: what it is for, such as session and round; all parties give the same.
          rng: where the proof's randomness comes from; without it, the operating system.
          executor: threads to share the work.

        Raises:
          UsageError: a ciphertext of another scheme or under another key.
        """
        key, rng = self.public_key, system_stream() if rng is None else rng
        modulus, secret = key.modulus.ciphertext, key._delta * self._exponent
        statement, cs = key._statement(ciphertext, context), ciphertext.integers()

        def part(start: int, stop: int) -> list[mpz]:
            return [powmod_sec(c, 2 * secret, modulus) for c in cs[start:stop]]

        numbers = [x for xs in in_parts(part, len(cs), executor, step=1) for x in xs]
        octets = b"".join(key._residue(x) for x in numbers)
        block = np.frombuffer(octets, np.uint8).reshape(len(cs), key.modulus.residue_bytes)
        proved = key._proved(statement, self.party, block)
        challenge, response = key._setting.prove(cs, secret, proved, rng, executor)
        return DecryptionShare(self.party, statement, block, challenge, response)


def deal_threshold_key(
    parties: int,
    threshold: int,
    *,
    bits: int = 3072,
    s: int = 1,
    randomizer_bits: int | None = None,
    safe_primes: tuple[int, int] | None = None,
    rng: Stream | None = None,
    executor: Executor | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[ThresholdPublicKey, list[KeyShare]]:
    """Make a key and deal its shares. **Whoever calls this holds the whole key**: see the module's docstring.

    Give each party its share over a channel that nobody else reads, and keep none.

    Args:
      parties: n, 2 to 100.
      threshold: t, 2 to n.
      bits: length of n.
      s: plaintexts are modulo n^s.
      randomizer_bits: as for `SecretKey.generate`.
      safe_primes: p and q, if they are there already; otherwise they are searched: seconds at 3072 bits.
      rng: where all randomness comes from; without it, the operating system.
      executor: threads to search primes with.
      on_progress: called with the number of steps done and of all steps (3: two primes, the shares).

    Returns the public key and the shares of parties 1 to n.

    Raises:
      UsageError: too few or many parties, a threshold out of range, too short a key, or primes that are none.
    """
    check_threshold(parties, threshold)
    if bits % 2 or not SMALLEST_KEY_BITS <= bits <= LARGEST_KEY_BITS:
        raise UsageError(
            f"expected an even length of {SMALLEST_KEY_BITS} to {LARGEST_KEY_BITS} bits, got {bits}; 3072 is usual"
        )
    rng = system_stream() if rng is None else rng
    report = on_progress or (lambda _done, _steps: None)
    if safe_primes is None:
        p, q = _search(bits, rng, executor, report)
    else:
        p, q = mpz(safe_primes[0]), mpz(safe_primes[1])
    key, shares = _deal(p, q, parties, threshold, s, randomizer_bits, rng, SMALLEST_KEY_BITS)
    report(3, 3)
    return key, shares


def _search(
    bits: int, rng: Stream, executor: Executor | None, report: Callable[[int, int], None]
) -> tuple[mpz, mpz]:
    while True:
        found: list[mpz] = []
        for done in range(2):
            report(done, 3)
            found.append(primes.random_prime(bits // 2, safe=True, rng=rng, executor=executor))
        report(2, 3)
        if primes.flaw(*found) is None:
            return found[0], found[1]


def _deal(
    p: mpz,
    q: mpz,
    parties: int,
    threshold: int,
    s: int,
    randomizer_bits: int | None,
    rng: Stream,
    smallest_bits: int,
) -> tuple[ThresholdPublicKey, list[KeyShare]]:
    flaw = primes.flaw(p, q)
    if flaw is not None:
        raise UsageError(f"no key can be made of these primes: of n, {flaw}")
    if not (primes.is_prime(p >> 1) and primes.is_prime(q >> 1)):
        raise UsageError("expected safe primes, p = 2 p' + 1 with p' prime, got others")
    n, m = p * q, (p >> 1) * (q >> 1)
    key = ThresholdPublicKey.__new__(ThresholdPublicKey)
    key._set(n, s, random_base(n, rng), randomizer_bits, smallest_bits)
    plaintext_modulus, modulus = key.modulus.plaintext, key.modulus.ciphertext
    d = m * gmpy2.invert(m, plaintext_modulus)
    exponents = share_exponent(d, plaintext_modulus * m, parties, threshold, rng)
    v = powmod(draw_below(modulus, 1, rng)[0], 2, modulus)
    delta = mpz(math.factorial(parties))
    key._share(threshold, v, [powmod_sec(v, delta * exponent, modulus) for exponent in exponents])
    return key, [KeyShare(key, i, exponent) for i, exponent in enumerate(exponents, start=1)]


def _product(values: Sequence[mpz], modulus: mpz) -> mpz:
    total = mpz(1)
    for value in values:
        total = total * value % modulus
    return total


def _numbers(block: NDArray[np.uint8]) -> list[mpz]:
    """Return the numbers in the rows of an array of little-endian bytes."""
    width = block.shape[1]
    octets = block.tobytes()
    return [mpz.from_bytes(octets[start : start + width], "little") for start in range(0, len(octets), width)]
