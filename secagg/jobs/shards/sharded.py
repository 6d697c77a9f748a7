"""What is worked on in shards: groups of owners' rows, or a query's plan.

A party's main process has a `Sharded`. A worker is told its kind and what is public, and one shard of what is this
party's own. The module of that kind says what workers do (`Does`). All that is told is plain data (`jobs.plain`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from secagg.errors import UsageError
from secagg.jobs.checkpoints import read_sealed, write_sealed
from secagg.jobs.plain import decode, encode
from secagg.party import Party, PartyId

Plain = Mapping[str, Any]

# Steps. The first is done at any place; a later one is done at the place that did the first, and finds what it kept.
COMPUTE: Final = "compute"
OPEN: Final = "open"

GROUPS: Final = "groups"
QUERY: Final = "query"
# A worker starts for each step of each shard, and needs none of what another kind needs.
_MODULES: Final = {GROUPS: "secagg.jobs.shards.groups", QUERY: "secagg.jobs.shards.plans"}


@dataclass(frozen=True, slots=True)
class Sharded:
    """What is worked on in shards, as one party has it.

    Args:
      kind: `GROUPS` or `QUERY`.
      shards: how many.
      public: what every worker knows of it, the same at all parties; workers compare it when they meet.
      own: returns what this party puts into a shard, None where it puts in nothing. It goes to its own worker of that
        shard, and to nobody else.
    """

    kind: str
    shards: int
    public: Plain
    own: Callable[[int], Plain | None] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a step keeps of a shard for the next one: a file, encrypted under a key that came with the task.

    Args:
      header: whose shard of which run and attempt it is.
    """

    path: Path
    key: bytes = field(repr=False)
    header: bytes

    @classmethod
    def of(cls, folder: Path, key: bytes, run: bytes, me: PartyId, name: str) -> Kept:
        """Return where an attempt of a shard is kept."""
        return cls(folder / f"{name}.shard", key, msgspec.msgpack.encode([run, me, name]))

    def write(self, content: Plain) -> None:
        """Keep this.

        Raises:
          UnwritableError: the folder does not take it.
        """
        write_sealed(
            self.path, self.key, self.header, encode(content), what="a shard", then="it may be done again"
        )

    def read(self) -> Any:
        """Return what was kept; errors as `checkpoints.read_sealed`."""
        return decode(read_sealed(self.path, self.key, self.header))


class Does(Protocol):
    """What workers do: the function `do` of a kind's module."""

    async def __call__(
        self, party: Party, step: str, shard: int, public: Plain, own: Plain | None, kept: Kept
    ) -> Plain:
        """Do a step of a shard with the other parties' workers; return what goes back to this party's main process.

        Args:
          shard: its number.
          public, own: of the `Sharded`, for this shard.
          kept: where a step keeps what a later one needs.
        """


def doing(kind: str) -> Does:
    """Return what workers do with a kind of work.

    Raises:
      UsageError: there is no such kind.
    """
    if kind not in _MODULES:
        raise UsageError(f"expected one of {', '.join(_MODULES)} to work on, got {kind!r:.80}")
    found: Does = import_module(_MODULES[kind]).do
    return found
