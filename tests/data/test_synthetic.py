"""The generator plants what it says it plants, and only all banks together see it."""

from __future__ import annotations

import csv
import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from bank_tables import read_deposits, read_transfers
from secagg.data import synthetic
from secagg.data.conventions import Conventions
from secagg.data.dialect import Dialect
from secagg.data.times import parse_time
from secagg.errors import UsageError


@pytest.fixture(params=[{}, {"banks": 2, "seed": 5}, {"banks": 5, "min_banks": 4, "seed": 6}], ids=str)
def made(request, tmp_path):
    return synthetic.make(tmp_path, **request.param), tmp_path


def transfers(folder, truth) -> pd.DataFrame:
    tables = []
    for bank in truth.banks:
        table = read_transfers(folder / f"{bank}.transfers.csv", allow_empty=True)
        rows = {field: table[field].strings for field in ("beneficiary", "sender")} | {
            "cents": table["amount"]
        }
        tables.append(pd.DataFrame({"bank": bank, "time": table["time"], **rows}))
    return pd.concat(tables, ignore_index=True)


def deposits(folder, truth) -> pd.DataFrame:
    tables = []
    for bank in truth.banks:
        table = read_deposits(folder / f"{bank}.deposits.csv", allow_empty=True)
        rows = {"customer": table["customer"].strings, "cents": table["amount"], "time": table["time"]}
        tables.append(pd.DataFrame({"bank": bank, **rows}))
    return pd.concat(tables, ignore_index=True)


def collectors_of(rows: pd.DataFrame, truth, *, min_banks: int) -> set[str]:
    groups = rows.groupby("beneficiary").agg(
        senders=("sender", "nunique"), banks=("bank", "nunique"), cents=("cents", "sum")
    )
    flagged = (
        (groups.senders >= truth.min_senders)
        & (groups.banks >= min_banks)
        & (groups.cents >= 100 * truth.min_total)
    )
    return set(groups.index[flagged])


@pytest.mark.slow
def test_planted_collectors_meet_the_thresholds_together_and_at_no_bank_alone(made):
    truth, folder = made
    rows = transfers(folder, truth)
    planted = {*truth.collectors, *truth.lookalikes}
    assert len(planted) == len(truth.collectors) + len(truth.lookalikes) == 22
    assert planted <= collectors_of(rows, truth, min_banks=truth.min_banks)
    for _, own in rows.groupby("bank"):
        assert not planted & collectors_of(own, truth, min_banks=1)
    of_planted = rows[rows.beneficiary.isin(planted)]
    assert of_planted.groupby(["beneficiary", "bank"]).sender.nunique().max() < truth.min_senders
    assert of_planted.groupby(["beneficiary", "bank"]).cents.sum().max() < 100 * truth.min_total


@pytest.mark.slow
def test_planted_customers_reach_the_limit_together_and_at_no_bank_alone(made):
    truth, folder = made
    rows = deposits(folder, truth)
    at_banks = rows[rows.customer.isin(truth.customers)].groupby(["customer", "bank"]).cents.sum()
    assert len(set(truth.customers)) == 20
    assert at_banks.groupby("customer").size().min() >= 2
    assert at_banks.groupby("customer").sum().min() >= 100 * truth.limit
    assert at_banks.max() < 100 * truth.limit
    assert at_banks.min() >= 60 * truth.limit


@pytest.mark.slow
def test_planted_rows_come_within_ten_days(made):
    truth, folder = made
    spans = [
        transfers(folder, truth).query("beneficiary in @truth.collectors").groupby("beneficiary").time,
        deposits(folder, truth).query("customer in @truth.customers").groupby("customer").time,
    ]
    for times in spans:
        assert (times.max() - times.min()).max() <= 10 * 86_400


