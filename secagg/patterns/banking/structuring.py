"""Structuring: customers who spread cash deposits over banks so that no single bank sees the reporting limit.

Each bank puts in its customers' cash deposits under an identifier that the consortium has in common. A
customer is flagged if the deposits at all banks together reach `limit_cents` while those at no single bank do.

Program, threat model and cost: `secagg.protocols.group_by`.

Learns: a bank, for each of its own depositors, whether the customer is flagged and, if so, the joint number
of deposits and the joint total. Nothing about anybody else's customers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from secagg.party import PartyId
from secagg.patterns.banking.tables import DEPOSITS
from secagg.patterns.counts import Categorical, factorize, group_size, group_sum
from secagg.protocols.group_by import MAX_ROWS, Field, Query, Rows

NAME: Final = "structuring"
TABLE: Final = "deposits"
SCHEMA: Final = DEPOSITS
RESULT_COLUMNS: Final = ("customer", "deposits", "total")


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The reporting limit, and the largest numbers that one bank may put in for one customer (public)."""

    limit_cents: Annotated[int, Meta(ge=1)] = 1_000_000
    most_deposits_per_bank: Annotated[int, Meta(ge=1)] = 100_000
    most_cents_per_bank: Annotated[int, Meta(ge=1)] = 10**14


def query(
    parameters: Parameters,
    input_parties: tuple[PartyId, ...],
    computing_parties: tuple[PartyId, PartyId, PartyId],
    round_rows_to: int = 1,
    max_rows: int = MAX_ROWS,
) -> Query:
    """Return the query on joint groups that finds structuring; raises `PlanError` for an unreachable limit."""
    fields = (
        Field("deposits", parameters.most_deposits_per_bank),
        Field("total", parameters.most_cents_per_bank, at_least=parameters.limit_cents),
        # 1 where the bank's own total reaches the limit: one such bank, and the group is not structuring
        Field("seen alone", 1, below=1, opened=False),
    )
    return Query(input_parties, computing_parties, fields, round_rows_to, max_rows)


def rows(
    parameters: Parameters, customer: NDArray[Any] | Categorical, amount_cents: NDArray[np.int64]
) -> Rows:
    """Return one bank's rows: each customer with deposits, total, and whether this bank sees the limit alone."""
    groups = factorize(customer)
    total = group_sum(groups, amount_cents)
    deposits = group_size(groups)
    alone = (total >= np.uint64(parameters.limit_cents)).astype(np.uint64)
    return Rows(groups.categories, np.stack([deposits, total, alone], axis=1))


def find_plainly(
    parameters: Parameters, banks: Sequence[tuple[NDArray[Any], NDArray[np.int64]]]
) -> dict[str, tuple[int, int]]:
    """Plaintext twin: from everybody's (customer, cents), each flagged customer's deposits and total."""
    per_bank: dict[str, dict[int, list[int]]] = {}
    for bank, (customer, cents) in enumerate(banks):
        for c, amount in zip(customer, cents.tolist(), strict=True):
            per_bank.setdefault(c, {}).setdefault(bank, []).append(amount)
    return {
        c: (sum(map(len, at.values())), sum(map(sum, at.values())))
        for c, at in per_bank.items()
        if sum(map(sum, at.values())) >= parameters.limit_cents
        and all(sum(amounts) < parameters.limit_cents for amounts in at.values())
    }
