"""Keys to uniform ring elements: HKDF-SHA256 to derive keys, AES-256-CTR to expand them.

The only source of masks, pads and secret permutations in secagg. Every stream has a key of its own, so a stream is a
function of (secret, label, context). Whoever holds the same secret and agrees on label and context draws the same values in
the same order. How the draws are cut into calls does not matter. Two holders stay in step as long as they make the same
draws; compare `Stream.position` where that matters.

HKDF: RFC 5869. AES-CTR: NIST SP 800-38A, section 6.5, with a 128-bit big-endian block counter.
"""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from secagg.errors import ShapeError, UsageError

__all__ = ["KEY_BYTES", "Stream", "check_process", "derive_key", "expand", "system_stream"]

if sys.byteorder != "little":
    raise ImportError("secagg needs a little-endian machine: keystream words are read as they lie in memory")

KEY_BYTES = 32
_BLOCK_BYTES = 16

# Keystream is what CTR mode makes of zeros. Encrypting this constant block, which stays in the cache,
# into the output writes each output byte once and reads none.
_ZEROS = bytes(1 << 18)


def derive_key(secret: bytes, *, label: str, context: bytes = b"") -> bytes:
    """Return a 32-byte key for one purpose, derived from a secret by HKDF-SHA256 without salt.

    Keys for different (label, context) are independent as far as anybody without the secret can tell.

    Args:
      secret: at least 16 bytes with the entropy of a key (not a password).
      label: what the key is for, such as "masks/round"; not empty.
      context: public data the key is bound to, such as session and job identifiers.

    Raises:
      UsageError: a secret under 16 bytes, or an empty label.
    """
    if len(secret) < 16:
        raise UsageError(f"a secret to derive keys from has at least 16 bytes, not {len(secret)}")
    if not label:
        raise UsageError("a derived key needs a label that says what it is for")
    # The length before each part makes the encoding injective: ("a", b"bc") and ("ab", b"c") differ.
    name = label.encode()
    info = b"".join((b"secagg", len(name).to_bytes(8, "big"), name, len(context).to_bytes(8, "big"), context))
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret)


