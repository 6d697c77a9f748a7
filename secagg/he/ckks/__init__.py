"""CKKS [CKKS17] through TenSEAL: approximate sums of real numbers under one key.

Threat model: whoever lacks the secret key learns from ciphertexts nothing but their headers, as long as ring learning with
errors is hard. `contexts` says how hard. The key holder reads every ciphertext under it. Whoever carries ciphertexts and
public keys can change them, and nobody sees one bit changed inside of a polynomial. So sign what you send, the bytes as
sent: one ciphertext has several forms. A public key made up by an attacker hides nothing: take it from whom you would
give the data to.

One key, one key holder. There is no threshold decryption here.

**Decryptions are not to be shared with anyone who may have seen the ciphertexts.** What decrypts is the numbers
plus a noise that depends on the secret key: m = c0 + c1 s modulo q, to enough digits to encode it again exactly. Each
decryption is a linear equation in s. Two full decryptions give the key away [LM21, section 3] (the tests do it), and
with it all that was ever encrypted under it. So results are the key holder's own. Rounding results or adding noise
before they are shown makes the attack harder, and is not claimed to make it impossible. Where results are to be shared,
use a scheme with exact sums.

Who may have what:
    server        `PublicKey`, which adds and holds no secret
    clients       `PublicKey`, which encrypts; under a symmetric context `SecretKey`, which then reads all as well
    key holder    `SecretKey`
A `PublicKey` has no place for a secret key, and a `SecretKey` has no bytes but those for `key_files`.

Learns: server: nothing. Holder of the secret key: what it decrypts, which should be sums only. The errors in a sum tell
which summands it was made of, with an advantage of some 2^-25 a block at most (Hiding in `contexts`). That is for numbers
that were multiplied by weights before they were encrypted. A multiple of a ciphertext shows what an exact multiple would.
Cost: 24 bytes a number (30 under 8192/256, 70 under 8192/tenseal), in blocks of N / 2 numbers.

Multiplying by an integer is doubling and adding: exact, at no level of the modulus, in every context. (TenSEAL's own
product takes a context with a level for it, 25 bytes a number more and rescales with an error of its own.)

TenSEAL takes no `rng`: SEAL draws from the operating system. Nor an `executor`: it holds the interpreter's lock.
Every context in memory costs an idle thread of TenSEAL's: load a key once a process. Keys and ciphertexts from before a
fork may be used in the child.
"""

try:
    import tenseal  # noqa: F401
    import zstandard  # noqa: F401
except ImportError:
    raise ImportError('CKKS needs TenSEAL and zstandard: pip install "secagg[ckks]"') from None

from secagg.he.ckks.ciphertexts import Ciphertext
from secagg.he.ckks.contexts import CONTEXTS, Context
from secagg.he.ckks.keys import Error, PublicKey, SecretKey

__all__ = ["CONTEXTS", "Ciphertext", "Context", "Error", "PublicKey", "SecretKey"]


def __dir__() -> list[str]:
    return sorted(__all__)
