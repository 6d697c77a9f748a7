"""Settings from the configuration files of frameworks: mappings of plain values to `Protection` and `Encoding`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from secagg.errors import UsageError
from secagg.federated.terms import Protection
from secagg.federated.weighted import Encoding

T = TypeVar("T")


def protection_from(given: Mapping[str, Any] | Protection | None) -> Protection:
    """Return what a configuration asks for; the usual protection for None.

    Raises:
      UsageError: an unknown field, or a value that does not fit; names it.
    """
    return given if isinstance(given, Protection) else _converted(given, Protection)


def encoding_from(given: Mapping[str, Any] | Encoding | None) -> Encoding:
    """Return how a configuration says numbers are written; as usual for None.

    Raises:
      UsageError: as `protection_from`.
    """
    return given if isinstance(given, Encoding) else _converted(given, Encoding)


def _converted(given: Any, kind: type[T]) -> T:
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        raise UsageError(f"expected a mapping of settings for {kind.__name__}, got a {type(given).__name__}")
    known = kind.__dataclass_fields__  # type: ignore[attr-defined]  # both are dataclasses
    if strange := [key for key in given if key not in known]:
        raise UsageError(f"{kind.__name__} has no setting {strange[0]!r:.80}; it has {', '.join(known)}")
    try:
        return msgspec.convert(dict(given), kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"settings for {kind.__name__}: {error}") from None
