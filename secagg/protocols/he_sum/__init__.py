"""Sums of clients' arrays under homomorphic encryption: clients encrypt, an aggregator adds, key holders decrypt.

`single_key`: one key holder, any scheme. `threshold_paillier`: t of n key holders, keys from a dealer.
`threshold_rlwe`: n of n key holders, no dealer, who decrypt only what they added up themselves.

Proofs in docs/soundness-encryption.md, sections 7 to 12.
"""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = [
    "EncryptedSum",
    "Roles",
    "SumResult",
    "Terms",
    "single_key",
    "threshold_paillier",
    "threshold_rlwe",
]

if TYPE_CHECKING:
    from secagg.protocols.he_sum import single_key, threshold_paillier, threshold_rlwe
    from secagg.protocols.he_sum.terms import EncryptedSum, Terms
    from secagg.protocols.roles import Roles, SumResult
else:
    __getattr__, __dir__ = face(
        "secagg.protocols.he_sum",
        {
            "secagg.protocols.he_sum": "single_key threshold_paillier threshold_rlwe",
            "secagg.protocols.he_sum.terms": "EncryptedSum Terms",
            "secagg.protocols.roles": "Roles SumResult",
        },
    )
