"""Sums of clients' vectors of which three aggregators check, on shares, that each is within its bounds.

  upload    a client shares its vector among the aggregators P_0, P_1, P_2: it sends two seeds to P_0 and one
            vector to P_1, and is done
  agree     P_0 and P_1 tell whose uploads came; the three agree on the clients of whom both parts are there, and
            compare digests of that set and of the terms
  check     P_0 and P_1 pass on what the other holders of each share lack; for each client one bit is computed and
            opened: whether a coordinate or the norm is out of bounds
  open      the sum of the vectors within bounds is opened to the result parties

Bounds, in units of the last place: |x_i| <= B for every coordinate and sum x_i**2 <= C (`Bounds`). With weights, the
client shares (w, w x) and the bounds are on x: 0 <= w <= W, |w x_i| <= w B, sum (w x_i)**2 <= w**2 C.

Sums of squares are modulo 2**k, and a vector of large coordinates can have a small one. PINE [ROCT23; CP25] finds such
wraps by random tests, because range checks are dear with two servers. Here every coordinate is compared with its bound,
which is exact for every element of the ring. If all are within, d (W B)**2 < 2**(k-1) makes the sum of squares the integer,
so that its comparison is exact as well. `Bounds` refuses other dimensions and bounds. One bit comes out, of all comparisons
together, so it does not matter what the others give when one has failed.

Threat model. *Clients may do anything*, alone or together. Whatever a client sends is one vector or none. A share comes
from the client to one aggregator, who passes it on to its second holder. So two holders of a share cannot hold different
ones. A client whose parts are not both there in time and well-formed is left out. It cannot end the run, but by leaving as
a result party, if it is one. *Aggregators* follow the protocol; at most one looks, and may pool what it sees with any
clients and result parties. Channels are authenticated and encrypted.

Learns. Aggregators and result parties: who is in the sum, who is missing, who was refused: *one bit a client is opened to
the three aggregators*: within bounds or not. `contribute` refuses to send a vector that is not. The bit does not tell the
coordinate, the excess or the vector. Result parties: the sum and the sum of weights, if at least `min_clients` vectors are
in it; otherwise nothing else is opened. Clients learn nothing. What the sum itself says of its summands is no business of
this protocol; nor are vectors that are wrong within bounds.

Cost, n clients in batches of m, d coordinates (one more with weights) of 8 bytes:
  client     8 d + 64 bytes, 2 messages
  P_0        46 d bytes a client (67 d where a batch has fewer than 2**15 comparisons)
  P_1, P_2   28 d and 20 d bytes a client (23 d and 15 d)
  rounds     at most 4 + ceil(n / m) (s r + 3 + l), r = 7 (6) of a comparison, l = ceil(log2(2 d + 1)), at least 6,
             s = ceil(m (2 d + 1) / 2**19) slices
`cost` is exact in bytes; and in rounds for one batch that all aggregators or somebody outside learn the sum of. Each
client takes 2 d + 1 comparisons and d products. A batch holds fewer clients where vectors are long: 2**20 numbers, or one
client. While a batch is checked an aggregator takes 16 bytes a coordinate for its shares, and half a byte a comparison for
the signs. The 2**19 comparisons that are made at a time take 80 MB, however many clients there are. What waits for its
batch takes 64 bytes a client at P_0 and the upload, 8 d, at P_1.

Proofs in docs/soundness-bounded.md.
"""

from __future__ import annotations

from secagg.protocols.bounded_sum.costs import cost
from secagg.protocols.bounded_sum.program import (
    BoundedSum,
    aggregate,
    contribute,
    receive,
    reference,
    take_part,
    upload,
)
from secagg.protocols.bounded_sum.terms import Bounds, Terms, bounds_for, rounded_norm
from secagg.protocols.roles import Roles, SumResult

__all__ = [
    "BoundedSum",
    "Bounds",
    "Roles",
    "SumResult",
    "Terms",
    "aggregate",
    "bounds_for",
    "contribute",
    "cost",
    "receive",
    "reference",
    "rounded_norm",
    "take_part",
    "upload",
]


def __dir__() -> list[str]:
    return sorted(__all__)
