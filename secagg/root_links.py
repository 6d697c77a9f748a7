"""`import he` at the root of a checkout is `import secagg.he`, and so for `mpc` and `protocols`.

The links at the root are there to be read. Where Python's path begins at the root, it finds packages behind them, and
would make a second copy of each module: classes of the same name, of which one is not an instance of the other.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def alias(link: str) -> None:
    """Let a link's name, and every name below it, stand for the modules of `secagg`."""
    sys.modules[link] = importlib.import_module(f"secagg.{link}")
    sys.meta_path.insert(0, _Alias(link))


class _Alias(Loader, MetaPathFinder):
    def __init__(self, link: str) -> None:
        self._below = f"{link}."

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        return ModuleSpec(name, self) if name.startswith(self._below) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(f"secagg.{spec.name}")
        spec.loader_state = module.__spec__  # importing puts the alias's in its place
        return module

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        module.__spec__ = spec.loader_state if spec is not None else None
