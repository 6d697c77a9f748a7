"""Terms that protect nobody are warned of, and sensible ones are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from secagg.jobs.job import Job
from secagg.jobs.job_file import parse_job


def job(pattern: str, parameters: str = "", inputs: int = 3) -> Job:
    names = ["north", "south", "west"]
    text = f'name = "j"\npattern = "{pattern}"\n[parameters]\n{parameters}\n'
    text += f"[roles]\ninput = {names[:inputs]}\ncomputing = {names}\n"
    for i, name in enumerate(names):
        text += f'[[parties]]\nname = "{name}"\naddress = "h:{i + 1}"\ncertificate = "c"\n'
    return parse_job(text, file=Path("job.toml"), with_certificates=False)


@pytest.mark.parametrize(
    ("pattern", "parameters"),
    [
        ("collectors", ""),
        ("collectors", "min_senders = 3\nmin_banks = 2\nmin_total = 20000"),
        ("dispersers", ""),
        ("structuring", ""),
        ("structuring", "limit = 10000"),
    ],
)
def test_sensible_terms_are_not_warned_of(pattern: str, parameters: str) -> None:
    assert job(pattern, parameters).warnings() == []


@pytest.mark.parametrize(
    ("pattern", "parameters", "inputs", "says"),
    [
        ("collectors", "min_senders = 1", 3, "min_senders = 1: an account into which one customer pays"),
        ("collectors", "min_senders = 2", 3, "min_senders = 2: an account into which two customers pay"),
        ("collectors", "min_banks = 1", 3, "min_banks = 1: an account is flagged by what a single bank has seen"),
        ("collectors", "min_total = 0.01", 3, "min_total = 0.01: hardly any payment lies below"),
        ("collectors", "max_senders_per_bank = 1\nmin_senders = 3", 3, "max_senders_per_bank = 1: the joint number"),
        ("collectors", "", 2, "only north and south put in data: each subtracts"),
        ("dispersers", "min_receivers = 2", 3, "min_receivers = 2: an account that pays two customers is flagged"),
        ("dispersers", "min_banks = 1", 3, "min_banks = 1: an account is flagged by what a single bank has seen"),
        ("dispersers", "max_receivers_per_bank = 1\nmin_receivers = 3", 3, "max_receivers_per_bank = 1: the joint"),
        ("structuring", "limit = 0.01", 3, "limit = 0.01: hardly any payment"),
        ("structuring", "limit = 1", 3, "limit = 1.00: hardly any payment"),
        ("structuring", "", 2, "only north and south put in data"),
        ("crosstab", "", 2, "only north and south put in data: each takes"),
    ],
)  # fmt: skip
def test_terms_that_protect_nobody_are_warned_of(
    pattern: str, parameters: str, inputs: int, says: str
) -> None:
    (warning,) = job(pattern, parameters, inputs).warnings()
    assert warning.startswith(says)


def test_amounts_are_judged_in_units_of_the_currency() -> None:
    text = "limit = 1\n[data]\ncurrency_decimals = 0"
    assert len(job("structuring", text).warnings()) == 1
    assert job("structuring", text.replace("limit = 1", "limit = 50")).warnings() == []
