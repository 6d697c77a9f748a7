"""Additive encryption of integer vectors under ring learning with errors: exact sums, one key or n key holders.

    keys, ciphertexts       one key holder: generate, encrypt, add, multiply by integers, decrypt
    parameters              the three sets that are allowed, and how secure they are
    noise                   which plans leave room for noise, and for flooding
    polynomials, products   words modulo 2^w, exact products by float64 transforms with every rounding checked
    fourier, sampling       checked roots of unity; secrets, noise and uniform words from AES-256-CTR
    key_generation, flooding, uploads, decryption_log, threshold
                            several key holders, none of whom can decrypt alone

Threat model, what it learns and what it costs stand in `keys` and `threshold`.
"""

from secagg.he.rlwe.ciphertexts import Ciphertext
from secagg.he.rlwe.decryption_log import DecryptionLog
from secagg.he.rlwe.flooding import ReleasePlan, plan_release
from secagg.he.rlwe.key_generation import KeyHolder
from secagg.he.rlwe.keys import PublicKey, SecretKey
from secagg.he.rlwe.parameters import Parameters, parameters
from secagg.he.rlwe.threshold import KeyShare

__all__ = [
    "Ciphertext",
    "DecryptionLog",
    "KeyHolder",
    "KeyShare",
    "Parameters",
    "PublicKey",
    "ReleasePlan",
    "SecretKey",
    "parameters",
    "plan_release",
]


def __dir__() -> list[str]:
    return sorted(__all__)
