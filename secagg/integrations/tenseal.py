"""Contexts and vectors of TenSEAL's (CKKS) to secagg's keys and ciphertexts and back.

A TenSEAL context with the parameters of one of `secagg.he.ckks.CONTEXTS` is read, as an object or as its bytes. Those of
TenSEAL's tutorials (degree 8192, primes of 60, 40, 40 and 60 bits) are the context 8192/tenseal. Keys for rotations and
relinearisation are left out: sums need none. What comes as bytes is taken apart here, and TenSEAL gets nothing of it to
read but coefficients.

A vector of TenSEAL's has a scale. secagg's follows from the plan's clip (`scale_of`), and what is added has one scale:

    context = to_public_key(key, plan)                              # whose global_scale is scale_of(plan, key)
    vector = tenseal.ckks_vector(context, numbers)                  # on the other side
    ciphertext = from_vector(vector.serialize(), key, plan)

**What TenSEAL encrypted has no noise that hides roundings** (`he.ckks.contexts`, Hiding). So the key holder can tell by the
errors of a sum which of two vectors with one sum it was. Numbers that need hiding are encrypted by secagg.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import replace
from typing import Any, Final

import numpy as np

try:
    import tenseal
except ImportError:
    raise ImportError('this needs TenSEAL: pip install "secagg[ckks]"') from None

from numpy.typing import NDArray

from secagg import signing
from secagg.errors import RangeError, UsageError
from secagg.fixed_point import Plan
from secagg.he.ckks import CONTEXTS, Ciphertext, Context, PublicKey, SecretKey
from secagg.he.ckks.ciphertexts import CiphertextMessage, packed
from secagg.he.ckks.native import (
    BLOCK,
    ENCRYPTION,
    KEY,
    PARAMETERS,
    PUBLIC,
    SECRET,
    SIZES,
    TENSEAL_ERRORS,
    VECTOR_SCALE,
    Native,
    alive,
    octets,
    parts_of,
)
from secagg.he.ckks.seal import BYTES, FIXED64, Octets, content, fields, varints
from secagg.he.scheme import Header

_MAX_PARAMETER_BYTES: Final = 4096


def scale_of(plan: Plan, key: PublicKey | SecretKey) -> float:
    """Return the scale that TenSEAL's vectors have under this plan and key."""
    return _scale(_public(key).context, plan)


def to_public_key(key: PublicKey | SecretKey, plan: Plan) -> tenseal.Context:
    """Return TenSEAL's context without the secret key, with the plan's scale as its global one.

    Raises:
      UsageError: a scale that TenSEAL has no room for.
    """
    return _to_context(_public(key), None, plan)


def to_secret_key(key: SecretKey, plan: Plan) -> tenseal.Context:
    """Return TenSEAL's context with the secret key. It is as secret, and TenSEAL lets it be written anywhere.

    Raises:
      UsageError: a scale that TenSEAL has no room for.
    """
    return _to_context(key.public_key, key.to_message().polynomial, plan)


def from_public_key(context: tenseal.Context | bytes) -> PublicKey:
    """Return secagg's form of a context's public key; the same context gives the same key everywhere.

    Raises:
      UsageError: no TenSEAL context, one with a secret key in it, without a public one, or of parameters that secagg has no
        context for.
    """
    parts = parts_of(_context_bytes(context, secret=False))
    if (SECRET,) in parts:
        raise UsageError(
            "there is a secret key in this context: it must not leave its owner, who sends "
            "context.serialize(save_secret_key=False) and replaces the key if it was sent"
        )
    native = _native_of(parts)
    if native.context.symmetric:
        raise UsageError("a symmetric context has no public key; its owner reads it with from_secret_key")
    return _public_key(native, parts)


