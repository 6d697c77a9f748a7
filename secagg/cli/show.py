"""What the command line shows: tables, sizes, times, and what a job is.

Everything passes through a console of this module, which escapes what a terminal would obey. Texts that must stay
on one line are made `printable` before, line ends included.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from secagg.cost.network import Network
from secagg.cost.operation import Cost
from secagg.jobs.computed import query_of
from secagg.jobs.job import Job
from secagg.ledger import START_PHASE
from secagg.network.identity import fingerprint
from secagg.patterns.pattern import Disclosure
from secagg.printable import printable, printable_lines

# A computing party's own work, with three of them on one two-core machine.
_COMPUTE_S_PER_BYTE: Final = 8e-9
_COMPUTE_S_PER_ROUND: Final = 0.5e-3
_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


class PrintableConsole(Console):
    """A console that shows escapes in place of characters that a terminal would obey; its own codes pass."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable_lines(segment.text), segment.style)


def stdout() -> Console:
    """Return a console for results."""
    return PrintableConsole(highlight=False, emoji=False)  # ":CD:" in a fingerprint is no emoji


def stderr() -> Console:
    """Return a console for everything else."""
    return PrintableConsole(stderr=True, highlight=False, emoji=False)


def say(console: Console, text: str) -> None:
    """Print a text to the letter on one line, which a terminal may wrap."""
    console.print(printable(text), markup=False, soft_wrap=True)


def complain(error: Exception) -> None:
    """Print an error below its notes; it has made itself printable, and may be several lines."""
    for note in getattr(error, "__notes__", ()):
        say(stderr(), f"secagg: {note}")
    stderr().print(f"secagg: {printable_lines(str(error))}", markup=False, soft_wrap=True)


def size(count: float) -> str:
    """Return a number of bytes for people, in powers of 1000."""
    power = 0
    while count >= 999.5 and power < len(_UNITS) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.0f} {_UNITS[power]}" if power == 0 or count >= 99.95 else f"{count:.3g} {_UNITS[power]}"


def seconds(count: float) -> str:
    """Return a time for people."""
    if count < 1:
        return f"{1000 * count:.3g} ms"
    return f"{count:.1f} s" if count < 120 else f"{count / 60:.0f} min"


def duration(count: float) -> str:
    """Return a whole number of seconds, minutes, or hours and minutes."""
    if count < 120:
        return f"{count:.0f} s"
    minutes = round(count / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, numbers_from: int = 1
) -> RenderableType:
    """Return a table under a title; columns from `numbers_from` on are aligned to the right.

    Cells are shown to the letter.
    """
    made = Table(box=None, pad_edge=False, header_style="dim")
    for i, column in enumerate(columns):
        made.add_column(column, justify="right" if i >= numbers_from else "left", overflow="fold")
    for row in rows:
        made.add_row(*(escape(printable(str(cell))) for cell in row))
    return Group(Text(title, style="bold"), made)


def opened_table(disclosures: Sequence[Disclosure], everybody: Sequence[str]) -> RenderableType:
    """Return the table of what is opened to whom."""
    rows = []
    for d in disclosures:
        whom = "everybody" if set(d.to) == set(everybody) else ", ".join(d.to)
        if d.each_its_own:
            whom = f"each of {', '.join(d.to)}"
        rows.append((whom, d.what))
    return table("Opened, and to whom", ("to", "what"), rows, numbers_from=2)


def phase_table(ledger: Mapping[str, Any], *, title: str) -> RenderableType:
    """Return what a run cost one party by phase, from its run record."""
    costs = {**ledger["phases"], "total": ledger["total"]}
    rows = [
        (
            name,
            cost["rounds"],
            cost["sent"]["messages"],
            size(cost["sent"]["frame_bytes"]),
            f"{cost['compute_s']:.2f}",
            f"{cost['wait_s']:.2f}",
        )
        for name, cost in costs.items()
        if name != START_PHASE
    ]
    return table(title, ("phase", "rounds", "messages", "sent", "computing s", "waiting s"), rows)


