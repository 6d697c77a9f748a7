"""`secagg explain`: what a query opens and costs, before anybody reads data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from secagg.cli.job_shown import expected_seconds
from secagg.cli.show import say, seconds, size, stdout, table
from secagg.cost.network import LAN, WAN
from secagg.errors import UsageError

if TYPE_CHECKING:
    from secagg.query.explain import Explanation
    from secagg.query.rules import OwnerRules

__all__ = ["explain"]


class Reveal(StrEnum):
    """To whom the result is opened."""

    RESULT = "result"
    OWNERS = "owners"


_ASSUMED_ROWS: Final = 100_000
_LONGEST_QUERY: Final = 1 << 20  # bytes


def explain(
    query: Annotated[Path, typer.Argument(metavar="QUERY", help="A file with one SQL query.")],
    tables: Annotated[Path, typer.Option(metavar="FILE", help="The declaration of the tables, in TOML.")],
    rules: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OWNER=FILE",
            help="An owner's rule file (repeat, for every owner). Without rules nothing is suppressed.",
        ),
    ] = None,
    to: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Who gets the result (repeat); the first computing party by default."
        ),
    ] = None,
    reveal: Annotated[
        Reveal,
        typer.Option(
            help="Who gets the result: those named by --to, or also each owner the rows about its own identifiers."
        ),
    ] = Reveal.RESULT,
    computing: Annotated[
        int, typer.Option(min=3, max=4, help="How many parties compute: 3, or 4 of which one may lie.")
    ] = 3,
    shards: Annotated[
        int, typer.Option(min=1, help="Into how many shards the work is divided, a power of two.")
    ] = 1,
    rows: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[OWNER=]N",
            help="Rows that an owner has in each of its tables: N for each owner, or OWNER=N for one (repeat); "
            f"{_ASSUMED_ROWS} by default, and never more than max_rows.",
        ),
    ] = None,
) -> None:
    """Explain a query: what it opens, and what it costs.

    Prints the plan, what each owner runs alone, what is opened to whom, which rule allows it, rounds, bytes and times.
    No data is read. A query that cannot be computed, or that rules do not allow, is refused with the reason.
    """
    # With the parser of SQL, which other commands do without.
    from secagg.query.declaration import Declaration
    from secagg.query.explain import explain as explained
    from secagg.query.joint_run import owners_of, plan_query
    from secagg.query.terms import QueryTerms

    declaration = Declaration.load(tables)
    text = _text(query)
    owners = owners_of(text, declaration)
    parties = (*owners, *(f"computing-{i}" for i in range(1, 5)))[:computing]
    to_owners = reveal is Reveal.OWNERS
    receivers = tuple(dict.fromkeys(to or (() if to_owners else parties[:1])))
    own = tuple(name for name in owners if to_owners and name not in receivers)
    terms = QueryTerms(
        tuple(dict.fromkeys([*owners, *parties, *receivers])),
        parties,
        receivers,
        about_own=own,
        shards=shards,
    )
    plan = plan_query(text, declaration, terms.recipients, _rules(rules or []) if rules else None)
    _show(stdout(), explained(plan, terms, _rows(rows or [], owners)), assumed=not rows)


def _show(console: Console, found: Explanation, *, assumed: bool) -> None:
    _section(console, "Plan, computed on shares", found.tree)
    _section(console, "What each owner runs alone", (f"{owner}: {sql}" for owner, sql in found.alone))
    console.print(table("Opened, and to whom", ("to", "what"), found.opened, numbers_from=2))
    console.print()
    if found.grants is None:
        say(console, "No rules are applied: nothing is suppressed, and every use is allowed.")
        console.print()
    else:
        _section(console, "Which rules allow it", found.grants)
    note = "; the rows are assumed, give yours with --rows" if assumed else ""
    rows = [
        (name, " + ".join(map(str, found.counts.get(name, ()))), size(sent), sent)
        for name, sent in found.cost.payload_bytes.items()
    ]
    console.print(table(f"Cost: {found.cost.rounds} rounds{note}", ("party", "rows", "sends", "bytes"), rows))
    if found.has_sorts:
        say(console, "Sorts on shares go on with what they open: what they send is expected, not exact.")
    console.print()
    times = [(n.name, seconds(expected_seconds(found.cost, n))) for n in (LAN, WAN)]
    console.print(table("Expected time", ("network", "run"), times))


def _section(console: Console, title: str, lines: Iterable[str]) -> None:
    console.print(title, style="bold", markup=False)
    for line in lines:
        say(console, line)
    console.print()


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            held = file.read(_LONGEST_QUERY + 1)
        if len(held) > _LONGEST_QUERY:
            raise UsageError(f"expected a query of at most {_LONGEST_QUERY} bytes in {path}")
        return held.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read the query {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"expected UTF-8 text in {path}") from None


def _rules(given: Sequence[str]) -> dict[str, OwnerRules]:
    from secagg.query.rules import load_rules

    found: dict[str, OwnerRules] = {}
    for text in given:
        owner, equals, file = text.partition("=")
        if not (owner and equals and file) or owner in found:
            raise UsageError(f"expected --rules OWNER=FILE, once for each owner, got {text!r}")
        found[owner] = load_rules(file)
    return found


def _rows(given: Sequence[str], owners: Sequence[str]) -> Mapping[str, int]:
    found = dict.fromkeys(owners, _ASSUMED_ROWS)
    for text in given:
        name, equals, number = text.rpartition("=")
        is_number = number.isascii() and number.isdigit() and len(number) <= 10
        if not is_number or (equals and name not in found):
            raise UsageError(
                f"expected --rows N or --rows OWNER=N with an owner ({', '.join(owners)}), got {text!r}"
            )
        found.update(dict.fromkeys([name] if equals else owners, int(number)))
    return found
