"""What is measured: one subject with its sizes, and the key under which its result is kept."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from secagg.cost.network import LAN, LOOPBACK, MOBILE, WAN, Network
from secagg.errors import UsageError

Kind = Literal["protocol", "operation", "pattern"]

NETWORKS: Final = {network.name.lower(): network for network in (LOOPBACK, LAN, WAN, MOBILE)}
# Patterns whose made-up tables may be of any size, and their table.
SIZED: Final = {"collectors": "transfers", "structuring": "deposits"}
_SHAPED: Final = re.compile(r"(\d+(?:\.\d+)?)ms/(\d+(?:\.\d+)?)mbit")
_RANGES: Final = {
    "parties": (0, 100_000),
    "size": (0, 1 << 30),
    "repeat": (1, 1000),
    "seed": (0, (1 << 63) - 1),
    "frac_bits": (0, 40),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One subject with its sizes.

    Args:
      kind, name: what is measured; `subjects.names` lists them.
      parties: clients of a sum, or input parties of a pattern; 0 for patterns as their example has it. Of operations as many
        as `engine`, which 0 becomes.
      size: numbers a client, elements of an operation, or rows a party; 0 for a pattern as its example has it.
      engine: how many parties compute, 3 or 4; 0 for protocols, which have no engine.
      tcp: in processes over TLS on this machine, and not in the simulator.
      repeat: how many measurements.
      seed: of the made-up inputs. What protects them is drawn from the operating system.
      networks: for which the time is predicted; see `network_named`.
      frac_bits: of a sum's fixed-point numbers; 0 for the usual ones.
    """

    kind: Kind
    name: str
    parties: int = 0
    size: int = 0
    engine: int = 0
    tcp: bool = False
    repeat: int = 5
    seed: int = 1
    networks: tuple[str, ...] = ("loopback", "lan", "wan", "mobile")
    frac_bits: int = 0

    def __post_init__(self) -> None:
        for field, (least, most) in _RANGES.items():
            if not least <= getattr(self, field) <= most:
                shown = field.replace("_", "-")
                raise UsageError(f"expected {shown} from {least} to {most}, got {getattr(self, field)}")
        for text in self.networks:
            network_named(text)
        if self.kind == "operation":
            if self.parties not in (0, self.engine):
                raise UsageError(
                    f"expected as many parties as compute {self.name}, {self.engine}, or 0 for as many, got {self.parties}"
                )
            object.__setattr__(self, "parties", self.engine)  # one case has one key

    @property
    def key(self) -> str:
        """A digest of everything that the case says, in 16 hexadecimal digits."""
        text = json.dumps(self.as_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data; `from_dict` reads it."""
        return asdict(self) | {"networks": list(self.networks)}

    @classmethod
    def from_dict(cls, found: Any) -> Case:
        """Return the case of plain data.

        Raises:
          UsageError: it is none.
        """
        try:
            return cls(**{**found, "networks": tuple(found["networks"])})
        except (TypeError, KeyError) as error:
            raise UsageError(f"expected a case of secagg bench, got other data: {error}") from None

    def __str__(self) -> str:
        words = [self.name]
        words += [f"{self.parties:,} parties"] * (self.parties > 0 and self.kind != "operation")
        words += [f"size {self.size:,}"] * (self.size > 0)
        words += [f"{self.engine} computing"] * (self.engine > 0)
        words += [f"{self.frac_bits} fractional bits"] * (self.frac_bits > 0)
        return ", ".join([*words, "TLS" if self.tcp else "simulator"])


def network_named(text: str) -> Network:
    """Return a network by name, or one such as `20ms/100mbit`: latency one way, bandwidth of each party's line.

    Raises:
      UsageError: it is neither.
    """
    known = NETWORKS.get(text.lower())
    if known is not None:
        return known
    found = _SHAPED.fullmatch(text.lower())
    if found is None or float(found[2]) == 0:
        raise UsageError(
            f"expected a network among {', '.join(NETWORKS)}, or one such as 20ms/100mbit, got {text!r:.80}"
        )
    return Network(text.lower(), float(found[1]) / 1e3, float(found[2]) * 1e6 / 8)


def crossed(
    subjects: Iterable[tuple[Kind, str]],
    *,
    parties: Sequence[int],
    sizes: Sequence[int],
    engines: Sequence[int],
    **rest: Any,
) -> Iterator[Case]:
    """Yield the cases of subjects with all sizes that mean something to them."""
    for kind, name in subjects:
        if kind == "protocol":
            for count in parties or (10,):
                for size in sizes or (1000,):
                    yield Case(kind, name, count, size, **rest)
        elif kind == "operation":
            for engine in engines or (3,):
                for size in sizes or (1000,):
                    yield Case(kind, name, engine, size, engine, **rest)
        else:
            for engine in engines or (3,):
                for count in parties or (0,):
                    for size in sizes or (0,):
                        yield Case(kind, name, count, size, engine, **rest)
