"""What the command line shows of jobs: who takes part, what is opened, what it costs, and what it did cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from rich.console import RenderableType
from rich.markup import escape

from secagg.cli.show import seconds, size, table
from secagg.cost.network import Network
from secagg.printable import printable, printable_lines

if TYPE_CHECKING:
    from secagg.cost.operation import Cost
    from secagg.jobs.job import Job
    from secagg.patterns.pattern import Disclosure

# A computing party's own work, with three of them on one two-core machine.
_COMPUTE_S_PER_BYTE: Final = 8e-9
_COMPUTE_S_PER_ROUND: Final = 0.5e-3


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
    from secagg.ledger import START_PHASE

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
    from secagg.jobs.computed import query_of

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
    from secagg.network.identity import fingerprint

    recipients = job.pattern.recipients(job.terms)
    rows = []
    for member in job.members:
        roles = [role for role, names in job.roles.items() if member.name in names]
        if member.name in recipients and "result" not in roles:
            roles.append("result")
        known = fingerprint(member.certificate) if member.certificate is not None else "none that can be used"
        address = "{}:{}".format(*member.address) if member.address[0] else "not given"
        rows.append((member.name, ", ".join(roles), address, known))
    return table("Parties", ("name", "role", "address", "certificate"), rows, numbers_from=4)
