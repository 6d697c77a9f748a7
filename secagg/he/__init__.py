"""Homomorphic encryption for sums: `scheme` says what `paillier`, `rlwe` and `ckks` have in common."""
