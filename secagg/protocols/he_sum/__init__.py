"""Sums of clients' arrays under homomorphic encryption: clients encrypt, an aggregator adds, key holders decrypt.

`single_key`: one key holder, any scheme. `threshold_paillier`: t of n key holders, keys from a dealer.
`threshold_rlwe`: n of n key holders, no dealer, who decrypt only what they added up themselves.
"""
