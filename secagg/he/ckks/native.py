"""TenSEAL's contexts: made here, put together from coefficients, and never freed in a forked child.

A context is parameters, a public part (the public key's polynomials, flags, scale) and a secret one. All but polynomials
are constants of the named `Context`. `Native.of` learns them from a context that TenSEAL makes here.

Every context has a thread of TenSEAL's, which its destructor joins. A forked child has no such thread: it would wait for
ever, if not sooner then as it ends. So a child keeps the contexts of its parent until the process is gone. It may use
them: with one thread TenSEAL computes in the calling one, and SEAL draws from the operating system for every encryption.
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import tenseal
from numpy.typing import NDArray
from tenseal import _ts_cpp as _tenseal

from secagg.errors import UsageError
from secagg.he.ckks.contexts import Context
from secagg.he.ckks.seal import BYTES, FIXED64, Layout, Octets, field, fields, varint

# What TenSEAL raises on bytes that it cannot read, by the kinds of C++ exceptions in it and in SEAL.
TENSEAL_ERRORS: Final = (ValueError, RuntimeError, IndexError, OverflowError, MemoryError)
# Numbers of the fields of TenSEAL's messages.
PARAMETERS, PUBLIC, SECRET, ENCRYPTION = 1, 2, 3, 4  # of a context
KEY, FLAGS, SCALE = 1, 2, 3  # of its public part; KEY of its secret part too
SIZES, BLOCK, VECTOR_SCALE = 1, 2, 3  # of a vector

_alive: weakref.WeakSet[Any] = weakref.WeakSet()


def _keep_in_child() -> None:
    for data in _alive:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(data))


os.register_at_fork(after_in_child=_keep_in_child)


@dataclass(frozen=True, slots=True)
class Native:
    """How TenSEAL writes the keys and ciphertexts of a context.

    Attributes:
      context: which.
      parameters: the field of a TenSEAL context with SEAL's parameters.
      tail: the field that says how it encrypts, if there is one.
      public_key, secret_key, ciphertext: SEAL's objects.
    """

    context: Context
    parameters: bytes
    tail: bytes
    public_key: Layout
    secret_key: Layout
    ciphertext: Layout

    @property
    def seal_parameters(self) -> bytes:
        """What SEAL writes of the parameters."""
        return bytes(octets({(n,): value for n, _, value in fields(self.parameters)}, PARAMETERS))

    @staticmethod
    def of(context: Context) -> Native:
        """Return it for a context; computed once."""
        return _native_of(context)

    def load(self, polynomials: NDArray[np.uint64] | None, secret: NDArray[np.uint64] | None = None) -> Any:
        """Return a context of TenSEAL's with these keys.

        Args:
          polynomials: of the public key, shape (2, primes, N); None under a symmetric context.
          secret: the secret key's, shape (primes, N); None for a public context.

        Raises:
          ShapeError: other shapes.
          UsageError: TenSEAL refuses them.
        """
        data = b"".join(self.context_bytes(polynomials, secret))
        try:
            return alive(tenseal.context_from(data, 1).data)
        except TENSEAL_ERRORS as error:
            raise UsageError(f"TenSEAL cannot read the key: {error!s:.100}") from None

    def context_bytes(
        self,
        polynomials: NDArray[np.uint64] | None,
        secret: NDArray[np.uint64] | None = None,
        *,
        scale: float | None = None,
    ) -> list[Octets]:
        """Return a context of TenSEAL's with these keys as TenSEAL reads it, in parts."""
        key = [] if polynomials is None else field(KEY, *self.public_key.write(polynomials))
        # Flags: what is multiplied is relinearised and rescaled, and nothing is brought to a lower level unasked. Who
        # uploads a ciphertext at a lower level must not bring the sum down to it.
        flags = bytes((FLAGS << 3,)) + varint(3)
        number = struct.pack("<Bd", SCALE << 3 | FIXED64, scale or 2.0**self.context.scale_bits)
        parts = [self.parameters, *field(PUBLIC, b"", *key, flags, number)]
        if secret is not None:
            parts += field(SECRET, *field(KEY, *self.secret_key.write(secret)))
        return [*parts, self.tail]

    def vector_bytes(
        self,
        blocks: Sequence[NDArray[np.uint64]] | NDArray[np.uint64],
        *,
        sizes: Sequence[int] | None = None,
        scale: float | None = None,
    ) -> list[Octets]:
        """Return a vector of TenSEAL's with these blocks as TenSEAL reads it, in parts.

        Args:
          blocks: of shape (2, primes - 1, N).
          sizes: how many numbers lie in each; without it, as many as there is room for.
          scale: of the blocks; without it, the context's.
        """
        numbers = b"".join(map(varint, sizes or [self.context.slots] * len(blocks)))
        parts = field(SIZES, numbers)
        for block in blocks:
            parts += field(BLOCK, *self.ciphertext.write(block))
        number = struct.pack("<Bd", VECTOR_SCALE << 3 | FIXED64, scale or 2.0**self.context.scale_bits)
        return [*parts, number]

    def blocks(self, vector: Any) -> list[NDArray[np.uint64]]:
        """Return the polynomials of each block of a vector of TenSEAL's that was made here."""
        return [
            self.ciphertext.read(value)
            for number, _, value in fields(vector.serialize())
            if number == BLOCK and isinstance(value, memoryview)
        ]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PublicContext:
    """A public key loaded into TenSEAL: what ciphertexts are linked to and added under.

    Attributes:
      native: how its keys and ciphertexts are written.
      data: TenSEAL's context, without a secret key.
    """

    native: Native
    data: Any

    def vector(self, blocks: Sequence[NDArray[np.uint64]] | NDArray[np.uint64]) -> Any:
        """Return TenSEAL's vector of some blocks of shape (2, primes, N); raises one of `TENSEAL_ERRORS` if they are none.

        Joining is the one copy on the way in, which is wanted anyway: TenSEAL reads nothing but `bytes`.
        """
        return _tenseal.CKKSVector(self.data, b"".join(self.native.vector_bytes(blocks)))