def from_secret_key(context: tenseal.Context | bytes) -> SecretKey:
    """Return secagg's form of a context's secret key.

    Raises:
      UsageError: no TenSEAL context, one without a secret key, or of parameters that secagg has no context for.
    """
    parts = parts_of(_context_bytes(context, secret=True))
    native = _native_of(parts)
    if (SECRET, KEY) not in parts:
        raise UsageError("there is no secret key in this context; from_public_key reads a public one")
    if native.context.symmetric:
        nothing = np.empty(native.public_key.shape, np.uint64)
        key_nonce = os.urandom(signing.DIGEST_BYTES)
        public_key = PublicKey(native.context, key_nonce, native.context.expected_error, nothing)
    else:
        public_key = _public_key(native, parts)
    return SecretKey(public_key, native.secret_key.read(octets(parts, SECRET, KEY)))


def to_vector(ciphertext: Ciphertext, context: tenseal.Context) -> tenseal.CKKSVector:
    """Return an array under encryption, flattened, as TenSEAL's vector; `serialize` makes bytes of it.

    Args:
      ciphertext: of any shape.
      context: TenSEAL's of the same key, which adds and, with the secret key in it, decrypts.

    Raises:
      UsageError: TenSEAL refuses it: a context of other parameters, or a scale that it has no room for.
    """
    native, header = ciphertext.loaded.native, ciphertext.header
    scale, slots = _scale(native.context, header.plan), native.context.slots
    native = _at_scale(native, scale)
    blocks = ciphertext.blocks()
    sizes = [slots] * (len(blocks) - 1) + [header.length - slots * (len(blocks) - 1)]
    data = b"".join(native.vector_bytes(blocks, sizes=sizes, scale=scale))
    try:
        return tenseal.ckks_vector_from(context, data)
    except TENSEAL_ERRORS as error:
        raise UsageError(f"TenSEAL does not take a vector of scale {scale:g}: {error!s:.100}") from None


