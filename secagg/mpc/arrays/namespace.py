"""All functions of shared arrays and all dtypes in one place, as the array API wants them: `x.__array_namespace__()`."""

from __future__ import annotations

from typing import Any

from secagg.mpc.arrays import dispatch
from secagg.mpc.arrays.dtypes import boolean, fixed, int8, int16, int32, int64

__all__ = ["bool", "fixed", "int8", "int16", "int32", "int64"]

bool = boolean  # noqa: A001  # the array API's name


def __getattr__(name: str) -> Any:
    function = dispatch.names().get(name)
    if function is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return function


def __dir__() -> list[str]:
    return sorted([*__all__, *dispatch.names()])
