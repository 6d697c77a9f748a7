"""Tables, shares and results as bytes, for files that this party writes and reads itself; no code comes out of them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec
import numpy as np

from secagg.errors import UsageError
from secagg.patterns.counts import Categorical

_ARRAY, _OBJECTS, _MASKED, _CATEGORICAL, _DECIMAL, _DATE, _MOMENT, _TUPLE, _WHOLE = range(1, 10)
_KINDS: Final = "biufSU"
_pack, _unpack = msgspec.msgpack.encode, msgspec.msgpack.decode


def encode(content: Mapping[str, Any]) -> bytes:
    """Return a mapping as bytes.

    It holds arrays of numbers, bits or texts, `Categorical`, masked arrays, bytes, texts, numbers, decimals, dates, and
    lists, tuples and mappings of them.

    Raises:
      UsageError: it holds something else.
    """
    return _pack(_plain(content))


def decode(encoded: bytes) -> Any:
    """Return what was encoded.

    Raises:
      UsageError: these bytes are something else.
    """
    try:
        return _from(_unpack(encoded))
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        raise UsageError(f"expected content that this release wrote, got other bytes: {error}") from None


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | float | str | bytes):
        return value
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 64 else _ext(_WHOLE, str(value))
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, tuple):
        return _ext(_TUPLE, [_plain(each) for each in value])
    if isinstance(value, Categorical):
        return _ext(_CATEGORICAL, [_plain(value.categories), _plain(value.codes)])
    if isinstance(value, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(value)
        return _ext(_MASKED, [_plain(np.ma.getdata(value)), _plain(mask)])
    if isinstance(value, np.ndarray):
        if value.dtype.kind in _KINDS:
            packed = np.ascontiguousarray(value)
            return _ext(_ARRAY, [value.dtype.str, list(value.shape), packed.tobytes()])
        if value.dtype == object:
            return _ext(_OBJECTS, [list(value.shape), [_plain(each) for each in value.reshape(-1).tolist()]])
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, Decimal):
        return _ext(_DECIMAL, str(value))
    if isinstance(value, datetime.datetime):
        return _ext(_MOMENT, value.isoformat())
    if isinstance(value, datetime.date):
        return _ext(_DATE, value.isoformat())
    raise UsageError(f"expected plain data to keep, got {type(value).__name__}")


def _ext(code: int, content: Any) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, _pack(content))


def _from(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _from(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_from(each) for each in value]
    if not isinstance(value, msgspec.msgpack.Ext):
        return value
    content = _unpack(value.data)
    match value.code:
        case 1:
            dtype, shape, packed = content
            if np.dtype(dtype).kind not in _KINDS:
                raise ValueError("an array of objects")
            return np.frombuffer(bytearray(packed), dtype).reshape(shape)
        case 2:
            shape, each = content
            flat = np.empty(len(each), object)
            flat[:] = [_from(one) for one in each]
            return flat.reshape(shape)
        case 3:
            data, mask = map(_from, content)
            return np.ma.MaskedArray(data, mask)
        case 4:
            categories, codes = map(_from, content)
            return Categorical(categories, codes)
        case 5:
            return Decimal(content)
        case 6:
            return datetime.date.fromisoformat(content)
        case 7:
            return datetime.datetime.fromisoformat(content)
        case 8:
            return tuple(_from(each) for each in content)
        case 9:
            return int(content)
        case _:
            raise ValueError("an unknown kind")
