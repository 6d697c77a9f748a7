"""Made-up tables of several banks, with fraud planted in them.

Nothing here is drawn from anybody's data. The shapes are the usual ones of payment networks: a power law of payments
per beneficiary, log-normal amounts. Whoever reads the truth file knows every fraud.

Planted, so that all banks together see it and none alone does:
  collectors: accounts that `min_senders` or more customers of `min_banks` or more banks pay `min_total` or more in
    all, within ten days. At each bank fewer than `min_senders` of them pay.
  structuring rings: customers who deposit at two or more banks within ten days, at each of them below
    `limit`, together above it.

Honest rows that a good rule must not report, and some that it cannot help reporting:
  shops: many senders, small amounts (the head of the power law);
  one-off payments: large totals from fewer than `min_senders` senders;
  cash businesses: customers who reach `limit` at their one bank alone;
  lookalikes: honest accounts, such as a landlord's, that meet all of the collectors' thresholds, over the
    whole period. They cost precision, as do the few that meet a rule by chance.

Longer than most modules: one generator, read from top to bottom.
"""

# ruff: noqa: S608  SQL is put together here from fixed names, numbers and one quoted path.

from __future__ import annotations

import dataclasses
import datetime
import json
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from secagg.data.conventions import MAX_DECIMALS
from secagg.errors import UsageError

__all__ = ["LIMIT", "MIN_BANKS", "MIN_SENDERS", "MIN_TOTAL", "Truth", "make"]

MIN_SENDERS = 6
MIN_BANKS = 2
MIN_TOTAL = 20_000
LIMIT = 10_000

