"""Collectors: accounts that many senders at several banks pay into, none of which sees enough alone.

Each bank puts in its own customers' transfers; beneficiaries are anybody's accounts. A beneficiary is flagged
if, over all banks, at least `min_senders` distinct senders at at least `min_banks` banks paid it at least
`min_total` together. Senders are the bank's own customers, so distinct senders add up over banks.

Program, threat model and cost: `secagg.protocols.group_by`.

Learns: a bank, for each beneficiary that its own customers paid, whether it is flagged and, if so, the joint
numbers of senders and the joint total; not which banks the others are. Nothing about other beneficiaries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from secagg.errors import PlanError
from secagg.party import PartyId
from secagg.patterns.banking.tables import TRANSFERS
from secagg.patterns.counts import Categorical, factorize, group_sum, nunique
from secagg.protocols.group_by import MAX_ROWS, Field, Query, Rows

NAME: Final = "collectors"
TABLE: Final = "transfers"
SCHEMA: Final = TRANSFERS
RESULT_COLUMNS: Final = ("beneficiary", "senders", "total")


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Thresholds over all banks, and the largest numbers that one bank may put in for one beneficiary.

    The largest numbers size the shared fields; they are public, and a bank whose rows exceed them is refused
    before anything is sent.
    """

    min_senders: Annotated[int, Meta(ge=1)] = 6
    min_banks: Annotated[int, Meta(ge=1, le=255)] = 2
    min_total_cents: Annotated[int, Meta(ge=0)] = 0
    most_senders_per_bank: Annotated[int, Meta(ge=1)] = 100_000
    most_cents_per_bank: Annotated[int, Meta(ge=1)] = 10**14


def query(
    parameters: Parameters,
    input_parties: tuple[PartyId, ...],
    computing_parties: tuple[PartyId, PartyId, PartyId],
    round_rows_to: int = 1,
    max_rows: int = MAX_ROWS,
) -> Query:
    """Return the query on joint groups that finds collectors; raises `PlanError` for what cannot be reached."""
    banks = len(input_parties)
    if parameters.min_banks > banks:
        raise PlanError(
            f"min_banks = {parameters.min_banks} is out of reach, because {banks} parties put in data; "
            f"lower min_banks to {banks} or less, or name more parties under input"
        )
    fields = (
        Field("senders", parameters.most_senders_per_bank, at_least=parameters.min_senders),
        Field("total", parameters.most_cents_per_bank, at_least=parameters.min_total_cents),
        Field("banks", 1, at_least=parameters.min_banks, opened=False),
    )
    return Query(input_parties, computing_parties, fields, round_rows_to, max_rows)


def rows(
    parameters: Parameters,  # noqa: ARG001  # every pattern's rows take them
    beneficiary: NDArray[Any] | Categorical,
    sender: NDArray[Any] | Categorical,
    amount_cents: NDArray[np.int64],
) -> Rows:
    """Return one bank's rows: each beneficiary with its distinct senders here, its total, and one bank."""
    groups = factorize(beneficiary)
    senders = nunique(groups, factorize(sender))
    total = group_sum(groups, amount_cents)
    return Rows(groups.categories, np.stack([senders, total, np.ones(len(total), np.uint64)], axis=1))


def find_plainly(
    parameters: Parameters, banks: Sequence[tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]]
) -> dict[str, tuple[int, int]]:
    """Plaintext twin: from everybody's (beneficiary, sender, cents), each collector's senders and total."""
    senders: dict[str, set[tuple[int, str]]] = {}
    total: dict[str, int] = {}
    for bank, (beneficiary, sender, cents) in enumerate(banks):
        for b, s, c in zip(beneficiary, sender, cents.tolist(), strict=True):
            senders.setdefault(b, set()).add((bank, s))
            total[b] = total.get(b, 0) + c
    return {
        b: (len(senders[b]), total[b])
        for b in total
        if len(senders[b]) >= parameters.min_senders
        and len({bank for bank, _ in senders[b]}) >= parameters.min_banks
        and total[b] >= parameters.min_total_cents
    }