@pytest.mark.slow
def test_honest_rows_tempt_each_threshold_by_itself(made):
    truth, folder = made
    rows = transfers(folder, truth)
    planted = {*truth.collectors, *truth.lookalikes}
    honest = rows[~rows.beneficiary.isin(planted)].groupby("beneficiary")
    groups = honest.agg(senders=("sender", "nunique"), cents=("cents", "sum"))
    busy = groups.senders >= truth.min_senders
    rich = groups.cents >= 100 * truth.min_total
    assert busy.sum() >= 50  # shops
    assert rich.sum() >= 3  # one-off payments
    assert (busy & rich).sum() <= 3
    at_banks = deposits(folder, truth).groupby(["customer", "bank"]).cents.sum()
    alone = at_banks[at_banks >= 100 * truth.limit].index.get_level_values("customer")
    assert len(set(alone) - set(truth.customers)) >= 3  # cash businesses


@pytest.mark.slow
def test_payments_per_beneficiary_follow_a_power_law(tmp_path):
    truth = synthetic.make(tmp_path, rows=100_000, seed=3)
    degrees = transfers(tmp_path, truth).groupby("beneficiary").size().to_numpy()
    # P(degree >= d) = d**-1.3; 27,000 beneficiaries put a standard error of 4 per cent on the third.
    for d in (2, 4, 16):
        assert (degrees >= d).mean() == pytest.approx(d**-1.3, rel=0.15)
    assert degrees.max() > 500


@pytest.mark.slow
def test_each_sender_belongs_to_one_bank_and_nobody_pays_himself(made):
    truth, folder = made
    rows = transfers(folder, truth)
    assert rows.groupby("sender").bank.nunique().max() == 1
    assert not (rows.beneficiary == rows.sender).any()
    # Beneficiaries are anybody's, also at no bank of these.
    assert rows[rows.bank == "bank_a"].beneficiary.str[0].nunique() == len(truth.banks) + 1


@pytest.mark.slow
def test_every_row_lies_in_the_window_and_in_time_order(made):
    truth, folder = made
    start, end = (parse_time(bound) for bound in truth.window)
    assert start is not None
    assert end is not None
    assert end - start == 90 * 86_400
    for table in (transfers(folder, truth), deposits(folder, truth)):
        assert table.time.min() >= start
        assert table.time.max() < end
        assert table.cents.min() > 0
        for _, own in table.groupby("bank"):
            assert own.time.is_monotonic_increasing


@pytest.mark.slow
def test_row_counts_are_those_asked_for(tmp_path):
    truth = synthetic.make(tmp_path, rows=3000, deposits=700, collectors=5, lookalikes=0, rings=3)
    assert len(transfers(tmp_path, truth)) == truth.transfers == 3000
    assert len(deposits(tmp_path, truth)) == truth.deposits == 700
    assert (len(truth.collectors), len(truth.lookalikes), len(truth.customers)) == (5, 0, 3)


@pytest.mark.slow
def test_nothing_at_all_can_be_made(tmp_path):
    truth = synthetic.make(tmp_path, rows=0, collectors=0, lookalikes=0, rings=0)
    assert len(transfers(tmp_path, truth)) == len(deposits(tmp_path, truth)) == 0


@pytest.mark.slow
def test_same_seed_same_files_and_another_seed_others(tmp_path):
    for name, seed in (("one", 4), ("two", 4), ("three", 9)):
        synthetic.make(tmp_path / name, rows=2000, collectors=3, rings=3, seed=seed)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(
        ["truth.json", *(f"bank_{b}.{table}.csv" for b in "abc" for table in ("transfers", "deposits"))]
    )
    for name in names:
        first = (tmp_path / "one" / name).read_bytes()
        assert first == (tmp_path / "two" / name).read_bytes()
        assert first != (tmp_path / "three" / name).read_bytes()


def test_truth_file_holds_what_make_returned(made):
    truth, folder = made
    assert json.loads((folder / "truth.json").read_text()) == json.loads(
        json.dumps(dataclasses.asdict(truth))
    )


