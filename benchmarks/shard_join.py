"""The join job of `benchmarks.shards`: payments of several banks joined with their customers, and added up by segment.

A payment names its beneficiary, who is a customer of any of the banks. What the first bank is told, of each segment of
customers, is how many payments they got, their sum and the largest. Nothing of a single payment or customer is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.parties import one_thread

one_thread()

import numpy as np  # noqa: E402  # after one_thread
from numpy.typing import NDArray  # noqa: E402

from secagg.jobs.query_in_shards import PlanInShards, texts_of  # noqa: E402
from secagg.jobs.shards import Watch, Work, compute_in_shards  # noqa: E402
from secagg.query.declaration import Declaration  # noqa: E402
from secagg.query.division import divided  # noqa: E402
from secagg.query.joint_run import agree, plan_query  # noqa: E402
from secagg.query.owner import from_mapping, prepare  # noqa: E402
from secagg.query.terms import QueryTerms  # noqa: E402

SEED = 11
MOST = 8  # payments to one customer at one bank
SEGMENTS = ("business", "private", "public")
SQL = """SELECT c.segment, count(*) AS payments, sum(p.amount) AS total, max(p.amount) AS largest
FROM payments p JOIN customers c ON p.beneficiary = c.account GROUP BY c.segment ORDER BY c.segment
"""

Numbers = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def declaration(names: Sequence[str], rows: int) -> str:
    """Return the declaration of the banks' tables, of at most so many rows each."""
    holders = ", ".join(f'"{name}"' for name in names)
    segments = ", ".join(f'"{segment}"' for segment in SEGMENTS)
    return f"""
[tables.payments]
holders = [{holders}]
max_rows = {rows}
[tables.payments.columns]
beneficiary = {{type = "identifier", max_rows = {MOST}}}
amount = {{type = "integer", min = 0, max = 10000}}
[tables.customers]
holders = [{holders}]
max_rows = {rows}
keys = [["account"]]
[tables.customers.columns]
account = "identifier"
segment = {{type = "category", values = [{segments}]}}
"""


def numbers(names: Sequence[str], rows: int, bank: int) -> Numbers:
    """Return a bank's payments (beneficiary, amount) and its customers (account, segment)."""
    share = rows // len(names)
    customers = share // 4
    rng = np.random.default_rng([SEED, bank])
    # Of ten beneficiaries one is no customer of any of the banks.
    known = np.arange(len(names) * customers + len(names) * customers // 9)
    beneficiary = rng.permutation(np.repeat(known, MOST))[: share - customers]
    accounts = np.arange(bank * customers, (bank + 1) * customers)
    return beneficiary, rng.integers(0, 10_001, len(beneficiary)), accounts, accounts % len(SEGMENTS)


def expected(names: Sequence[str], rows: int) -> list[Any]:
    """Return for each bank what it is told, from the tables in the clear."""
    all_banks = [numbers(names, rows, bank) for bank in range(len(names))]
    beneficiary, amount, accounts, segment = (np.concatenate(parts) for parts in zip(*all_banks, strict=True))
    of_account = np.full(int(max(beneficiary.max(), accounts.max())) + 1, -1)
    of_account[accounts] = segment
    found = []
    for i, name in enumerate(SEGMENTS):
        paid = amount[of_account[beneficiary] == i]
        if len(paid):
            found.append((name, len(paid), int(paid.sum()), int(paid.max())))
    return [found, *[None] * (len(names) - 1)]


async def program(party: Any, work: Work, rows: int, watch: Watch) -> Any:
    """Return what this bank is told."""
    names = tuple(work.addresses)
    text = declaration(names, rows)
    terms = QueryTerms(names, names, names[:1], shards=work.shards)
    plan = plan_query(SQL, Declaration.parse(text), terms.receivers)
    beneficiary, amount, accounts, segment = (
        one.tolist() for one in numbers(names, rows, names.index(party.me))
    )
    tables = {
        "payments": {"beneficiary": [f"acct-{n}" for n in beneficiary], "amount": amount},
        "customers": {
            "account": [f"acct-{n}" for n in accounts],
            "segment": [SEGMENTS[n] for n in segment],
        },
    }
    mine = prepare(plan, party.me, from_mapping(tables, party.me), announce_filtered=False)
    announced = await agree(party, plan, terms, mine)
    texts = texts_of(SQL, text, {}, ())
    in_shards = PlanInShards(divided(plan, terms), terms, texts, announced, mine)
    return await compute_in_shards(party, in_shards, work, watch)