class Stream:
    """The AES-256-CTR keystream of one key, drawn from front to back.

    Not thread-safe, not picklable: a copy would repeat masks. For the same reason a stream draws only in the process that
    made it, and not in one forked off that.

    Args:
      key: 32 bytes, uniformly random or from `derive_key`, used for this stream alone.
      start: the byte of the keystream that it draws first, a multiple of 16: who draws one stretch of a long stream
        does not make what lies before it.

    Raises:
      UsageError: a key of another length, or another start.
    """

    __slots__ = ("_encryptor", "_pid", "_position")

    def __init__(self, key: bytes, *, start: int = 0) -> None:
        if not isinstance(key, bytes | bytearray | memoryview) or len(key) != KEY_BYTES:
            length = len(key) if isinstance(key, bytes | bytearray | memoryview) else type(key).__name__
            raise UsageError(f"a stream's key has {KEY_BYTES} bytes, not {length}")
        if start < 0 or start % _BLOCK_BYTES:
            raise UsageError(f"a stream starts at a multiple of {_BLOCK_BYTES} bytes, not at byte {start}")
        # The counter is the number of the block, from zero: each key makes exactly one stream, and within a stream
        # the 128-bit counter never repeats.
        counter = (start // _BLOCK_BYTES).to_bytes(_BLOCK_BYTES, "big")
        self._encryptor = Cipher(algorithms.AES(bytes(key)), modes.CTR(counter)).encryptor()
        self._position = start
        self._pid = os.getpid()

    @property
    def position(self) -> int:
        """The byte of the keystream that is drawn next."""
        return self._position

    def __repr__(self) -> str:
        return f"<Stream at byte {self._position}, key hidden>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Stream cannot be copied or pickled: two copies would draw the same masks")

    def fill(self, out: NDArray[Any]) -> None:
        """Overwrite an integer array with keystream bytes, in one pass over its memory.

        Args:
          out: C-contiguous, writable, integer dtype, any shape; may be a part of a larger array.

        Raises:
          ShapeError: another dtype or layout.
          UsageError: the process was forked off the one that made the stream.
        """
        check_process(self._pid, "a stream")
        view = _byte_view(out)
        step = len(_ZEROS)
        zeros = memoryview(_ZEROS)
        for start in range(0, len(view), step):
            part = view[start : start + step]
            self._encryptor.update_into(zeros[: len(part)], part)
        self._position += len(view)

    def xor_into(self, out: NDArray[Any]) -> None:
        """Exclusive-or keystream bytes into an integer array in place, in one pass over its memory.

        Consumes the same keystream as `fill` into an array of the same size.

        Args:
          out: C-contiguous, writable, integer dtype, any shape; may be a part of a larger array.
            Nothing outside it is touched and no slack behind it is needed.

        Raises:
          ShapeError: another dtype or layout.
          UsageError: the process was forked off the one that made the stream.
        """
        check_process(self._pid, "a stream")
        view = _byte_view(out)
        # CTR mode is encryption by exclusive-or; OpenSSL allows input and output to be the same memory.
        for start in range(0, len(view), _MAX_UPDATE):
            part = view[start : start + _MAX_UPDATE]
            self._encryptor.update_into(part, part)
        self._position += len(view)

    def bytes(self, n: int) -> bytes:
        """Return the next n bytes of keystream; raises UsageError as `fill` does."""
        check_process(self._pid, "a stream")
        if n < 0:
            raise UsageError(f"cannot draw {n} bytes")
        self._position += n
        return self._encryptor.update(bytes(n))

    def words(self, shape: int | tuple[int, ...]) -> NDArray[np.uint64]:
        """Return uint64, uniform modulo 2**64, of the given shape."""
        out = np.empty(shape, np.uint64)
        self.fill(out)
        return out

    def ring(self, shape: int | tuple[int, ...], bits: int = 64) -> NDArray[np.unsignedinteger[Any]]:
        """Return elements uniform modulo 2**bits, in the smallest unsigned dtype that holds them.

        Consumes the dtype's bytes per element. 1 <= bits <= 64.

        Raises:
          UsageError: bits outside 1..64.
        """
        if not 1 <= bits <= 64:
            raise UsageError(f"a ring has 1 to 64 bits, not {bits}")
        width = next(w for w in (8, 16, 32, 64) if bits <= w)
        out: NDArray[np.unsignedinteger[Any]] = np.empty(shape, np.dtype(f"u{width // 8}"))
        self.fill(out)
        if bits < width:
            np.bitwise_and(out, out.dtype.type((1 << bits) - 1), out=out)
        return out

    def below(self, bound: int, shape: int | tuple[int, ...]) -> NDArray[np.uint64]:
        """Return uint64, uniform in [0, bound), of the given shape.

        By rejection: words masked to the bits of bound - 1 are kept if below the bound, in stream order,
        so no value is favoured. How many words are drawn depends on the stream alone: holders of the
        same key stay in step. Time depends on the rejected words, which are independent of the result.

        Args:
          bound: 1..2**64.
          shape: of the result.

        Raises:
          UsageError: bound outside 1..2**64.
        """
        if not 1 <= bound <= 1 << 64:
            raise UsageError(f"a bound is 1 to 2**64, not {bound}")
        out = self.words(shape)
        mask = np.uint64((1 << (bound - 1).bit_length()) - 1)
        out &= mask
        if bound - 1 == int(mask):
            return out
        flat = out.reshape(-1)
        kept = flat[flat < np.uint64(bound)]
        have = kept.size
        flat[:have] = kept
        while have < flat.size:
            # Each word is kept with probability above 1/2: the loop ends after O(log n) rounds.
            more = self.words(flat.size - have)
            more &= mask
            kept = more[more < np.uint64(bound)]
            flat[have : have + kept.size] = kept
            have += kept.size
        return out

    def signed(self, bound: int, shape: int | tuple[int, ...]) -> NDArray[np.int64]:
        """Return int64, uniform in [-bound, bound], of the given shape; see `below`.

        Raises:
          UsageError: bound outside 0..2**63 - 1.
        """
        if not 0 <= bound < 1 << 63:
            raise UsageError(f"a signed bound is 0 to 2**63 - 1, not {bound}")
        drawn = self.below(2 * bound + 1, shape)
        drawn -= np.uint64(bound)  # wraps for the negative half, as two's complement does
        return drawn.view(np.int64)

    def permutation(self, n: int) -> NDArray[np.int64]:
        """Return a uniform permutation of 0..n-1 as int64, shape (n,); see `permutations`."""
        return self.permutations(1, n).reshape(n)

    def permutations(self, rows: int, n: int) -> NDArray[np.int64]:
        """Return independent uniform permutations of 0..n-1, int64, shape (rows, n).

        Each row sorts n random keys. A row with two equal keys is drawn anew as a whole, which leaves
        all orders of distinct keys, hence all permutations, equally likely.

        Args:
          rows: 0 or more.
          n: 0..2**31.

        Raises:
          UsageError: rows or n out of range.
        """
        if rows < 0 or not 0 <= n <= 1 << 31:
            raise UsageError(f"permutations take rows >= 0 and n in 0..2**31, not {rows} and {n}")
        if n == 0:
            return np.empty((rows, n), np.int64)
        out, distinct = _sort_order(self.words((rows, n)))
        todo = np.flatnonzero(~distinct)
        while todo.size:
            order, distinct = _sort_order(self.words((todo.size, n)))
            out[todo[distinct]] = order[distinct]
            todo = todo[~distinct]
        return out


