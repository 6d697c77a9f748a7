"""Every kind of message that parties send or keep, as a test vector: a message of it with made-up content.

The content fits the fields' types and means nothing. So these vectors hold which fields a kind has, in which order and of
which types, and how they are written. Kinds whose modules need packages of others are left out: CKKS, and what carries
federated averaging in frameworks.
"""

from __future__ import annotations

import enum
import functools
import importlib
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

import msgspec
import numpy as np

import secagg
from made import Fields, Format
from secagg import wire
from secagg.wire import Message

_ROOT: Final = Path(secagg.__file__).parent
_LEFT_OUT: Final = ("secagg.__main__", "secagg.integrations", "secagg.he.ckks")
# Classes of which not every value of the right types is one.
_MEANT: Final[dict[str, dict[str, Any]]] = {
    "Privacy": {"epsilon": 2.0, "delta": 1e-5, "norm": 1.0},
}


@functools.cache
def kinds() -> Mapping[str, type[Message]]:
    """Return the kinds by name."""
    for path in sorted(_ROOT.rglob("*.py")):
        name = ".".join(("secagg", *path.relative_to(_ROOT).with_suffix("").parts)).removesuffix(".__init__")
        if "Message" in path.read_text("utf-8") and not name.startswith(_LEFT_OUT):
            importlib.import_module(name)
    ours = (kind for kind in _below(Message) if kind.__module__.startswith("secagg."))
    return {kind.KIND: kind for kind in ours if not kind.__module__.startswith(_LEFT_OUT)}


def _below(kind: type[Message]) -> Iterator[type[Message]]:
    for one in kind.__subclasses__():
        yield one
        yield from _below(one)


def sample(annotation: Any) -> Any:
    """Return a value of a type, the same whenever it is made."""
    origin, given = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _bounded(sample(given[0]), given[1:])
    if origin is np.ndarray:
        (element,) = get_args(given[1])
        return np.array([1, 0], _dtype(element))
    if origin is Literal:
        return given[0]
    if origin in (Union, types.UnionType):
        return sample(next(one for one in given if one is not type(None)))
    if origin is list or origin is frozenset:
        return origin([sample(given[0])])
    if origin is tuple:
        return (sample(given[0]),) if given[1:] == (...,) else tuple(map(sample, given))
    if origin is dict:
        return {sample(given[0]): sample(given[1])}
    return _plain(annotation)


def _plain(kind: Any) -> Any:
    if issubclass(kind, enum.Enum):
        return next(iter(kind))
    if issubclass(kind, msgspec.Struct):
        return kind(**{field.name: sample(field.type) for field in msgspec.structs.fields(kind)})
    if hasattr(kind, "__dataclass_fields__"):
        return kind(**_MEANT.get(kind.__name__, {}))
    return {bool: True, int: 1, float: 0.5, str: "é", bytes: b"\1\2"}[kind]


def _bounded(value: Any, bounds: tuple[Any, ...]) -> Any:
    for bound in bounds:
        if isinstance(value, bytes) and (least := getattr(bound, "min_length", None)):
            return value.ljust(least, b"\0")
    return value


def _dtype(element: Any) -> np.dtype[Any]:
    if isinstance(element, TypeVar):
        return np.dtype(np.uint64)
    element = get_origin(element) or element
    wide: dict[Any, Any] = {
        np.generic: np.float64,
        np.unsignedinteger: np.uint64,
        np.integer: np.int64,
        np.floating: np.float64,
    }
    found: np.dtype[Any] = np.dtype(wide.get(element, element))
    return found


def wire_kind(given: Fields) -> dict[str, Any]:
    kind = kinds()[given["kind"]]
    message = wire.from_bytes(bytes.fromhex(given["bytes"]), kind)
    return {"fields": list(kind.__struct_fields__), "bytes": wire.to_bytes(message).hex()}


def wire_kinds() -> Format:
    good = {
        name: {"kind": name, "bytes": wire.to_bytes(_plain(kind)).hex()}
        for name, kind in sorted(kinds().items())
    }
    hello = bytes.fromhex(good["network.hello.Hello"]["bytes"])
    later = {"kind": "network.hello.Hello", "bytes": (hello[:3] + b"\2" + hello[4:]).hex()}
    swapped = {"kind": "network.hello.Nonce", "bytes": hello.hex()}
    return Format(
        "a message of every kind that parties send or keep",
        wire_kind,
        good,
        {"of a later version": ("WireError", later), "of another kind": ("WireError", swapped)},
    )
