"""Homomorphic encryption for sums: `scheme` says what `paillier`, `rlwe` and `ckks` have in common."""

from typing import TYPE_CHECKING

from secagg.faces import face

if __name__ == "he":  # found through the link at the root of a checkout
    from secagg.root_links import alias

    alias(__name__)

__all__ = [
    "Ciphertext",
    "Header",
    "Plan",
    "PublicKey",
    "SecretKey",
    "ckks",
    "load_secret",
    "paillier",
    "plan",
    "rlwe",
    "save_secret",
]

if TYPE_CHECKING:
    from secagg.fixed_point import Plan, plan
    from secagg.he import ckks, paillier, rlwe
    from secagg.he.key_files import load_secret, save_secret
    from secagg.he.scheme import Ciphertext, Header, PublicKey, SecretKey
else:
    __getattr__, __dir__ = face(
        "secagg.he",
        {
            "secagg.fixed_point": "Plan plan",
            "secagg.he": "ckks paillier rlwe",
            "secagg.he.key_files": "load_secret save_secret",
            "secagg.he.scheme": "Ciphertext Header PublicKey SecretKey",
        },
    )