def explain(
    job: Job, counts: Mapping[str, int], networks: Sequence[Network], *, assumed: bool
) -> Iterator[RenderableType]:
    """Yield what there is to say about a job before it runs.

    Args:
      counts: how many rows the input parties announce.
      networks: for which the time is given.
      assumed: the counts are a guess of ours.
    """
    yield escape(printable(f"{job.name}: {job.pattern.name}, {job.pattern.summary}"))
    if job.installed.origin.module_sha256:
        yield escape(
            printable(
                f"The pattern is that of {job.installed.origin}. What it opens is what its authors say; read its program."
            )
        )
    if (query := query_of(job.pattern)) is not None:
        yield escape(printable_lines(query.sql.rstrip()))
    yield _members_table(job)
    window = [(f"window {name}", at) for name, at in job.window.shown(job.data.zone).items()]
    conventions = job.data.shown(job.identifiers)
    coarser = [(f"generalise {place}", step) for place, step in job.shown_recipe().items()]
    divided = [("shards", str(job.shards))] if job.shards > 1 else []
    agreed = [*job.shown_parameters().items(), *window, *conventions.items(), *coarser, *divided]
    yield table("Agreed", ("parameter", "value"), agreed)
    if query is not None and job.shards > 1:
        for text in query.divided(job.parameters, job.terms, counts):
            yield escape(printable(f"Divided into {job.shards} shards: {text}."))
    yield opened_table(job.disclosures(), job.roster)
    for one in job.spends():
        whose = f"for each {one.unit} in {', '.join(one.tables)}"
        spent = f"epsilon {one.epsilon:g}, delta {one.delta:g}" + (
            f", rho {one.rho:.3g}" if one.rho is not None else ""
        )
        yield escape(
            printable(f"Each run spends {spent} {whose}, from the privacy budget of each owner of rows.")
        )
    yield escape(printable(job.trust()))
    if found := job.warnings():
        yield escape("\n".join(f"Warning: {printable(text)}" for text in found))
    expected = job.cost(counts)
    cost = [(name, counts.get(name, ""), size(sent)) for name, sent in expected.payload_bytes.items()]
    note = "; the rows are assumed, give yours with --rows" if assumed else ""
    yield table(f"Expected cost: {expected.rounds} rounds{note}", ("party", "rows", "sends"), cost)
    times = [
        (n.name, seconds(n.latency_s), f"{size(n.bytes_per_s)}/s", seconds(expected_seconds(expected, n)))
        for n in networks
    ]
    yield table("Expected time", ("network", "latency", "bandwidth", "run"), times)
    for risk in job.risks(counts):
        yield escape(printable(f"The probability that {risk.what} is at most {probability(risk.log2)}."))


def expected_seconds(cost: Cost, network: Network) -> float:
    """Return about how long a run takes on a network, without connecting and reading data."""
    most = max(cost.payload_bytes.values(), default=0)
    return cost.seconds(network) + cost.rounds * _COMPUTE_S_PER_ROUND + most * _COMPUTE_S_PER_BYTE


def probability(log2: float | None) -> str:
    """Return a probability of which the logarithm is known; None for one that is zero."""
    return f"2^{log2:.0f}" if log2 is not None and math.isfinite(log2) else "0"


def _members_table(job: Job) -> RenderableType:
    recipients = job.pattern.recipients(job.terms)
    rows = []
    for member in job.members:
        roles = [role for role, names in job.roles.items() if member.name in names]
        roles += ["result"] * (member.name in recipients)
        known = fingerprint(member.certificate) if member.certificate is not None else "none that can be used"
        address = "{}:{}".format(*member.address) if member.address[0] else "not given"
        rows.append((member.name, ", ".join(roles), address, known))
    return table("Parties", ("name", "role", "address", "certificate"), rows, numbers_from=4)
