"""What an operation of the three-party engine costs, as a number that is declared before it runs.

Every operation has a function beside it that returns its `OperationCost`; the tests hold each against the
ledger of a run, rounds and bytes of each party exactly.
"""

from __future__ import annotations

from typing import NamedTuple


class OperationCost(NamedTuple):
    """Rounds, and the payload bytes that the computing parties P_0, P_1 and P_2 send.

    Attributes:
      rounds: causal depth, from when all three are ready to when the last has its result.
      sent: array bytes sent by each; frames add some 100 bytes a message.
    """

    rounds: int
    sent: tuple[int, int, int]

    def then(self, *following: OperationCost) -> OperationCost:
        """Return the cost of this operation and the following ones, one after the other."""
        steps = (self, *following)
        a, b, c = (sum(step.sent[i] for step in steps) for i in range(3))
        return OperationCost(sum(step.rounds for step in steps), (a, b, c))

    def beside(self, *others: OperationCost) -> OperationCost:
        """Return the cost of this operation and the others, run side by side."""
        return OperationCost(max(step.rounds for step in (self, *others)), self.then(*others).sent)


FREE = OperationCost(0, (0, 0, 0))
