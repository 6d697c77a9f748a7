"""Two safe primes of 1024 bits, so that tests need not search for any."""

from __future__ import annotations

# TEST CONSTANTS: everybody can read them here. A key made of them hides nothing.
P = int(
    "e5bcecf934a2b0e549eadd22ec29cbac89ef789c0c89720c9b155b5c721917470d81a7cedb6d51b203dc5fdc5f0493ff"
    "fdcde629c155654982995ebb601b67e11ab1a0578d0f361dedd282dde72fcc3386276a215683edf8d8a65488df9ea4f6"
    "cead28759d8e276798d646fb1575042949dd38b1a209b3eca9454bd7a8893dfb",
    16,
)
Q = int(
    "d7124860e16772f8f56f295239fd21bcc84030a6ab15ccd7a50553ecd11f8142a2cf83901d4644bdd24adefd59d2e1af"
    "3572b35ac1a80af9073c09297a6a8cd82a51093acb6f4e749f7ef5c9d0f28f6f4a129428e4004243d786fd3fe104b8f3"
    "d60b139632aba8c43d47d9985be0d6527e1f4a0f8a719727565f3d0a59fb2c73",
    16,
)
