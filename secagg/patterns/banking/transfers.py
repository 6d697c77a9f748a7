"""Transfers beside a bank's own accounts: whose row of a transfer enters, so that none counts twice.

A transfer between two banks stands in both banks' tables. A bank knows which side is its own by its list of accounts. By
default the payer's bank puts a transfer in. Then what banks outside the consortium send is not seen; with `rows_of =
"payee"` what they receive is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np

from secagg.errors import DataError
from secagg.patterns.banking.tables import TRANSFERS
from secagg.patterns.counts import Categorical, factorize
from secagg.patterns.joint_tables import Columns, Number
from secagg.patterns.pattern import Tables
from secagg.query.schema import Identifier, Schema, Time

ACCOUNTS: Final = Schema(account=Identifier())
INPUTS: Final = {"transfers": TRANSFERS, "accounts": ACCOUNTS}
MAX_CENTS: Final = 10**10  # of one transfer, unless the parties agree otherwise

Side = Literal["payer", "payee"]


def shared_columns(max_amount_cents: int) -> dict[str, Columns]:
    """Return what is shared of transfers of at most so much, and of accounts."""
    transfers: Columns = {
        "sender": Identifier(),
        "beneficiary": Identifier(),
        "amount": Number(0, max_amount_cents),
        "time": Time(),
    }
    return {"transfers": transfers, "accounts": {"account": Identifier()}}


def entering(tables: Tables, rows_of: Side = "payer", *, min_amount_cents: int = 0) -> dict[str, Any]:
    """Return the transfers that a bank puts in, by column: those in which the side named is its own account.

    Args:
      min_amount_cents: smaller transfers are left out.

    Raises:
      DataError: a transfer in which neither side is the bank's own account.
    """
    transfers = tables["transfers"]
    own = set(factorize(tables["accounts"]["account"]).categories.tolist())
    columns = {name: factorize(transfers[name]) for name in ("sender", "beneficiary")}
    inside = {name: _member(column, own) for name, column in columns.items()}
    strange = int(np.count_nonzero(~(inside["sender"] | inside["beneficiary"])))
    if strange:
        raise DataError(
            f"{strange} of {len(inside['sender'])} transfers have neither sender nor beneficiary among this bank's "
            "accounts; complete the table accounts, or leave these transfers out"
        )
    kept = inside["sender" if rows_of == "payer" else "beneficiary"]
    kept = kept & (np.asarray(transfers["amount"]) >= min_amount_cents)
    others = {name: values[kept] for name, values in transfers.items() if name not in columns}
    return {**{name: _kept(column, kept) for name, column in columns.items()}, **others}


def own_accounts(tables: Tables) -> dict[str, Categorical]:
    """Return the bank's accounts, each once."""
    categories = factorize(tables["accounts"]["account"]).categories
    return {"account": Categorical(categories, np.arange(len(categories)))}


def distinct_pairs(transfers: Mapping[str, Any]) -> dict[str, Any]:
    """Return each pair of sender and beneficiary once, with its first and its last time.

    One bank has all transfers of a pair, as one bank has the payer's account. So pairs of different banks differ.
    """
    sender, beneficiary = transfers["sender"], transfers["beneficiary"]
    pair = sender.codes * max(1, len(beneficiary.categories)) + beneficiary.codes
    found, index = np.unique(pair, return_inverse=True)
    first, last = np.full(len(found), np.inf), np.full(len(found), -np.inf)
    np.minimum.at(first, index, transfers["time"])
    np.maximum.at(last, index, transfers["time"])
    senders, beneficiaries = np.divmod(found, max(1, len(beneficiary.categories)))
    return {
        "sender": Categorical(sender.categories, senders),
        "beneficiary": Categorical(beneficiary.categories, beneficiaries),
        "first": first,
        "last": last,
    }


def pooled_transfers(
    tables: Mapping[Any, Tables], rows_of: Side = "payer"
) -> list[tuple[str, str, int, float]]:
    """Return everybody's transfers in the clear, each once: sender, beneficiary, amount, and time or 0."""
    found: list[tuple[str, str, int, float]] = []
    for own in tables.values():
        mine, columns = set(own["accounts"]["account"]), own["transfers"]
        rows = zip(
            columns["sender"],
            columns["beneficiary"],
            columns["amount"].tolist(),
            columns["time"].tolist() if "time" in columns else [0.0] * len(columns["amount"]),
            strict=True,
        )
        found += [row for row in rows if row[0 if rows_of == "payer" else 1] in mine]
    return found


def _member(column: Categorical, own: set[str]) -> Any:
    return np.array([name in own for name in column.categories.tolist()], bool)[column.codes]


def _kept(column: Categorical, kept: Any) -> Categorical:
    return Categorical(column.categories, column.codes[kept])
