"""Privacy budgets and quotas of runs: what an organisation lets others learn of each of its data sets, and no more.

`accounting` adds up what releases with noise cost. `chain` is the part that a restored backup cannot bring back: every
entry has a number and a hash over all before it, and peers remember the last one that they saw. `book` is the record in
the home folder's database; `gate` spends in it before a run shares anything.
"""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = ["Book", "BudgetGate", "Grant"]

if TYPE_CHECKING:
    from secagg.joint.budget.book import Book, Grant
    from secagg.joint.budget.gate import BudgetGate
else:
    __getattr__, __dir__ = face(
        "secagg.joint.budget",
        {"secagg.joint.budget.book": "Book Grant", "secagg.joint.budget.gate": "BudgetGate"},
    )
