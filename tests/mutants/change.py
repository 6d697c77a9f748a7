"""A change made by hand: what it would do, where, and which tests notice it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Change(NamedTuple):
    """Text of a module and what stands in its place.

    Args:
      name: what the change does.
      module: path from the root.
      old: text that occurs there once.
      new: what it becomes.
      tests: what has to notice; by default what `targets` names for the module.
    """

    name: str
    module: str
    old: str
    new: str
    tests: tuple[str, ...] = ()

    def apply(self, root: Path) -> str:
        """Return the changed module.

        Raises:
          ValueError: the old text does not occur once.
        """
        source = (root / self.module).read_text("utf-8")
        if source.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.module} holds its old text {source.count(self.old)} times")
        return source.replace(self.old, self.new)
