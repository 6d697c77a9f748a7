"""Risk propagation: how risky accounts are by whom they get money from, over all banks.

The rule is that of TNO's protocol of this name. In step i, with d = a / i**b, an account's new score is (1 - d) times the
old one plus d times the mean of its payers' old scores, weighted by what each paid it. A payer without a score counts as 0.
An account that received nothing keeps 1 - d of its score.

The payee's bank puts a transfer in. It has all that its account received, so it divides by that itself, and what is shared
of a transfer is the part of the account's income that it makes up.

Learns: a bank, the new score of each of its own accounts. It does not learn scores of accounts that paid them, but for what
the new score tells of a single payer.

Accuracy: scores have 30 fractional bits. A step adds at most (payers of one account + 4) / 2**30.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta

from secagg.mpc import concat
from secagg.party import PartyId
from secagg.patterns.banking import examples
from secagg.patterns.banking.transfers import entering, pooled_transfers
from secagg.patterns.counts import factorize, group_sum
from secagg.patterns.groups import Groups
from secagg.patterns.joint_tables import Columns, JointTable, Number
from secagg.patterns.pattern import Tables
from secagg.patterns.program import Findings, ProgramPattern
from secagg.query.schema import Identifier, Money, Real, Schema

_SCORE: Final = Real(Decimal(0), Decimal(1), 10)
_FRAC_BITS: Final = 30


class Steps(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many steps, and how much of the payers' scores enters in step i: a / i**b."""

    steps: Annotated[int, Meta(ge=1, le=100)] = 2
    a: Annotated[float, Meta(gt=0, le=1)] = 0.5
    b: Annotated[float, Meta(ge=0, le=10)] = 0.0

    def shares(self) -> list[float]:
        """Return d of each step."""
        return [self.a / i**self.b for i in range(1, self.steps + 1)]


class RiskPropagation(ProgramPattern):
    """Scores that money carries on; see the module."""

    name = "risk_propagation"
    summary = "how risky accounts are by whom they get money from, over all banks."
    inputs = {  # noqa: RUF012  # nobody changes it
        "transfers": Schema(sender=Identifier(), beneficiary=Identifier(), amount=Money()),
        "accounts": Schema(account=Identifier(), score=_SCORE),
    }
    results = Schema(account=Identifier(), new_score=_SCORE)
    Parameters = Steps
    example = staticmethod(examples.risk_propagation)
    about = "accounts"
    tells = "for each account that it put in: its new score"
    refusals = (
        "an account stands in the tables accounts of two banks, or twice in one",
        "the parts of what an account received make up more than all of it, which no program of a payee's bank puts in",
    )

    def shared(self, parameters: Steps) -> dict[str, Columns]:  # noqa: ARG002  # as every pattern's
        """Return transfers with their part of the payee's income, and accounts with their scores."""
        part = Number(0, 1, _FRAC_BITS)
        return {
            "transfers": {"sender": Identifier(), "beneficiary": Identifier(), "part": part},
            "accounts": {"account": Identifier(), "score": part},
        }

    def local(self, parameters: Steps, tables: Tables) -> dict[str, Mapping[str, Any]]:  # noqa: ARG002
        """Return what this bank's accounts received, each transfer as a part of the whole, and their scores."""
        received = entering(tables, "payee")
        payee = received["beneficiary"]
        total = group_sum(payee, received["amount"]).astype(np.float64)[payee.codes]
        part = np.divide(received["amount"], total, out=np.zeros(len(total)), where=total > 0)
        score = np.asarray(tables["accounts"]["score"]) / 10.0**_SCORE.decimals
        return {
            "transfers": {"sender": received["sender"], "beneficiary": payee, "part": part},
            "accounts": {"account": factorize(tables["accounts"]["account"]), "score": score},
        }

    def program(self, parameters: Steps, tables: Mapping[str, JointTable]) -> Findings:
        """Hand scores from payers to payees, step by step."""
        transfers, accounts = tables["transfers"], tables["accounts"]
        n, a = transfers.rows, accounts.rows
        groups = Groups([concat([transfers["sender"], transfers["beneficiary"], accounts["account"]])])
        idle = transfers["part"] * 0
        nobody = concat([idle, idle, accounts["score"] * accounts.valid])
        score = groups.sums(groups.sorted(nobody))
        listed = groups.sums(groups.sorted(concat([idle, idle, accounts.valid.astype(nobody.dtype)])))
        none = accounts["score"] * 0
        income = groups.sums(groups.sorted(concat([idle, transfers["part"], none])))
        whole = 1 + n / 2**_FRAC_BITS  # each part is rounded by itself
        for d in parameters.shares():
            payer = groups.unsorted(groups.spread(score))[:n]
            came = groups.sums(groups.sorted(concat([idle, payer * transfers["part"], none])))
            score = score * (1 - d) + came * d
        found = groups.unsorted(groups.spread(score))[2 * n : 2 * n + a]
        wrong = ((listed > 1).any(), (income > whole).any())
        return Findings({"new_score": found}, refused=dict(zip(self.refusals, wrong, strict=True)))

    def pooled(self, parameters: Steps, tables: Mapping[PartyId, Tables]) -> dict[tuple[str], tuple[Decimal]]:
        """Apply the rule in the clear."""
        score: dict[str, float] = {}
        for own in tables.values():
            units = own["accounts"]["score"].tolist()
            score |= dict(
                zip(own["accounts"]["account"], (u / 10**_SCORE.decimals for u in units), strict=True)
            )
        came: dict[str, list[tuple[str, int]]] = {}
        for sender, payee, cents, _ in pooled_transfers(tables, "payee"):
            came.setdefault(payee, []).append((sender, cents))
        for d in parameters.shares():
            new = {}
            for account, old in score.items():
                paid = came.get(account, [])
                total = sum(cents for _, cents in paid)
                mean = sum(score.get(payer, 0.0) * cents for payer, cents in paid) / total if total else 0.0
                new[account] = (1 - d) * old + d * mean
            score = new
        return {(account,): (round(Decimal(value), _SCORE.decimals),) for account, value in score.items()}


RISK_PROPAGATION: Final = RiskPropagation()
