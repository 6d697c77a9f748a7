"""What an operation, a protocol or a whole job costs, as numbers that are declared before it runs.

Whatever declares its cost has a function beside it that returns a `Cost`. Tests hold each against the ledger of a run.
The parties of a `Cost` are named as the function names them: by a roster, or by a role such as P_0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from secagg.cost.network import Network
from secagg.errors import UsageError


@dataclass(frozen=True, slots=True)
class Cost:
    """Rounds of an operation, and what each party sends in it.

    Attributes:
      rounds: causal depth, from when all parties are ready to when the last has its result. In the cost of one
        party: the depth of the deepest message that this party reads.
      payload_bytes: bytes of arrays that each party sends; frames and TLS add some 100 bytes a message.
      messages: how many messages each party sends; None where they are not declared.
      expected: whether a run costs about so much, and not just so much: a sort's rounds and bytes are random.
    """

    rounds: int
    payload_bytes: Mapping[str, int]
    messages: Mapping[str, int] | None = None
    expected: bool = False

    def __post_init__(self) -> None:
        counts = [self.rounds, *self.payload_bytes.values(), *(self.messages or {}).values()]
        if min(counts) < 0:
            raise UsageError(f"expected rounds, bytes and messages of at least 0, got {self}")

    @classmethod
    def of(cls, party: str, rounds: int, payload_bytes: int, messages: int | None = None) -> Cost:
        """Return the cost of one party."""
        return cls(rounds, {party: payload_bytes}, None if messages is None else {party: messages})

    def then(self, *following: Cost) -> Cost:
        """Return the cost of this operation and the following ones, one after the other."""
        return _combine(sum, (self, *following))

    def beside(self, *others: Cost) -> Cost:
        """Return the cost of this operation and the others, run side by side."""
        return _combine(max, (self, *others))

    def named(self, parties: Mapping[str, str]) -> Cost:
        """Return the same cost with other names of parties, such as those that have the roles P_0, P_1 and P_2.

        Args:
          parties: the new name of each party. A party that is missing here keeps its name, and the costs of parties
            that get one name are added.
        """

        def rename(counts: Mapping[str, int]) -> dict[str, int]:
            return _added({parties.get(name, name): count} for name, count in counts.items())

        messages = None if self.messages is None else rename(self.messages)
        return Cost(self.rounds, rename(self.payload_bytes), messages, self.expected)

    def seconds(self, network: Network) -> float:
        """Return about how long the messages take on a network, without connecting and without computing.

        The rounds wait for each other, and the party that sends most fills its line. The prediction is too low where
        one party receives more than any party sends: `simulate` knows who sends to whom.
        """
        return (
            self.rounds * network.latency_s
            + max(self.payload_bytes.values(), default=0) / network.bytes_per_s
        )


def _combine(rounds: Callable[[Iterable[int]], int], costs: tuple[Cost, ...]) -> Cost:
    declared = [cost.messages for cost in costs if cost.messages is not None]
    return Cost(
        rounds(cost.rounds for cost in costs),
        _added(cost.payload_bytes for cost in costs),
        _added(declared) if len(declared) == len(costs) else None,
        any(cost.expected for cost in costs),
    )


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in counts:
        for name, count in each.items():
            total[name] = total.get(name, 0) + count
    return total
