"""A pattern's parameters: what a job file calls them, and how it writes amounts.

A pattern works in whole cents. They stand for the smallest unit of the job's currency, which may be a yen or a thousandth
of a dinar. A job file gives amounts in units, with as many decimals as the currency has. So the parameter
`min_total_cents` is `min_total` in a job file, and `max_cents_per_bank` is `max_amount_per_bank`. Defaults are the same
number of units in every currency.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

DECIMALS: Final = 2  # of the currency that the parameters' defaults are in


def units(cents: int, decimals: int = DECIMALS) -> str:
    """Return an amount of the currency's smallest unit as units, with the currency's decimals."""
    whole, part = divmod(abs(cents), 10**decimals)
    sign = "-" if cents < 0 else ""
    return f"{sign}{whole}.{part:0{decimals}}" if decimals else str(cents)


def in_job_file(name: str) -> str:
    """Return what a job file calls the parameter of this name."""
    return name.removesuffix("_cents").replace("_cents_", "_amount_")


@functools.lru_cache(maxsize=256)  # msgspec evaluates annotations anew each time, and each job asks often
def parameter_fields(kind: type[msgspec.Struct]) -> Mapping[str, msgspec.structs.FieldInfo]:
    """Return the parameters by what a job file calls them."""
    return MappingProxyType({in_job_file(field.name): field for field in msgspec.structs.fields(kind)})


def shown_parameters(parameters: msgspec.Struct, *, decimals: int = DECIMALS) -> dict[str, str]:
    """Return the parameters as a job file writes them, in a currency with so many decimals.

    One that is None is left out: TOML has no word for it, so that it can be nothing but the default.
    """
    shown = {}
    for name, field in parameter_fields(type(parameters)).items():
        value = getattr(parameters, field.name)
        if value is None:
            continue
        if name != field.name:
            shown[name] = units(value, decimals)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            shown[name] = str(value)
        else:
            shown[name] = toml(msgspec.to_builtins(value))
    return shown


def toml(value: Any) -> str:
    """Return a value of a parameter as a job file writes it, on one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{toml(key)} = {toml(inside)}' for key, inside in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    # TOML writes truth, numbers and texts as JSON does, but for one character.
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