_DAY_S = 86_400
_BURST_DAYS = 10
_LETTERS = "abcdefghijklmnopqrst"

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Truth:
    """What was planted, and by which parameters.

    Attributes:
      banks: their names; bank_a's tables are bank_a.transfers.csv and bank_a.deposits.csv.
      collectors: beneficiaries planted as collectors.
      lookalikes: honest beneficiaries that meet the collectors' thresholds.
      customers: customers planted as structuring rings.
      window: ISO timestamps [start, end) that hold every row.
      min_senders, min_banks, min_total: thresholds that the collectors meet, total in units.
      limit: what structuring customers stay below at each bank, in units.
      currency_decimals: of the amounts.
      transfers, deposits: rows of all banks together.
      seed: the same parameters and seed give the same files.
    """

    banks: tuple[str, ...]
    collectors: tuple[str, ...]
    lookalikes: tuple[str, ...]
    customers: tuple[str, ...]
    window: tuple[str, str]
    min_senders: int
    min_banks: int
    min_total: int
    limit: int
    currency_decimals: int
    transfers: int
    deposits: int
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Parallel arrays: the bank that holds the row, who pays whom, how much in units, and when since the start."""

    bank: Ints
    receiver: Ints
    sender: Ints
    amount: Floats
    second: Ints


def make(
    out_dir: str | Path,
    *,
    banks: int = 3,
    rows: int = 10_000,
    deposits: int | None = None,
    collectors: int = 20,
    lookalikes: int = 2,
    rings: int = 20,
    start: str = "2025-01-01",
    days: int = 90,
    min_senders: int = MIN_SENDERS,
    min_banks: int = MIN_BANKS,
    min_total: int = MIN_TOTAL,
    limit: int = LIMIT,
    currency_decimals: int = 2,
    seed: int = 1,
) -> Truth:
    """Write made-up tables of transfers and cash deposits for each bank, and truth.json.

    A million rows take a few seconds. Files of the same names in the directory are replaced.

    Args:
      out_dir: a directory, made if it is not there.
      banks: how many banks, from 2 to 20: bank_a, bank_b and so on.
      rows: transfers of all banks together; at least twice those that are planted.
      deposits: cash deposits of all banks together; a quarter of `rows` by default.
      collectors: planted beneficiaries.
      lookalikes: honest beneficiaries that meet the same thresholds.
      rings: planted structuring customers.
      start: first day, ISO; times are UTC.
      days: length of the period.
      min_senders, min_banks, min_total: thresholds that collectors meet together and at no bank alone;
        total in units.
      limit: what structuring customers reach together and at no bank alone, in units.
      currency_decimals: how many decimals amounts have, 0 to 4; with less than two, thresholds are 1000 or more.
      seed: of numpy's PCG64; made-up data needs no secret randomness.

    Raises:
      UsageError: a parameter out of range, or too few rows to hide what is planted.
    """
    _check(
        banks=(banks, 2, len(_LETTERS)), collectors=(collectors, 0, 10**6), lookalikes=(lookalikes, 0, 10**6)
    )
    _check(rings=(rings, 0, 10**6), days=(days, 1, 36_500), min_senders=(min_senders, 2, 1000))
    # Cutting amounts to whole units could move a planted sum over a small threshold.
    least = (1, 10) if currency_decimals >= 2 else (1000, 1000)
    _check(min_banks=(min_banks, 1, banks), min_total=(min_total, least[0], 10**9))
    _check(limit=(limit, least[1], 10**9), currency_decimals=(currency_decimals, 0, MAX_DECIMALS))
    _check(seed=(seed, 0, 2**63 - 1), rows=(rows, 0, 10**7 * 5))
    deposits = rows // 4 if deposits is None else deposits
    _check(deposits=(deposits, 0, 10**7 * 5))
    try:
        first = datetime.datetime.fromisoformat(start)
        first = first.replace(tzinfo=first.tzinfo or datetime.UTC)
        end = first + datetime.timedelta(days=days)
    except (ValueError, OverflowError):
        raise UsageError(f"start is an ISO date such as 2025-01-01; got {start!r}") from None
    rng = np.random.Generator(np.random.PCG64(seed))

    transfers, planted = _transfers(
        rng, banks, rows, collectors, lookalikes, days, min_senders, min_banks, min_total
    )
    cash, customers = _deposits(rng, banks, deposits, rings, days, limit)

    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    truth = Truth(
        banks=tuple(f"bank_{letter}" for letter in _LETTERS[:banks]),
        collectors=_account_names(planted[:collectors], banks),
        lookalikes=_account_names(planted[collectors:], banks),
        customers=tuple(f"CU-{number:08d}" for number in _number(customers).tolist()),
        window=(first.isoformat(), end.isoformat()),
        min_senders=min_senders,
        min_banks=min_banks,
        min_total=min_total,
        limit=limit,
        currency_decimals=currency_decimals,
        transfers=rows,
        deposits=deposits,
        seed=seed,
    )
    _write(folder, truth, transfers, cash, int(first.timestamp()))
    (folder / "truth.json").write_text(json.dumps(dataclasses.asdict(truth), indent=2) + "\n", "utf-8")
    return truth


def _transfers(
    rng: np.random.Generator,
    banks: int,
    rows: int,
    collectors: int,
    lookalikes: int,
    days: int,
    min_senders: int,
    min_banks: int,
    min_total: int,
) -> tuple[_Rows, Ints]:
    """Return the transfers, and the codes of the collectors, then of the lookalikes."""
    planted = _collected(
        rng, banks, collectors + lookalikes, collectors, days, min_senders, min_banks, min_total
    )
    quiet = rows - len(planted.bank)
    if quiet < len(planted.bank):
        raise UsageError(
            f"{len(planted.bank)} of {rows} transfers would be planted; use rows >= {2 * len(planted.bank)}, "
            "or fewer collectors and lookalikes"
        )
    # Payments per beneficiary: P(degree >= d) = d**-1.3.
    degree = _degrees(rng, quiet, exponent=1.3, largest=min(2000, max(10, quiet // 20)))
    beneficiaries = len(degree)
    # Of the honest, the expected total stays at a fifth of min_total however many pay.
    typical = 0.003 * min_total * rng.lognormal(0.0, 0.6, beneficiaries) / (1 + degree / 40)
    one_off = (degree < min_senders) & (rng.random(beneficiaries) < 0.005)
    typical[one_off] *= 300
    receiver = np.repeat(np.arange(beneficiaries), degree)
    amount = typical[receiver] * rng.lognormal(0.0, 1.0, quiet)

    # The planted receivers' codes follow the honest ones'; names do not tell them apart.
    codes = beneficiaries + np.arange(collectors + lookalikes)
    # One account in 2 * banks + 3 is a small bank's; each bank needs as many as one receiver has senders.
    fewest = (2 * banks + 3) * (max(min_senders, min_banks) + 7) + len(codes)
    accounts = max(beneficiaries + len(codes), fewest)
    home = _homes(banks, accounts)
    honest = np.delete(np.arange(accounts), codes)
    own = [honest[home[honest] == bank] for bank in range(banks)]
    customers = rng.permutation(np.concatenate(own))
    choice = rng.integers(0, len(customers), quiet)
    # Nobody pays himself.
    choice = (choice + (customers[choice] == receiver)) % len(customers)
    sender = customers[choice]
    planted_sender = np.empty(len(planted.bank), np.int64)
    for bank in range(banks):
        here = planted.bank == bank
        pool = rng.permutation(own[bank])
        planted_sender[here] = pool[planted.sender[here] % len(pool)]
    return _Rows(
        bank=np.concatenate([home[sender], planted.bank]),
        receiver=np.concatenate([receiver, codes[planted.receiver]]),
        sender=np.concatenate([sender, planted_sender]),
        amount=np.concatenate([amount, planted.amount]),
        second=np.concatenate([rng.integers(0, days * _DAY_S, quiet), planted.second]),
    ), codes


def _collected(
    rng: np.random.Generator,
    banks: int,
    count: int,
    bursts: int,
    days: int,
    min_senders: int,
    min_banks: int,
    min_total: int,
) -> _Rows:
    """Return payments to `count` receivers that meet the thresholds; the first `bursts` of them in a burst.

    Receivers are numbered from 0. Senders are places in a bank's list of customers, distinct for each
    receiver.
    """
    spread = rng.integers(max(2, min_banks), banks + 1, count)
    # Dealt out to the banks in turn, so that none has min_senders of them.
    least = max(min_senders, min_banks)
    senders = rng.integers(least, np.minimum(spread * (min_senders - 1), least + 6) + 1)
    receiver = np.repeat(np.arange(count), senders)
    turn = _places(senders)
    order = np.argsort(rng.random((count, banks)), axis=1)
    bank = order[receiver, turn % spread[receiver]]
    # With weights this even, no bank's part of 1.4 * min_total reaches min_total at the usual thresholds.
    total = min_total * rng.uniform(1.05, 1.4, count)
    part = total[receiver] * _shares(receiver, rng.uniform(0.85, 1.15, len(receiver)))
    sender = rng.integers(0, 2**40, count)[receiver] + turn

    payments = rng.integers(1, 4, len(receiver))
    of = np.repeat(np.arange(len(receiver)), payments)
    amount = part[of] * _shares(of, rng.uniform(0.5, 1.5, len(of)))
    period = np.where(np.arange(count) < bursts, min(_BURST_DAYS, days), days)
    begin = (rng.random(count) * (days - period) * _DAY_S).astype(np.int64)
    second = begin[receiver[of]] + rng.integers(0, period[receiver[of]] * _DAY_S)
    return _Rows(bank[of], receiver[of], sender[of], amount, second)


def _deposits(
    rng: np.random.Generator, banks: int, rows: int, rings: int, days: int, limit: int
) -> tuple[_Rows, Ints]:
    """Return the deposits (receivers are customers, senders nobody), and the codes of planted customers."""
    spread = rng.integers(2, banks + 1, rings)
    ring = np.repeat(np.arange(rings), spread)
    order = np.argsort(rng.random((rings, banks)), axis=1)
    ring_bank = order[ring, _places(spread)]
    part = limit * rng.uniform(0.7, 0.97, len(ring))
    visits = rng.integers(1, 3, len(ring))
    of = np.repeat(np.arange(len(ring)), visits)
    ring_amount = part[of] * _shares(of, rng.uniform(0.8, 1.2, len(of)))
    burst = min(_BURST_DAYS, days)
    begin = (rng.random(rings) * (days - burst) * _DAY_S).astype(np.int64)
    ring_second = begin[ring[of]] + rng.integers(0, burst * _DAY_S, len(of))

    quiet = rows - len(of)
    if quiet < len(of):
        raise UsageError(
            f"{len(of)} of {rows} deposits would be planted; use deposits >= {2 * len(of)}, or fewer rings"
        )
    degree = _degrees(rng, quiet, exponent=1.6, largest=12)
    count = len(degree)
    typical = 0.03 * limit * rng.lognormal(0.0, 0.3, count)
    business = rng.random(count) < 0.01
    typical[business] *= 40
    home, second_bank = rng.integers(0, banks, count), rng.integers(0, banks, count)
    two_banks = (rng.random(count) < 0.05) & ~business
    customer = np.repeat(np.arange(count), degree)
    away = two_banks[customer] & (rng.random(quiet) < 0.5)
    amount = typical[customer] * rng.lognormal(0.0, 0.9, quiet)
    codes = count + np.arange(rings)
    customers = np.concatenate([customer, codes[ring[of]]])
    return _Rows(
        bank=np.concatenate([np.where(away, second_bank[customer], home[customer]), ring_bank[of]]),
        receiver=customers,
        sender=np.zeros_like(customers),
        amount=np.concatenate([amount, ring_amount]),
        second=np.concatenate([rng.integers(0, days * _DAY_S, quiet), ring_second]),
    ), codes


def _degrees(rng: np.random.Generator, total: int, *, exponent: float, largest: int) -> Ints:
    """Return degrees of a power law, capped, that sum to `total`."""
    drawn = np.minimum((1 - rng.random(total)) ** (-1 / exponent), largest).astype(np.int64)
    sums = np.cumsum(drawn)
    count = int(np.searchsorted(sums, total)) + 1 if total else 0
    degrees = drawn[:count].copy()
    if count:
        degrees[-1] -= sums[count - 1] - total
    return degrees


def _places(sizes: Ints) -> Ints:
    """Return 0, 1, ..., size - 1 for each size, one after the other."""
    return np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def _shares(group: Ints, weights: Floats) -> Floats:
    """Return each weight as a share of its group's weights; groups are numbered from 0."""
    return weights / np.bincount(group, weights)[group]


