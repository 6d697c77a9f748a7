"""The schemes of one key holder by name."""

from __future__ import annotations

from secagg.errors import UsageError
from secagg.he.scheme import PublicKey


def public_key_class(name: str) -> type[PublicKey]:
    """Return the class of public keys of a scheme.

    Raises:
      UsageError: an unknown name.
      ImportError: what the scheme needs is not installed; the message says how to get it.
    """
    if name == "paillier":
        from secagg.he import paillier

        return paillier.PublicKey
    if name == "rlwe":
        from secagg.he import rlwe

        return rlwe.PublicKey
    if name == "ckks":
        from secagg.he import ckks

        return ckks.PublicKey
    raise UsageError(f"expected a scheme among paillier, rlwe, ckks, got {name!r}")
