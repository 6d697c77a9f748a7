"""secagg's additive shares as CrypTen's tensors and back, without opening; CrypTen with a dealer apart from the parties.

    world = World(("a", "b", "c"), dealer="d", rendezvous="tcp://a.example:29500")    # the same at all of them

    async with joined(party, world) as here:          # at each of a, b and c, in a process of its own
        x = here.to_crypten(share, frac_bits=16)      # share: additive, modulo 2**64, as fixed_point encodes numbers
        ...                                           # CrypTen's own code
        share, frac_bits = here.from_crypten(y)

    await deal(party, world)                          # at d, until the others have left

`World.computing` says who has which rank. For two parties or more. The dealer (CrypTen's trusted third party, TTP) makes the
triples that products need. It is a party too, holds no shares, and gets none.

**Shares.** CrypTen holds a number x as n shares that add up to round(x * 2**16) modulo 2**64, as `secagg.mpc.additive` does.
So a share changes sides without messages, but for one check that all parties convert the same. Of the two shares that a
party of the three-party engine holds, the first (`parts[0]`) is additive: x_0 at P_0, x_1 at P_1 and x_2 at P_2.

A conversion, either way, adds a share of zero that each pair of computing parties draws in common. So the converted share
is fresh: it tells any n - 2 of the other parties nothing about the first one. An opening of converted shares shows their sum
alone. That matters where the first share stays in use, or where a peer holds it too, as in replicated sharing: CrypTen
rounds each share by itself, and what it opens depends on that. Of two parties, each knows the other's share of zero. There
it protects shares from third parties alone, to whom they are sent. Converted shares have memory of their own, since CrypTen
works in place.

**Threat model.** Computing parties and the dealer follow the protocol. The dealer pools with none of them: its triples
and what all computing parties see give away every factor. Then any n - 1 computing parties learn what is opened and nothing
else, but for what roundings tell (below). CrypTen opens to all computing parties, and where its caller says so:
`get_plain_text`, `reveal`, a model's `decrypt`, and gradients in `nn.DPSplitMPC`. What is for one party alone is
converted, and opened through `Party`.

**Connections.** Those of CrypTen (torch.distributed over gloo) are neither encrypted nor authenticated. Whoever reaches the
rendezvous can take a party's place, and whoever alters what is sent alters results. They belong in a private network
or a tunnel. The keys of all masks are agreed on over the connections of `Party`, and do not travel there.

**What is put right here.**

- CrypTen draws every mask from torch's Mersenne Twister, of whose seed 32 bits count. One of two parties finds the other
  one's by trying. In a world that is joined here all masks come from AES-256-CTR (`randomness`).
- Its default provider of triples, TFP, has the first party make them, which so knows every factor. Here it is always TTP.
- The protocol "replicated" sends products on without masking them anew, and so shows factors. Debugging settings open
  values. Both are refused.

**What stays wrong with CrypTen.**

- It is unmaintained: the last release is of December 2022. Its authors call it a tool for research and promise no security.
- A product z of real numbers comes out wrong by 2**32 with a probability of |z| * 2**-32, with 16 fractional bits.
  (Measured: 29 of 6 million products of 22,500, where 33 were expected.) It ignores that shares wrap when they are
  truncated. The engine of `secagg.mpc` does not.
- Nothing checks that numbers stay in range. Reciprocals, exponentials, logarithms and sigmoids are approximations that hold
  in a limited one.
- It rounds each party's share by itself. An opened product so tells more than its value: how its low bits compare with a
  number that a party knows.
- No party that lies is caught. Where parties run different programs, CrypTen hangs until `timeout_s` or computes nonsense.
- Requests to the dealer (shapes and names of operations, no secrets) are pickled. CrypTen unpickles from a list of allowed
  names, with loaders of torch's among them. Whoever can write to its connections reaches that code.
- `repr` of a tensor shows this party's share. Keep tensors out of logs.

It runs on the processor alone. `crypten.nn.from_pytorch` and `from_onnx` work with no torch of today: models are made of
`crypten.nn`'s layers.

    library     CrypTen, imported under a torch of today
    world       who computes, who deals, and the keys of each pair
    randomness  streams in the place of torch's generators
    connection  CrypTen's processes meet and part
    joined      conversions
    dealing     the dealer
"""

from __future__ import annotations

from secagg.integrations.crypten.dealing import deal
from secagg.integrations.crypten.joined import Joined, joined
from secagg.integrations.crypten.world import World

__all__ = ["Joined", "World", "deal", "joined"]


def __dir__() -> list[str]:
    return sorted(__all__)
