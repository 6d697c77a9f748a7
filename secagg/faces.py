"""What a package shows of its modules, each of which is imported when one of its names is asked for."""

from __future__ import annotations

import importlib
import sys

TYPE_CHECKING = False  # as a type checker reads it; to import `typing` takes longer than all else here
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


def face(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and the `__dir__` of a package: `dir` shows what its `__all__` names.

    Args:
      package: its name.
      modules: for each module the names that it gives, with spaces between them. Under the package's own name
        stand those of its modules that are shown themselves.
    """
    # A module takes the place of a name that is equal to its own as soon as anybody imports it.
    source = {name: module for module, names in modules.items() for name in names.split()}

    def get(name: str) -> Any:
        module = source.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if module == package:
            return importlib.import_module(f"{package}.{name}")
        return getattr(importlib.import_module(module), name)

    def names() -> list[str]:
        return sorted(sys.modules[package].__all__)

    return get, names