def from_vector(
    vector: tenseal.CKKSVector | bytes, public_key: PublicKey, plan: Plan, *, weight: int = 1
) -> Ciphertext:
    """Return TenSEAL's vector as a ciphertext of its length.

    Args:
      vector: an encryption, or a sum of some; what it holds is not known here, and if it is beyond the plan, decryption
        says so.
      public_key: of the context that encrypted.
      plan: with a clip whose scale is the vector's, see `scale_of`.
      weight: how many plain numbers within the plan's clip one of these may have been summed from.

    Raises:
      UsageError: no vector of TenSEAL's, one of other parameters, at another level or of another scale.
      PlanError: the context has no room for the plan.
      RangeError: the plan has no room for the weight.
      WireError: coefficients that are none under this key.
    """
    public_key.context.check_plan(plan)
    data = vector if isinstance(vector, bytes) else vector.serialize()
    scale = scale_of(plan, public_key)
    layout = _at_scale(public_key.native, scale).ciphertext
    sizes: list[int] = []
    blocks: list[Octets] = []
    for number, kind, value in fields(data):
        if number == SIZES and kind == BYTES and isinstance(value, memoryview) and not sizes:
            sizes = varints(value, most=len(data), count=len(data) // layout.least_nbytes)
        elif number == BLOCK and isinstance(value, memoryview):
            if len(value) < layout.least_nbytes:
                raise UsageError(
                    f"expected blocks of at least {layout.least_nbytes} bytes in a CKKS vector of TenSEAL's, got one of "
                    f"{len(value)}"
                )
            blocks.append(value)
        elif number == VECTOR_SCALE and kind == FIXED64 and isinstance(value, memoryview):
            (got,) = struct.unpack("<d", value)
            if got != scale:
                raise UsageError(
                    f"expected a vector of scale {scale:g} for a clip of {plan.clip:g}, got one of {got:g}; encrypt with "
                    f"tenseal.ckks_vector(context, numbers, scale={scale:g})"
                )
        else:
            raise UsageError("expected a CKKS vector of TenSEAL's, got something else")
    slots = public_key.context.slots
    if not sizes or len(sizes) != len(blocks) or set(sizes[:-1]) - {slots} or not 1 <= sizes[-1] <= slots:
        raise UsageError(
            f"expected a CKKS vector of TenSEAL's in blocks of {slots} numbers, the last one of 1 or more, got "
            f"{len(blocks)} blocks"
        )
    words: NDArray[np.uint64] = np.stack([layout.read(block) for block in blocks])
    header = Header(public_key.scheme, public_key.key_id, plan, (sum(sizes),), weight=weight)
    try:
        octets = packed(words, public_key.context)
    except RangeError:
        raise UsageError("a CKKS vector of TenSEAL's has coefficients beyond the context's primes") from None
    return public_key.read(CiphertextMessage(header.to_fields(), octets), peer="TenSEAL")


def _public(key: PublicKey | SecretKey) -> PublicKey:
    return key.public_key if isinstance(key, SecretKey) else key


def _scale(context: Context, plan: Plan) -> float:
    return math.ldexp(1.0, context.scale_bits + context.unit_bits(plan.clip))


def _to_context(key: PublicKey, secret: NDArray[np.uint64] | None, plan: Plan) -> tenseal.Context:
    scale = scale_of(plan, key)
    polynomials = None if key.context.symmetric else key.to_message().polynomials
    data = b"".join(key.native.context_bytes(polynomials, secret, scale=scale))
    try:
        context = tenseal.context_from(data, 1)
    except TENSEAL_ERRORS as error:
        raise UsageError(f"TenSEAL does not take a context of scale {scale:g}: {error!s:.100}") from None
    alive(context.data)
    return context


def _context_bytes(context: Any, *, secret: bool) -> bytes:
    if isinstance(context, bytes):
        return context
    if not isinstance(context, tenseal.Context):
        raise UsageError(f"expected a context of TenSEAL's or its bytes, got {type(context).__name__}")
    if secret and not context.has_secret_key():
        raise UsageError("there is no secret key in this context; from_public_key reads a public one")
    try:
        data: bytes = context.data.serialize(True, secret, False, False)
    except TENSEAL_ERRORS as error:
        raise UsageError(f"TenSEAL does not write this context: {error!s:.100}") from None
    return data


def _native_of(parts: dict[tuple[int, ...], memoryview | int]) -> Native:
    """Return the form of the named context that has these parameters."""
    got, symmetric = octets(parts, PARAMETERS), bool(parts.get((ENCRYPTION,), 0))
    for context in CONTEXTS.values():
        native = Native.of(context)
        mine = native.seal_parameters
        same = content(got, mine[:5], limit=_MAX_PARAMETER_BYTES) == content(
            mine, mine[:5], limit=_MAX_PARAMETER_BYTES
        )
        if same and symmetric == context.symmetric:
            return native
    raise UsageError(
        f"secagg has no context of these parameters; make the key with one of {', '.join(map(_calls, CONTEXTS.values()))}"
    )


def _calls(context: Context) -> str:
    kind = ", symmetric" if context.symmetric else ""
    return f"{context.degree} and coeff_mod_bit_sizes={list(context.prime_bits)}{kind}"


def _public_key(native: Native, parts: dict[tuple[int, ...], memoryview | int]) -> PublicKey:
    polynomials = native.public_key.read(octets(parts, PUBLIC, KEY))
    key_nonce = signing.digest("secagg.integrations.tenseal/key nonce", [polynomials.tobytes()])
    return PublicKey(native.context, key_nonce, native.context.expected_error, polynomials)


def _at_scale(native: Native, scale: float) -> Native:
    """Return the form of ciphertexts of another scale."""
    mine = struct.pack("<d", 2.0**native.context.scale_bits)
    layout = native.ciphertext
    return replace(
        native, ciphertext=replace(layout, fields=layout.fields.replace(mine, struct.pack("<d", scale)))
    )
