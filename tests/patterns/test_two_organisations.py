"""Patterns of two organisations alone: what each is told is what the lists in the clear give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from costs import measured
from program_runs import played, strings
from secagg.cli import main
from secagg.errors import PlanError, RangeError
from secagg.he import paillier
from secagg.jobs.job_file import parse_job
from secagg.patterns.pattern import Terms
from secagg.patterns.registry import find
from secagg.patterns.two_organisations import INTERSECTION_COUNT, INTERSECTION_SUM_TWO, PRIVATE_INTERSECTION
from secagg.protocols.intersection import amounts

NAMES = ("bank", "clinic")
PATTERNS = (PRIVATE_INTERSECTION, INTERSECTION_COUNT, INTERSECTION_SUM_TWO)


@pytest.fixture(scope="module")
def tables():
    """Lists with repeated identifiers, in different orders, some of them not in ASCII."""
    rng = np.random.default_rng(5)
    known = np.array([*(f"P{i}" for i in range(30)), "Zoë", "Ørsted"], object)
    return {
        name: {"records": {"identifier": strings(rng.choice(known[part], 40).tolist()), "amount": rng.integers(0, 1000, 40)}}
        for name, part in zip(NAMES, (slice(0, 24), slice(12, 32)), strict=True)
    }  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _one_key():
    key = paillier.SecretKey.generate(amounts.KEY_BITS, randomizer_bits=amounts.RANDOMIZER_BITS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(amounts, "new_key", lambda _: key)
        yield


def terms(*result, pattern=INTERSECTION_SUM_TWO, **options):
    roles = {"input": NAMES, "result": result, "amounts": NAMES[:1]}
    return Terms(NAMES, {role: roles[role] for role in pattern.roles}, **options)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda p: p.name)
@pytest.mark.parametrize("result", [(), NAMES[:1], NAMES[1:]], ids=["both", "bank", "clinic"])
def test_a_run_tells_what_the_lists_in_the_clear_give_and_costs_what_is_declared(pattern, result, tables):
    agreed, parameters = terms(*result, pattern=pattern, pad_rows_to=16), pattern.Parameters()
    if pattern is INTERSECTION_SUM_TWO:
        parameters = pattern.Parameters(min_identifiers=4)
    outcome = played(pattern, parameters, tables, (), agreed)
    told = dict(zip(NAMES, outcome.values(), strict=True))
    expected = pattern.reference(parameters, agreed, tables)
    assert set(expected) == set(result or NAMES)
    assert {name: rows for name, rows in told.items() if rows is not None} == expected
    assert all(expected.values())
    declared = pattern.cost(parameters, agreed, {"bank": 32, "clinic": 32})
    costs = {name: measured(name, ledger) for name, ledger in outcome.ledgers.items()}
    assert {n: c.payload_bytes[n] for n, c in costs.items()} == declared.payload_bytes
    assert max(c.rounds for c in costs.values()) == declared.rounds


@pytest.mark.slow
def test_oblivious_transfers_tell_the_same_at_the_declared_cost(tables):
    pattern, agreed = PRIVATE_INTERSECTION, terms(pattern=PRIVATE_INTERSECTION, pad_rows_to=16)
    parameters = pattern.Parameters(by="oblivious-transfer")
    outcome = played(pattern, parameters, tables, (), agreed)
    assert dict(zip(NAMES, outcome.values(), strict=True)) == pattern.reference(parameters, agreed, tables)
    declared = pattern.cost(parameters, agreed, {"bank": 32, "clinic": 32})
    costs = {name: measured(name, ledger) for name, ledger in outcome.ledgers.items()}
    assert {n: c.payload_bytes[n] for n, c in costs.items()} == declared.payload_bytes
    assert max(c.rounds for c in costs.values()) == declared.rounds
    (slow,), (fast,) = (
        pattern.risks(one, agreed, dict.fromkeys(NAMES, 10**6)) for one in (pattern.Parameters(), parameters)
    )
    assert slow.log2 < -200
    assert -60 < fast.log2 < -50


def test_no_sum_over_fewer_than_agreed_is_told(tables):
    parameters = INTERSECTION_SUM_TWO.Parameters(min_identifiers=20)
    outcome = played(INTERSECTION_SUM_TWO, parameters, tables, (), terms())
    assert outcome.values() == [[], []]
    assert INTERSECTION_SUM_TWO.reference(parameters, terms(), tables) == {name: [] for name in NAMES}


def test_a_commitment_does_not_depend_on_the_order_of_the_table(tables):
    rows = tables["bank"]["records"]
    turned = {"records": {name: column[::-1] for name, column in rows.items()}}
    one, other = (
        INTERSECTION_SUM_TWO.prepare(INTERSECTION_SUM_TWO.Parameters(), terms(), t)
        for t in (tables["bank"], turned)
    )
    salted = [own.commitment(b"s" * 32, session=bytes(32), owner="bank") for own in (one, other)]
    assert salted[0] == salted[1] != one.commitment(b"t" * 32, session=bytes(32), owner="bank")


def test_lists_that_were_not_agreed_on_are_refused_before_anything_is_sent(tables):
    few = terms(max_rows=5)
    with pytest.raises(
        RangeError, match=r"identifiers, announced as \d+, are more than the agreed max_rows of 5"
    ):
        PRIVATE_INTERSECTION.prepare(PRIVATE_INTERSECTION.Parameters(), few, tables["bank"]).check()
    parameters = INTERSECTION_SUM_TWO.Parameters(max_amount_cents=100)
    with pytest.raises(RangeError, match="amounts that add up to more than max_amount"):
        INTERSECTION_SUM_TWO.prepare(parameters, terms(), tables["bank"]).check()
    with pytest.raises(PlanError, match="bank with 6 rows is above max_rows"):
        PRIVATE_INTERSECTION.cost(PRIVATE_INTERSECTION.Parameters(), few, {"bank": 6, "clinic": 1})


def test_terms_that_cannot_be_computed_are_refused():
    pattern, parameters = INTERSECTION_SUM_TWO, INTERSECTION_SUM_TWO.Parameters()
    third = Terms((*NAMES, "auditor"), {"input": NAMES, "result": ("auditor",), "amounts": NAMES[:1]})
    with pytest.raises(PlanError, match="auditor puts in nothing; take it out of the job"):
        pattern.check(parameters, third)
    stranger = Terms((*NAMES, "auditor"), {"input": NAMES, "result": (), "amounts": ("auditor",)})
    with pytest.raises(PlanError, match="auditor puts in nothing"):
        pattern.check(parameters, stranger)
    with pytest.raises(PlanError, match="max_rows of at least pad_rows_to, which is 100, got 50"):
        pattern.check(parameters, terms(pad_rows_to=100, max_rows=50))


def test_what_a_holder_of_amounts_could_read_off_a_sum_of_its_own_is_warned_of():
    parameters = INTERSECTION_SUM_TWO.Parameters(max_amount_cents=1000, min_identifiers=2)
    few, chosen = INTERSECTION_SUM_TWO.warnings(parameters, terms())
    assert "min_identifiers = 2" in few
    assert "powers of two, the sum shows of up to 10 identifiers" in chosen
    assert INTERSECTION_SUM_TWO.warnings(INTERSECTION_SUM_TWO.Parameters(), terms("clinic")) == []


def test_a_party_that_is_not_told_is_declared_to_learn_what_the_protocol_shows_it():
    opened = INTERSECTION_SUM_TWO.opens(INTERSECTION_SUM_TWO.Parameters(), terms("bank"))
    assert [d.to for d in opened if "however few" in d.what] == [("clinic",)]
    assert [d.to for d in opened if d.what.startswith("whether these are fewer")] == [NAMES]
    told = PRIVATE_INTERSECTION.opens(
        PRIVATE_INTERSECTION.Parameters(), terms("bank", pattern=PRIVATE_INTERSECTION)
    )[-1]
    assert (told.to, told.each_its_own) == (("bank",), True)


JOB = """
name = "overlap"
approval = "off"
pattern = "private_intersection"
[data.identifiers]
identifier = "digits"
[roles]
input = ["bank", "clinic"]
result = ["clinic"]
""" + "".join(
    f'[[parties]]\nname = "{name}"\naddress = "127.0.0.1:{7000 + i}"\ncertificate = "{name}.crt"\n'
    for i, name in enumerate(NAMES)
)


def test_two_parties_are_a_whole_job():
    job = parse_job(JOB, file=Path("job.toml"), with_certificates=False)
    assert job.computing_parties == ()
    assert [find(p.name).pattern for p in PATTERNS] == [*PATTERNS]
    with pytest.raises(Exception, match="computing"):
        parse_job(
            JOB.replace('result = ["clinic"]', 'computing = ["clinic"]'),
            file=Path("j"),
            with_certificates=False,
        )


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_a_job_of_two_runs_as_any_other_with_its_record(tmp_path, capsys):
    (tmp_path / "job.toml").write_text(JOB.replace('"digits"', '"exact"'))
    for name, rows in (("bank", "abc"), ("clinic", "cbx")):
        (tmp_path / f"{name}.csv").write_text("identifier\n" + "\n".join(rows) + "\n")
    data = [f"--data={name}={tmp_path / name}.csv" for name in NAMES]
    with pytest.raises(SystemExit) as end:
        main(["run", str(tmp_path / "job.toml"), "--local", "--out", str(tmp_path / "out"), *data])
    assert end.value.code == 0, capsys.readouterr()
    assert (tmp_path / "out/clinic.overlap.csv").read_text().split() == ["identifier", "b", "c"]
    assert not (tmp_path / "out/bank.overlap.csv").exists()
    assert "Curve25519" in (tmp_path / "out/bank.overlap.json").read_text()
