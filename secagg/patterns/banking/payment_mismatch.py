"""Payment mismatch: payments that the payer's and the payee's bank have booked with different amounts.

Each bank puts in the payments that it sent and those that it received, under the reference that both banks have. Both rows
of a payment enter, as comparing them is the question. Rows of one reference on one side are added up first.

Learns: a bank, of each of its own payments, whether the other side's amount differs and, only if so, that amount. A payment
that the other side has not booked is told only with `report_missing`, since the other bank may not take part; its amount
there is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta

from secagg.errors import RangeError
from secagg.mpc import stack, where
from secagg.party import PartyId
from secagg.patterns.banking import examples
from secagg.patterns.counts import factorize, group_sum
from secagg.patterns.groups import Groups
from secagg.patterns.joint_tables import Columns, JointTable, Number
from secagg.patterns.pattern import Tables
from secagg.patterns.program import Findings, ProgramPattern
from secagg.query.schema import Category, Identifier, Money, Schema

_SIDE: Final = Category(("received", "sent"))
_PAYMENTS: Final = Schema(reference=Identifier(), amount=Money())


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether payments that one side alone has are told, and the largest amount under one reference."""

    report_missing: bool = False
    max_amount_cents: Annotated[int, Meta(ge=1)] = 10**12


class PaymentMismatch(ProgramPattern):
    """Payments that two banks have booked differently; see the module."""

    name = "payment_mismatch"
    summary = "payments that the payer's and the payee's bank have booked with different amounts."
    inputs = {"sent": _PAYMENTS, "received": _PAYMENTS}  # noqa: RUF012  # nobody changes it
    results = Schema(reference=Identifier(), side=_SIDE, amount=Money(), other_amount=Money())
    Parameters = Limits
    example = staticmethod(examples.payment_mismatch)
    about = "payments"
    tells = (
        "for each payment that it put in: whether the other side's amount differs and, only if so, that amount; a payment "
        "that the other side has not booked counts as different with report_missing alone"
    )
    summed = ("payments.amount",)

    def shared(self, parameters: Limits) -> dict[str, Columns]:
        """Return both sides' payments in one table."""
        return {
            "payments": {
                "reference": Identifier(),
                "side": _SIDE,
                "amount": Number(0, parameters.max_amount_cents),
            }
        }

    def local(self, parameters: Limits, tables: Tables) -> dict[str, Mapping[str, Any]]:
        """Return each reference once for each side, with its amount."""
        names: list[str] = []
        amounts, sides = [], []
        for side in ("sent", "received"):
            groups = factorize(tables[side]["reference"])
            names += groups.categories.tolist()
            amounts.append(group_sum(groups, tables[side]["amount"]))
            sides.append(np.full(len(groups.categories), _SIDE.values.index(side)))
        amount = np.concatenate(amounts)
        over = int(np.count_nonzero(amount > np.uint64(parameters.max_amount_cents)))
        if over:
            raise RangeError(
                f"{over} of {len(amount)} references have amounts that add up to more than max_amount_cents, which is "
                f"{parameters.max_amount_cents}; agree on a larger one with the other parties"
            )
        reference = np.array([*names, None], object)[:-1]
        return {
            "payments": {
                "reference": reference,
                "side": np.concatenate(sides),
                "amount": amount.astype(np.int64),
            }
        }

    def program(self, parameters: Limits, tables: Mapping[str, JointTable]) -> Findings:
        """Compare what was sent with what was received under each reference."""
        rows = tables["payments"]
        is_sent = rows["side"] == _SIDE.values.index("sent")
        received, sent = rows.valid & ~is_sent, rows.valid & is_sent
        columns = [sent.astype(int), received.astype(int), rows["amount"] * sent, rows["amount"] * received]
        known = Groups([rows["reference"]]).sum_each(stack(columns, axis=1))
        differ = known[:, 2] != known[:, 3]
        both = (known[:, 0] > 0) & (known[:, 1] > 0)
        shown = differ if parameters.report_missing else differ & both
        return Findings({"other_amount": where(is_sent, known[:, 3], known[:, 2])}, shown=shown)

    def pooled(
        self, parameters: Limits, tables: Mapping[PartyId, Tables]
    ) -> dict[tuple[str, str, int], tuple[int]]:
        """Compare both sides in the clear."""
        booked: dict[str, dict[str, list[int]]] = {"sent": {}, "received": {}}
        for own in tables.values():
            for side, known in booked.items():
                for which, cents in zip(own[side]["reference"], own[side]["amount"].tolist(), strict=True):
                    known.setdefault(which, []).append(cents)
        found = {}
        for own in tables.values():
            for side, other in (("sent", "received"), ("received", "sent")):
                for which in set(own[side]["reference"]):
                    there = booked[other].get(which)
                    mine, theirs = sum(booked[side][which]), sum(there or [])
                    if mine != theirs and (there is not None or parameters.report_missing):
                        at_hand = zip(own[side]["reference"], own[side]["amount"].tolist(), strict=True)
                        found[which, side, sum(cents for name, cents in at_hand if name == which)] = (theirs,)
        return found


PAYMENT_MISMATCH: Final = PaymentMismatch()
