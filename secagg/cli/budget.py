"""`secagg budget`: what an organisation lets others learn of its data sets, and what of that is spent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from secagg.cli.consortium import HomeOption
from secagg.cli.show import say, stdout, table
from secagg.home import Home

if TYPE_CHECKING:
    from secagg.joint.budget.book import Book, Grant

__all__ = ["app"]

app = typer.Typer(
    help="Set and show privacy budgets and quotas of runs.",
    no_args_is_help=True,
)

_LAST: Final = 20
_ALL: Final = "*"  # as `joint.budget.book.ALL`, and here without what that imports


@app.command("set")
def set_(
    data_set: Annotated[
        str, typer.Argument(metavar="DATA_SET", help=f'A table of jobs; "{_ALL}" for all together.')
    ],
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help=f'A pattern, query for SQL; "{_ALL}" for all.')
    ],
    epsilon: Annotated[
        float | None, typer.Option(help="What all releases with noise may cost together; larger tells more.")
    ] = None,
    delta: Annotated[
        float,
        typer.Option(help="The chance that a release tells more than epsilon says; below 1 in the rows."),
    ] = 0.0,
    unit: Annotated[str, typer.Option(help="Whom the noise hides: a person or a row.")] = "person",
    accounting: Annotated[
        str | None,
        typer.Option(help="How releases add up: basic or concentrated; concentrated where a delta is given."),
    ] = None,
    runs: Annotated[
        int | None, typer.Option(help="How many runs there may be, with noise or without.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Set a budget, a quota of runs, or both, of DATA_SET in PATTERN.

    What is spent stays spent. A run counts for every budget that it matches, and all of these must have room for it.
    """
    from secagg.joint.budget.accounting import Allowance, default_accounting
    from secagg.joint.budget.book import Book, Grant

    allowance = None
    if epsilon is not None:
        rule: Any = accounting or default_accounting(delta)
        allowance = Allowance(epsilon, delta, unit, rule)
    own = Home.open(home)
    with own.transaction() as connection:
        book = Book.read(connection, own)
        book.grant(Grant(data_set, pattern, allowance, runs))
        for line in _grants(book):
            say(stdout(), line)


@app.command("show")
def show(home: HomeOption = None) -> None:
    """Print what is granted, spent and left."""
    from secagg.joint.budget.book import Book

    own, console = Home.open(home), stdout()
    with own.transaction() as connection:
        book = Book.read(connection, own, anywhere=True)
        lines, peers = _grants(book), book.remembered()
    for line in lines or ["no budgets and no quotas: patterns with noise do not run, others run freely"]:
        say(console, line)
    say(console, f"{len(book.runs)} runs; the record has {len(book.entries)} entries")
    for name, token in sorted(peers.items()):
        say(console, f"{name} was last seen with {token.count} entries")
    if book.copied:
        say(console, f"warning: {book.copied}")


@app.command("log")
def log(
    last: Annotated[int, typer.Option(metavar="N", min=1, help="How many entries, the newest last.")] = _LAST,
    home: HomeOption = None,
) -> None:
    """Print what was granted, spent and given back, and when."""
    from secagg.joint.budget.book import Book

    own = Home.open(home)
    with own.transaction() as connection:
        book = Book.read(connection, own, anywhere=True)
    rows = [
        (entry["number"], entry["at"], entry["kind"], _told(entry), head.hex()[:16])
        for entry, head in zip(book.entries, book.heads, strict=True)
    ]
    stdout().print(table("Budgets", ("entry", "when", "what", "about", "head"), rows[-last:], numbers_from=5))


@app.command("accept")
def accept(
    name: Annotated[str, typer.Argument(help="A party whose record went back or was begun anew.")],
    home: HomeOption = None,
) -> None:
    """Accept that NAME's record of budgets is another one from now on.

    Ask NAME first why it is. What NAME spent before is not in a record that was begun anew.
    """
    from secagg.joint.budget.book import Book

    own = Home.open(home)
    with own.transaction() as connection:
        Book.read(connection, own).accept(name)
    say(stdout(), f"{name}'s next record of budgets will be taken as it is")


@app.command("moved")
def moved(home: HomeOption = None) -> None:
    """Let the record go on in a folder that was moved.

    Run it where no other copy of the folder is used any more.
    """
    from secagg.joint.budget.book import Book

    own = Home.open(home)
    with own.transaction() as connection:
        Book.read(connection, own, anywhere=True).move(own)
    say(stdout(), f"the record of budgets goes on in {own.path}")


@app.command("restart")
def restart(
    reason: Annotated[str, typer.Option(help="What happened, for the record.", prompt=True)],
    home: HomeOption = None,
) -> None:
    """Begin the record anew after a backup was put back.

    What the copy does not know may have been spent. So everything that was granted is taken as spent: set new budgets
    afterwards, and ask the other parties to run `secagg budget accept`.
    """
    from secagg.joint.budget.book import Book

    own = Home.open(home)
    with own.transaction() as connection:
        book = Book.read(connection, own, anywhere=True)
        book.restart(reason)
        book.move(own)
        for line in _grants(book):
            say(stdout(), line)
    say(stdout(), "every other party runs `secagg budget accept` with this party's name")


def _grants(book: Book) -> list[str]:
    return [_line(book, grant) for _, grant in sorted(book.grants.items())]


def _line(book: Book, grant: Grant) -> str:
    if grant.closed:
        return f"{grant.about}: taken as spent; set another"
    said = []
    if (allowance := grant.allowance) is not None:
        epsilon, delta = allowance.spent(book.releases(grant))
        said.append(
            f"epsilon {epsilon:.4g} of {allowance.epsilon:g} spent, delta {delta:g} of {allowance.delta:g}, for each "
            f"{allowance.unit} ({allowance.accounting} accounting)"
        )
    if grant.runs is not None:
        said.append(f"{len(book.ran(grant))} of {grant.runs} runs made")
    return f"{grant.about}: {'; '.join(said)}"


def _told(entry: dict[str, Any]) -> str:
    match entry["kind"]:
        case "granted":
            allowance = entry["allowance"]
            epsilon = f" epsilon {allowance['epsilon']:g}" if allowance else ""
            runs = f" {entry['runs']} runs" if entry["runs"] is not None else ""
            return f"{entry['data_set']} {entry['pattern']}{epsilon}{runs}"
        case "spent":
            epsilon = sum(one["epsilon"] for one in entry["releases"])
            cost = f", epsilon {epsilon:g}" if entry["releases"] else ""
            return f"{entry['job']} ({entry['pattern']}) session {entry['session'][:16]}{cost}"
        case "returned" | "resumed":
            return f"session {entry['session'][:16]}"
        case "accepted":
            return str(entry["peer"])
        case "restarted":
            return str(entry["reason"])
        case _:
            return ""