def _homes(banks: int, accounts: int) -> Ints:
    """Return the bank of each account, `banks` standing for elsewhere; bank_a is half as big again."""
    pattern = [0, *range(banks + 1), *range(banks + 1)]
    return np.resize(np.array(pattern, np.int64), accounts)


def _number(codes: Ints) -> Ints:
    """Return numbers of up to eight digits, one for each code and in no visible order.

    Multiplication modulo a prime is one-to-one; codes stay below it.
    """
    return (codes * 61_803_399 + 27_182_818) % 99_999_989


def _account_letters(banks: int) -> str:
    """Return the letter before an account's number, by home bank; X is elsewhere."""
    return _LETTERS[:banks].upper() + "X"


def _account_names(codes: Ints, banks: int) -> tuple[str, ...]:
    letters = _account_letters(banks)
    homes = _homes(banks, int(np.max(codes, initial=-1)) + 1)
    return tuple(
        f"{letters[home]}-{number:08d}"
        for home, number in zip(homes[codes].tolist(), _number(codes).tolist(), strict=True)
    )


def _write(folder: Path, truth: Truth, transfers: _Rows, deposits: _Rows, first_second: int) -> None:
    banks = len(truth.banks)
    letters = _account_letters(banks)
    homes = _homes(banks, int(np.max(transfers.receiver, initial=-1)) + 1)
    scale = 10**truth.currency_decimals
    amount = f"printf('%d.%0{truth.currency_decimals}d', smallest // {scale}, smallest % {scale})"
    if truth.currency_decimals == 0:
        amount = "smallest"
    account = f"printf('%s-%08d', '{letters}'[{{home}} + 1], {{number}})"
    columns = {
        "transfers": f"{account.format(home='home', number='receiver')} AS beneficiary, "
        f"{account.format(home='bank', number='sender')} AS sender",
        "deposits": "printf('CU-%08d', receiver) AS customer",
    }
    with duckdb.connect(":memory:", config={"temp_directory": ""}) as connection:
        for table, rows in (("transfers", transfers), ("deposits", deposits)):
            in_time = np.argsort(rows.second, kind="stable")
            for bank, name in enumerate(truth.banks):
                here = in_time[rows.bank[in_time] == bank]
                receiver = rows.receiver[here]
                connection.register(
                    "made_up",
                    {
                        "bank": rows.bank[here],
                        "home": homes[receiver] if table == "transfers" else receiver,
                        "receiver": _number(receiver),
                        "sender": _number(rows.sender[here]),
                        "smallest": np.maximum(1, scale * rows.amount[here]).astype(np.int64),
                        "second": rows.second[here] + first_second,
                    },
                )
                path = str(folder / f"{name}.{table}.csv").replace("'", "''")
                connection.execute(
                    f"COPY (SELECT {columns[table]}, {amount} AS amount, "
                    "strftime(make_timestamp(second * 1000000), '%Y-%m-%d %H:%M:%S') AS time FROM made_up) "
                    f"TO '{path}' (FORMAT csv, HEADER true)"
                )
                connection.unregister("made_up")


def _check(**ranges: tuple[int, int, int]) -> None:
    for name, (value, least, most) in ranges.items():
        if not least <= value <= most:
            raise UsageError(f"{name} lies from {least} to {most}; got {value}")
