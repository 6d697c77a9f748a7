"""What two organisations have in common, with no third party: by Diffie-Hellman on Curve25519.

  find_common    which of its own identifiers the other has too [Mea86, HFH99]
  find_common_by_transfers   the same, faster, by extended oblivious transfers (`transfers`) [KKRT16]
  count_common   how many they have in common, and not which [HFH99, IKN+20 without values]
  sum_common     how many, and what one side's amounts add up to over them [IKN+20, figure 2]

Each identifier is hashed to a point H(x) (`curve`). The parties have a secret scalar each, a and b. Blinding twice
commutes: a (b H(x)) = b (a H(x)). Equal identifiers give equal points, and others look random. Lists are shuffled before
they are sent. A list that comes back shuffled shows its owner how many points match, and not whose they are. Amounts go
with the points as Paillier ciphertexts, which the other side adds up.

Threat model: semi-honest. Both keep to the protocol, and look at what they receive. An organisation may make up its list,
and then learns of made-up identifiers what it would learn of real ones. One that alters the program can falsify results
unnoticed, learn which identifiers are in common where it was to learn a number, and have one amount decrypted in place of a
sum. By transfers, it can also test guesses against the other's whole list.

Learns: the recipients, what stands above. Both sides, the announced lengths. `sum_common`: the side without amounts, the
number in common in any case.
Cost, for lists of m and n: 2 rounds and 32 (2 m + 2 n) bytes at most; m + n scalar multiplications at each side, and twice
that if both are told. `sum_common`: 2 rounds more, and a ciphertext of 768 bytes for each amount.

Proof in docs/soundness-two.md.
"""

from secagg.protocols.intersection.counts import count_common
from secagg.protocols.intersection.matches import find_common
from secagg.protocols.intersection.sides import Sides
from secagg.protocols.intersection.sums import sum_common
from secagg.protocols.intersection.transfers import find_common_by_transfers

__all__ = ["Sides", "count_common", "find_common", "find_common_by_transfers", "sum_common"]


def __dir__() -> list[str]:
    return sorted(__all__)