def test_files_are_plain_csv_with_timestamps(made):
    with (made[1] / "bank_a.transfers.csv").open(newline="") as file:
        header, first, *_ = csv.reader(file)
    assert header == ["beneficiary", "sender", "amount", "time"]
    assert len(first[2].partition(".")[2]) == 2
    assert first[3].startswith("2025-01-01 ")


@pytest.mark.slow
def test_thresholds_can_be_others(tmp_path):
    truth = synthetic.make(tmp_path, rows=8000, min_senders=4, min_banks=3, min_total=500, limit=200, seed=2)
    rows = transfers(tmp_path, truth)
    assert set(truth.collectors) <= collectors_of(rows, truth, min_banks=3)
    for _, own in rows.groupby("bank"):
        assert not set(truth.collectors) & collectors_of(own, truth, min_banks=1)
    at_banks = (
        deposits(tmp_path, truth)
        .query("customer in @truth.customers")
        .groupby(["customer", "bank"])
        .cents.sum()
    )
    assert at_banks.max() < 20_000 <= at_banks.groupby("customer").sum().min()


@pytest.mark.parametrize("banks", [2, 3, 7, 20])
@pytest.mark.parametrize("min_senders", [2, 3, 6, 30])
def test_planting_holds_for_any_number_of_banks_and_senders(banks, min_senders):
    rng = np.random.default_rng(banks * 100 + min_senders)
    min_banks = int(rng.integers(1, banks + 1))
    rows = synthetic._collected(rng, banks, 300, 200, 90, min_senders, min_banks, 20_000)
    table = pd.DataFrame({field.name: getattr(rows, field.name) for field in dataclasses.fields(rows)})
    table["sender"] = table.bank * 2**41 + table.sender
    groups = table.groupby("receiver")
    assert groups.sender.nunique().min() >= min_senders
    assert groups.bank.nunique().min() >= max(2, min_banks)
    assert groups.amount.sum().min() >= 20_000
    assert len(groups) == 300
    if min_senders == 6:  # the usual threshold
        assert table.groupby(["receiver", "bank"]).amount.sum().max() < 20_000
    assert table.groupby(["receiver", "bank"]).sender.nunique().max() < min_senders


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"banks": 1}, "banks lies from 2 to 20"),
        ({"banks": 21}, "banks lies from 2 to 20"),
        ({"rows": 50}, "transfers would be planted; use rows >="),
        ({"deposits": 5}, "deposits would be planted; use deposits >="),
        ({"min_banks": 4}, "min_banks lies from 1 to 3"),
        ({"start": "yesterday"}, "start is an ISO date"),
        ({"start": "9999-12-01"}, "start is an ISO date"),
        ({"seed": -1}, "seed"),
        ({"collectors": -1}, "collectors"),
    ],
)
def test_parameters_out_of_range_are_refused_before_anything_is_written(tmp_path, arguments, message):
    with pytest.raises(UsageError, match=message):
        synthetic.make(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("decimals", [0, 3])
def test_amounts_have_the_currencys_decimals(tmp_path, decimals):
    truth = synthetic.make(tmp_path, rows=3000, rings=5, collectors=5, currency_decimals=decimals)
    conventions = Conventions(currency_decimals=decimals)
    cents: dict[str, int] = {}
    for bank in truth.banks:
        path = tmp_path / f"{bank}.transfers.csv"
        texts = [line.split(",")[2] for line in path.read_text().splitlines()[1:]]
        assert {len(text.partition(".")[2]) for text in texts} == {decimals}
        table = read_transfers(path, conventions=conventions, dialect=Dialect(decimal="."))
        for name, amount in zip(table["beneficiary"], table["amount"].tolist(), strict=True):
            cents[name] = cents.get(name, 0) + amount
    assert all(cents[name] >= truth.min_total * 10**decimals for name in truth.collectors)
    with pytest.raises(UsageError, match="limit lies from 1000"):
        synthetic.make(tmp_path, currency_decimals=0, limit=999)