def check_process(pid: int, what: str) -> None:
    """Check that this is the process with that number, for a copy in a forked one would use the same keys and masks.

    Raises:
      UsageError: it is another.
    """
    if os.getpid() != pid:
        raise UsageError(
            f"{what} was made by process {pid}, and this one, {os.getpid()}, was forked off it: both would use the same "
            "keys and masks. Make it after the fork, or start processes with multiprocessing's 'spawn'"
        )


def system_stream() -> Stream:
    """Return a stream under a fresh key from the operating system."""
    return Stream(os.urandom(KEY_BYTES))


def expand(seed: bytes, label: str, out: NDArray[Any]) -> None:
    """Overwrite an integer array with the mask that (seed, label) stands for.

    Args:
      seed: at least 16 secret bytes; shared by those who need the same mask.
      label: what the mask is for, unique per mask under one seed.
      out: C-contiguous, writable, integer dtype, any shape.

    Raises:
      UsageError: a short seed or an empty label.
      ShapeError: an array of another dtype or layout.
    """
    Stream(derive_key(seed, label=label)).fill(out)


# OpenSSL takes lengths as C int.
_MAX_UPDATE = 1 << 30


def _byte_view(out: NDArray[Any]) -> memoryview:
    if out.dtype.kind not in "ui" or not out.flags.c_contiguous or not out.flags.writeable:
        raise ShapeError(
            f"keystream goes into a writable C-contiguous integer array, not {out.dtype} {out.shape}"
            f" with strides {out.strides}"
        )
    return out.reshape(-1).view(np.uint8).data


def _sort_order(words: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the order that sorts the random part of each row, and whether a row's parts are distinct."""
    n = words.shape[1]
    index_bits = max(1, (n - 1).bit_length())
    if 3 * index_bits <= 64:
        # The index replaces the low bits of each word, so that sorting the words sorts it along. Two
        # of n random parts of 64 - b bits, b = log2 n <= 21, are equal with probability under
        # n**2 / 2**(65 - b) <= 2**(3 b - 65) <= 1/4.
        mask = np.uint64((1 << index_bits) - 1)
        words &= ~mask
        words |= np.arange(n, dtype=np.uint64)
        words.sort(axis=1)
        order = (words & mask).view(np.int64)
        words >>= np.uint64(index_bits)
    else:
        # All 64 bits are random: equal with probability under 2**(62 - 65) = 1/8 for n <= 2**31.
        order = np.argsort(words, axis=1)
        words = np.take_along_axis(words, order, axis=1)
    distinct: NDArray[np.bool_] = (words[:, 1:] != words[:, :-1]).all(axis=1)
    return order, distinct
