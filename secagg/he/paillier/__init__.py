"""Paillier's encryption and its extension by Damgard and Jurik: exact sums under one key or a threshold of keys.

c = (1 + n)^m * r^(n^s) modulo n^(s+1), plaintexts modulo n^s [Pai99, DJ01]; the r^(n^s) are powers of a fixed
base with short exponents [DJN10]. A plaintext carries many numbers side by side (`packing`).

Threat model: whoever lacks the secret key learns from ciphertexts nothing but their headers. That holds as long as
deciding n-th residues modulo n^2 and factoring n are hard. Short randomizers (`randomizer_bits`) also need that short
exponents look like long ones. The key's owner reads every ciphertext under it. Ciphertexts can be changed by whoever
carries them, and multiplied by whoever sees them: sign them, and decrypt announced sums only. People and programs on
the same machine are not kept out: timing of caches shows table indices and exponents.

Learns: aggregator: nothing. Owner of the secret key: what it decrypts, which should be sums only.
Cost: (s + 1) |n| / 8 bytes for every floor((s |n| - 1) / b) numbers of b bits. At |n| = 3072 and b = 48 these are 12.2,
9.1 and 8.0 bytes a number for s = 1, 2, 3.

`threshold` shares the key among several owners.
"""

try:
    import gmpy2  # noqa: F401
except ImportError:
    raise ImportError('Paillier needs gmpy2: pip install "secagg[paillier]"') from None

from secagg.he.paillier.ciphertexts import Ciphertext
from secagg.he.paillier.pool import RandomizerPool
from secagg.he.paillier.public_key import PublicKey
from secagg.he.paillier.secret_key import SecretKey
from secagg.he.paillier.threshold import KeyShare, ThresholdPublicKey, deal_threshold_key

__all__ = [
    "Ciphertext",
    "KeyShare",
    "PublicKey",
    "RandomizerPool",
    "SecretKey",
    "ThresholdPublicKey",
    "deal_threshold_key",
]


def __dir__() -> list[str]:
    return sorted(__all__)