def alive(data: Any) -> Any:
    """Return a context of TenSEAL's that forked children will keep."""
    _alive.add(data)
    return data


def new(context: Context) -> Any:
    """Return a new context of TenSEAL's, with keys from the operating system's randomness."""
    kinds = tenseal.ENCRYPTION_TYPE
    made = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS,
        context.degree,
        coeff_mod_bit_sizes=list(context.prime_bits),
        encryption_type=kinds.SYMMETRIC if context.symmetric else kinds.ASYMMETRIC,
        n_threads=1,
    )
    made.global_scale = 2.0**context.scale_bits
    made.auto_mod_switch = False
    return alive(made.data)


def parts_of(data: Octets) -> dict[tuple[int, ...], memoryview | int]:
    """Return the fields of a TenSEAL context by number, those of its public and secret part by both numbers.

    Raises:
      UsageError: it is none, or has a field twice.
    """
    found: dict[tuple[int, ...], memoryview | int] = {}
    for number, kind, value in fields(data):
        inner = fields(value) if number in (PUBLIC, SECRET) and isinstance(value, memoryview) else ()
        for path, one in [((number,), value), *(((number, n), v) for n, _, v in inner)]:
            if path in found:
                raise UsageError(f"a context of TenSEAL's has field {'.'.join(map(str, path))} twice")
            found[path] = one
        if number in (PARAMETERS, PUBLIC, SECRET) and kind != BYTES:
            raise UsageError("expected a context of TenSEAL's, got something else")
    return found


def octets(parts: dict[tuple[int, ...], memoryview | int], *path: int) -> memoryview:
    """Return a field of bytes.

    Raises:
      UsageError: there is none.
    """
    found = parts.get(path)
    if not isinstance(found, memoryview):
        raise UsageError(f"a context of TenSEAL's lacks field {'.'.join(map(str, path))}")
    return found


@functools.cache  # as many entries as there are contexts
def _native_of(context: Context) -> Native:
    data = new(context)
    parts = parts_of(data.serialize(True, True, False, False))
    n, primes = context.degree, len(context.prime_bits)
    size = (2, primes - 1, n)
    vector = _tenseal.CKKSVector(data, [0.0] * context.slots).serialize()
    block = next(value for number, _, value in fields(vector) if number == BLOCK)
    if isinstance(block, int):
        raise UsageError("this TenSEAL writes vectors in another form")
    kind = parts.get((ENCRYPTION,))
    return Native(
        context,
        b"".join(field(PARAMETERS, octets(parts, PARAMETERS))),
        bytes((ENCRYPTION << 3,)) + varint(kind) if isinstance(kind, int) else b"",
        Layout(b"", b"", (0, primes, n))
        if context.symmetric
        else Layout.of(octets(parts, PUBLIC, KEY), (2, primes, n)),
        Layout.of(octets(parts, SECRET, KEY), (primes, n)),
        Layout.of(block, size),
    )
