"""Keys for the tests: one of real size, and small ones, which generation and `PublicKey` refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

# Without gmpy2 every test file here skips; a conftest that did would end the whole run.
if TYPE_CHECKING:
    from secagg.he.paillier import PublicKey, SecretKey

# Made by `prime_pair`; nothing but these tests is encrypted under them.
P3072 = int(
    "d51529bd4617aca6875c5dcabde2af81f0b6b9ea7a5781b6da4eb72d1ca451ec013c9624a37435f660c953a01fded5db"
    "bab284cba5ae83e4ad90abf6deb9a8494717a4a6a775796d655960ff25e6f4166e313c93400f1ec8b2a46348a72b8725"
    "8140c78309ab97cdafef5e9894c549123818897300674f623e5244a701cc6ebbfcaabbf12b5df08e69384c41a868df47"
    "b6e482fd3df8bbdea96952b87ca215045dcd06d1a811330dec0bb0231aa6c8da54bf8095594ad6b6d277b5131b62f0c3",
    16,
)
Q3072 = int(
    "da42ce0d333913b297939373d8abc8e44d26cdcf2fae2161dd05d5f81b6624d5bfa56f310193e0b4396cd0cf041e4fba"
    "dcc752019fe343ba54edf8db8dabd1d581c6d12e7cea698894ce372fa4c367f3a5aea0983a500c5789507cf22b0a86d2"
    "ec24ce66b0c9f51104360c21c239dec5800dccb91c8e78f1366ad561fbe40b5f0edc59159f2b547b13152950326b156c"
    "ab87e14f574efe4f7c20eadb97165728be584093ac0d9f6a9cde3177c3d54fdbe8b1a2a55a1fe77e4bac856f1c2300cf",
    16,
)
# A modulus of 512 bits.
P512 = int(
    "fa886f0e775f1600d83578d5eb2ee4dc5790d91d4b02604461be9361055c0643",
    16,
)
Q512 = int(
    "d61c502386a52bcafb08688cb5697079fc83532422dea352d479acf77296b123",
    16,
)


@pytest.fixture(scope="session")
def real_key() -> SecretKey:
    """Return a key of 3072 bits with s = 1 and a small table, which is quick to build."""
    from secagg.he.paillier import SecretKey

    key = SecretKey._from_primes(P3072, Q3072, x=12345, smallest_bits=3072)
    key.public_key.prepare(window=4)
    return key


@pytest.fixture(scope="session")
def small_keys() -> dict[int, SecretKey]:
    """Return keys of 512 bits for s = 1, 2, 3."""
    from secagg.he.paillier import SecretKey

    keys = {s: SecretKey._from_primes(P512, Q512, s=s, x=12345) for s in (1, 2, 3)}
    for key in keys.values():
        key.public_key.prepare(window=4)
    return keys


@pytest.fixture(params=(1, 2, 3), ids=lambda s: f"s={s}")
def small_key(request, small_keys) -> SecretKey:
    return small_keys[request.param]


@pytest.fixture(scope="session")
def small_primes() -> tuple[int, int]:
    return P512, Q512


@pytest.fixture(scope="session")
def other_public_key() -> PublicKey:
    """Return a key with the same modulus as the small one with s = 1, and another h."""
    from secagg.he.paillier import SecretKey

    return SecretKey._from_primes(P512, Q512, x=54321).public_key
