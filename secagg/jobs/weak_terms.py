"""Terms of a job under which an honest run shows somebody's own figures: `secagg check` warns of them.

A threshold protects a customer only where several others stand behind the same sum. The terms below leave so few
that one of them, or one bank, can subtract what it knows and read the rest.
"""

from __future__ import annotations

from typing import Final

from secagg.jobs.job import Job

_FEW: Final = 3  # people behind a sum, of whom each knows its own part


def weak_terms(job: Job) -> list[str]:
    """Return a sentence for each term that protects nobody, or fewer than it seems."""
    return [*_roles(job), *_counts(job), *_amounts(job)]


def _roles(job: Job) -> list[str]:
    if len(job.input_parties) > 2:
        return []
    first, second = job.input_parties
    warning = (
        f"only {first} and {second} put in data: each subtracts its own figures from a joint sum and reads the "
        f"other's. Take three input parties or more, or agree that these two may know each other's figures."
    )
    return [warning]


def _counts(job: Job) -> list[str]:
    found = []
    senders = getattr(job.parameters, "min_senders", None)
    if senders is not None and senders < _FEW:
        who = "one customer pays" if senders == 1 else "two customers pay"
        found.append(
            f"min_senders = {senders}: an account into which {who} is flagged, and its total shows what one customer "
            f"paid. Take {_FEW} or more."
        )
    if getattr(job.parameters, "min_banks", None) == 1:
        found.append(
            "min_banks = 1: an account is flagged by what a single bank has seen. Any other bank that puts in a row for "
            "it then reads that bank's figures. Take 2 or more."
        )
    if getattr(job.parameters, "most_senders_per_bank", None) == 1:
        found.append(
            "most_senders_per_bank = 1: the joint number of senders is the number of banks, which is not opened else."
        )
    return found


def _amounts(job: Job) -> list[str]:
    """Warn of amounts up to one unit of the currency; a total of 0 asks for none and is plain to see."""
    unit = 10**job.data.currency_decimals
    shown = job.shown_parameters()
    found = []
    for name, field in job.pattern.fields().items():
        if name in ("min_total", "limit") and 0 < getattr(job.parameters, field.name) <= unit:
            found.append(
                f"{name} = {shown[name]}: hardly any payment lies below that, so it tells nobody apart. "
                f"Amounts are in units of the currency."
            )
    return found
