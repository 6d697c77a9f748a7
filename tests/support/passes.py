"""Bytes of memory that numpy and OpenSSL read and write in a piece of code: the same on every machine.

Within `counted`, numpy makes arrays of a kind that counts. Every operation on them adds the bytes of its operands and of
its result, if that is not a view. Keystream adds the bytes that it overwrites, and those that it is combined with. What an
operation does inside (a sort, a transform) counts once in and once out. Memory that is only reserved counts nothing, and
neither do bytes that Python copies to and from the network.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np

from secagg.prg import Stream

_ARRAY = np.ndarray
_MAKERS = ("empty", "zeros", "ones", "full", "empty_like", "zeros_like", "full_like", "frombuffer", "arange")
# They look at shapes and addresses alone. `ascontiguousarray` and its kin are counted where they copy.
_FREE = (
    "may_share_memory",
    "shares_memory",
    "shape",
    "size",
    "ndim",
    "empty_like",
    "result_type",
    "iscomplexobj",
)


class Traffic:
    """Bytes read and written so far."""

    nbytes = 0


_traffic: list[Traffic] = []  # of the `counted` that is open, if any


class CountingArray(np.ndarray):
    """An array whose operations are counted."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        out = options.pop("out", ())
        if out:
            options["out"] = tuple(_plain(x) for x in out)
        result = getattr(ufunc, method)(*map(_plain, inputs), **options)
        _add(*inputs, *(out or _flat(result)))
        return out[0] if len(out) == 1 else _counting(result)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        result = function(*_plain(args), **_plain(kwargs))
        given = [*_flat(args), *_flat(tuple(kwargs.values()))]
        if isinstance(kwargs.get("out"), np.ndarray):
            _add(*given)
            return kwargs["out"]
        made = _flat(result)
        if function.__name__ not in _FREE and not any(_is_view(x, given) for x in made):
            _add(*given, *made)
        return _counting(result)

    def _method(self, name: str, *args: Any, **kwargs: Any) -> Any:
        result = getattr(_plain(self), name)(*_plain(args), **_plain(kwargs))
        if not (isinstance(result, np.ndarray) and np.may_share_memory(_plain(self), result)):
            # What is picked is all that is read of the array.
            _add(
                *(_flat(result) * 2 if name in ("take", "__getitem__") else [self, *_flat(result)]),
                *_flat(args),
            )
        return _counting(result)

    def __getitem__(self, key: Any) -> Any:
        return self._method("__getitem__", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        target, where = _plain(self), _plain(key)
        target[where] = _plain(value)
        _add(*_flat(key), *_flat(value), *_flat(target[where]))


def _counted_method(name: str) -> Callable[..., Any]:
    def method(self: CountingArray, *args: Any, **kwargs: Any) -> Any:
        return self._method(name, *args, **kwargs)

    return method


for _name in ("astype", "copy", "take", "repeat", "nonzero", "tobytes", "argsort", "searchsorted", "reshape"):
    setattr(CountingArray, _name, _counted_method(_name))


@contextlib.contextmanager
def counted() -> Iterator[Traffic]:
    """Count what is done within; not to be nested."""
    traffic = Traffic()

    def made(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: _counting(function(*_plain(args), **_plain(kwargs)))

    def converted(function: Callable[..., Any]) -> Callable[..., Any]:
        def convert(x: Any, *args: Any, **kwargs: Any) -> Any:
            result = function(_plain(x), *args, **kwargs)
            if isinstance(x, np.ndarray) and np.may_share_memory(_plain(x), result):
                return x.reshape(result.shape)
            _add(*_flat(x), result)
            return _counting(result)

        return convert

    def filled(stream: Stream, out: Any) -> None:
        fill(stream, _plain(out))
        traffic.nbytes += out.nbytes

    def xored(stream: Stream, out: Any) -> None:
        xor_into(stream, _plain(out))
        traffic.nbytes += 2 * out.nbytes

    fill, xor_into = Stream.fill, Stream.xor_into
    with contextlib.ExitStack() as stack:
        for name in _MAKERS:
            stack.enter_context(mock.patch.object(np, name, made(getattr(np, name))))
        for name in ("array", "asarray", "ascontiguousarray"):
            stack.enter_context(mock.patch.object(np, name, converted(getattr(np, name))))
        stack.enter_context(mock.patch.object(Stream, "fill", filled))
        stack.enter_context(mock.patch.object(Stream, "xor_into", xored))
        _traffic.append(traffic)
        try:
            yield traffic
        finally:
            _traffic.pop()


def counting(x: np.ndarray) -> Any:
    """Return a view of an array whose operations are counted."""
    return _counting(x)


def _add(*arrays: Any) -> None:
    if _traffic:
        _traffic[-1].nbytes += sum(x.nbytes for x in arrays if isinstance(x, np.ndarray))


def _plain(x: Any) -> Any:
    if isinstance(x, CountingArray):
        return _ARRAY.view(x, _ARRAY)
    if type(x) in (tuple, list):
        return type(x)(map(_plain, x))
    return {k: _plain(v) for k, v in x.items()} if type(x) is dict else x


def _counting(x: Any) -> Any:
    if type(x) is np.ndarray:
        return x.view(CountingArray)
    return type(x)(map(_counting, x)) if type(x) in (tuple, list) else x


def _flat(x: Any) -> list[Any]:
    """Return the arrays in an array, or in tuples and lists of them."""
    if isinstance(x, tuple | list):
        return [y for part in x for y in _flat(part)]
    return [x] if isinstance(x, np.ndarray) else []


def _is_view(x: np.ndarray, given: list[Any]) -> bool:
    return any(np.may_share_memory(_plain(x), _plain(y)) for y in given)
