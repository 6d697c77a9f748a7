"""What is said of a query before it runs is what its run does."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest

from owner_rules import DECLARATION, ORGANISATIONS, all_rules, payment
from secagg import simulate
from secagg.cli import main
from secagg.query.declaration import Declaration
from secagg.query.explain import explain
from secagg.query.joint_run import agree, plan_query, take_part
from secagg.query.owner import from_mapping, prepare
from secagg.query.terms import QueryTerms

PAGE = Path(__file__).parent.parent.parent / "docs/sql.md"
BY_KIND = "SELECT kind, SUM(amount) AS s FROM payments GROUP BY kind"


def held_by(organisation):
    rows = [payment(organisation, number) for number in range(2)]
    columns = {name: [row[name] for row in rows] for name in ("id", "customer", "day", "secret")}
    columns |= {name: [Decimal(row[name]).scaleb(-2) for row in rows] for name in ("amount", "fee")}
    return {"payments": columns | {"city": ["a", "b"], "kind": ["x", "x"]}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "rules", "receivers"),
    [
        (BY_KIND, all_rules(), ("lab",)),
        ("SELECT id, amount FROM payments", None, ("north", "lab")),
        (BY_KIND, None, ("north",)),
    ],
)
@pytest.mark.parametrize("others", [(), ("fourth",)])
def test_rounds_and_bytes_are_those_of_the_ledger_where_nothing_is_sorted(query, rules, receivers, others):
    plan = plan_query(query, DECLARATION, receivers, rules)
    computing = (*ORGANISATIONS, *others)
    terms = QueryTerms(tuple(dict.fromkeys([*computing, *receivers])), computing, receivers)
    held = {one: held_by(one) for one in ORGANISATIONS}
    found = explain(plan, terms, dict.fromkeys(ORGANISATIONS, 2))
    assert not found.has_sorts

    async def program(party):
        mine = None
        if party.me in held:
            source = from_mapping(held[party.me], party.me)
            mine = prepare(plan, party.me, source, announce_filtered=False)
        return await take_part(party, plan, terms, await agree(party, plan, terms, mine), mine)

    outcome = simulate(dict.fromkeys(terms.parties, program))
    outcome.values()
    ledgers = outcome.ledgers
    sent = {name: sum(t.payload_bytes for t in ledgers[name].sent_to.values()) for name in terms.parties}
    assert found.cost.payload_bytes == sent
    assert found.cost.rounds == max(ledger.depth for ledger in ledgers.values())


def test_that_numbers_are_checked_against_ranges_is_said_where_it_is_opened():
    said = "whether each owner's numbers are in those ranges that the plan gives them"

    def opened(text: str) -> list[str]:
        plan = plan_query(text, Declaration.parse(TABLES), ("north",))
        terms = QueryTerms(("north", "south", "third"), ("north", "south", "third"), ("north",))
        return [what for _, what in explain(plan, terms, {"north": 3, "south": 3}).opened]

    assert said in opened("SELECT sum(amount) AS s FROM payments")
    assert said not in opened("SELECT DISTINCT who FROM payments")


TABLES = """
[tables.payments]
holders = ["north", "south"]
max_rows = 1000
[tables.payments.columns]
city = {type = "category", values = ["Bonn", "Ulm"]}
who = "identifier"
amount = {type = "money", max = 10000}
"""
RULES = """
[tables.payments]
smallest_group = 10
[tables.payments.columns]
city = {uses = ["group", "compare"]}
amount = {uses = ["aggregate", "compare"]}
"""


def _explained(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(["explain", "query.sql", "--tables", "tables.toml", *arguments])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return end.value.code, printed.out, printed.err


@pytest.fixture
def _files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "tables.toml").write_text(TABLES)
    for owner in ("north", "south"):
        (tmp_path / f"{owner}.toml").write_text(f'owner = "{owner}"\n{RULES}')


@pytest.mark.usefixtures("_files")
@pytest.mark.slow
def test_the_command_prints_what_the_page_shows(capsys):
    lines = PAGE.read_text("utf-8").split("$ secagg explain")[1].split("```")[0].splitlines()
    Path("query.sql").write_text("".join(re.findall("prints of `([^`]*)`", PAGE.read_text("utf-8"))))
    status, out, _ = _explained(capsys, *lines[0].split()[3:])
    assert status == 0
    for line in lines[1:]:
        assert line in out.splitlines()


@pytest.mark.usefixtures("_files")
def test_the_command_shows_no_escape_sequence_of_a_query(capsys):
    Path("query.sql").write_text("SELECT count(*) AS n FROM payments WHERE who LIKE 'Ulm\x1b[31m'")
    status, out, err = _explained(capsys)
    assert (status, err) == (0, "")
    assert "\x1b" not in out
    assert "Ulm\\x1b[31m" in out
    assert "No rules are applied: nothing is suppressed" in out


@pytest.mark.slow
@pytest.mark.usefixtures("_files")
def test_the_command_shows_that_owners_are_told_about_their_own_identifiers(capsys):
    Path("query.sql").write_text("SELECT who, sum(amount) AS s FROM payments GROUP BY who")
    status, out, _ = _explained(capsys, "--reveal", "owners", "--rows", "4")
    assert status == 0
    assert "each of north, south" in out
    assert "those about its own identifiers" in out
    Path("query.sql").write_text("SELECT sum(amount) AS s FROM payments")
    status, _, err = _explained(capsys, "--reveal", "owners")
    assert (status, "needs a column with an identifier" in err) == (2, True)


@pytest.mark.usefixtures("_files")
def test_the_command_says_how_a_query_is_divided_into_shards_or_why_it_is_not(capsys):
    Path("query.sql").write_text("SELECT city, count(DISTINCT who) AS persons FROM payments GROUP BY city")
    status, _, err = _explained(capsys, "--shards", "4")
    assert (status, "how many rows of payments one who has at one owner at most; declare it" in err) == (
        2,
        True,
    )
    Path("tables.toml").write_text(
        TABLES.replace('who = "identifier"', 'who = {type = "identifier", max_rows = 9}')
    )
    status, out, _ = _explained(capsys, "--shards", "4", "--rows", "1000")
    assert status == 0
    assert "Take what each of 4 shards by payments.who has  (at most 8 rows)" in out
    assert "Divided: payments by payments.who, at most 9 rows of each identifier; places in a shard: " in out
    Path("query.sql").write_text("SELECT city, count(*) AS n FROM payments GROUP BY city")
    status, _, err = _explained(capsys, "--shards", "4")
    assert (status, "each owner adds up its own groups of payments by payments.city" in err) == (2, True)


@pytest.mark.usefixtures("_files")
@pytest.mark.parametrize(
    ("query", "arguments", "says"),
    [
        ("SELECT amount FROM payments", ["--rules", "north=north.toml"], "south holds rows of payments"),
        ("SELECT amount FROM payments", ["--rules", "north.toml"], "expected --rules OWNER=FILE"),
        ("SELECT amount FROM payments", ["--rows", "west=3"], "with an owner (north, south)"),
        ("SELECT a FROM payments", [], "line 1, column 8"),
    ],
)
def test_the_command_refuses_what_cannot_be_and_says_why(capsys, query, arguments, says):
    Path("query.sql").write_text(query)
    status, _, err = _explained(capsys, *arguments)
    assert status == 2
    assert says in err
