"""What would keep the others from a run with this party: addresses, certificates, releases, jobs and clocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from secagg import release
from secagg.errors import UsageError
from secagg.jobs.job import Address, Job
from secagg.joint.preflight.findings import HERE, Finding
from secagg.network.hello import differences
from secagg.network.identity import Identity
from secagg.network.probe import Seen, probe
from secagg.party import PartyId
from secagg.printable import printable

__all__ = ["look_at_peers"]

# Approvals and certificates are about days; what is further apart than this is a clock that nobody sets.
_APART_S: Final = 30.0


def look_at_peers(
    job: Job,
    me: PartyId,
    identity: Identity,
    *,
    listen: Address,
    agreement: bytes,
    fields: Mapping[str, bytes],
    wait_s: float,
    on_finding: Callable[[Finding], None],
) -> None:
    """Ask all other parties that are up, and tell what was found as soon as each has answered.

    Args:
      listen: where this party listens.
      agreement, fields: what parties compare when they meet, of `gates.agreement`.
      wait_s: how long to wait for those that are not up yet.
    """
    told: set[PartyId] = set()
    own = f"{listen[0]}:{listen[1]}"

    def tell(name: PartyId, seen: Seen) -> None:
        told.add(name)
        for finding in _about(name, seen, me, agreement, fields):
            on_finding(finding)

    try:
        seen = probe(
            me=me,
            identity=identity,
            peers=job.peers(),
            listen=listen,
            agreement=agreement,
            fields=fields,
            wait_s=wait_s,
            on_listening=lambda: on_finding(Finding(HERE, "address", "PASSED", f"{me} can listen at {own}")),
            on_seen=tell,
        )
    except UsageError as error:
        on_finding(Finding(HERE, "address", "FAILED", str(error)))
        return
    for name, one in seen.items():
        if name not in told:
            address = next(member.address for member in job.members if member.name == name)
            on_finding(_unseen(name, one, me, address))


def _unseen(name: PartyId, seen: Seen, me: PartyId, address: Address) -> Finding:
    if seen.refused:
        return Finding(name, "certificate", "FAILED", seen.fault)
    where = f"{address[0]}:{address[1]}"
    if not seen.dials:
        said = (
            f"{name} did not call; start `secagg preflight` there too. If it says that it does not reach {me}, open the "
            f"firewall for it to {me}'s address in the job"
        )
    elif seen.connected:
        said = f"{name} answers at {where}, and did not say what it runs: {seen.fault}; start again"
    else:
        said = (
            f"{name} does not answer at {where} ({seen.fault or 'nothing came in time'}). If it is up, see the address "
            "in the job and both firewalls; else start `secagg preflight` there too"
        )
    return Finding(name, "address", "FAILED", said)


def _about(
    name: PartyId, seen: Seen, me: PartyId, agreement: bytes, fields: Mapping[str, bytes]
) -> Iterator[Finding]:
    way = f"{me} reaches {name}" if seen.dials else f"{name} reaches {me}"
    where = ", which waits or is in a run" if seen.waits else ""
    yield Finding(name, "address", "PASSED", f"{way}{where}")
    yield Finding(name, "certificate", "PASSED", "each takes the other's certificate for the one in the job")
    theirs = printable(seen.release, 40)
    if theirs != release.RELEASE:
        said = (
            f"it runs secagg {theirs}, this party {release.RELEASE}; install the same release at all parties"
        )
        yield Finding(name, "version", "FAILED", said)
        if not seen.agreement:  # what else it said cannot be read
            return
    else:
        yield Finding(name, "version", "PASSED", f"secagg {theirs}")
    if seen.agreement == agreement:
        yield Finding(name, "job", "PASSED", "the same job")
    else:
        said = f"its job differs from this one{differences(seen.fields, fields)}; compare the files"
        yield Finding(name, "job", "FAILED", said)
    yield _clock(name, seen)


def _clock(name: PartyId, seen: Seen) -> Finding:
    if seen.apart_s is None:
        return Finding(name, "clock", "FAILED", "it did not tell its time; start again")
    off, within = abs(seen.apart_s), seen.within_s
    way = "ahead of" if seen.apart_s > 0 else "behind"
    said = f"{off:.1f} s {way} this party's, known to {max(within, 0.1):.1f} s"
    if off - within <= _APART_S:
        return Finding(name, "clock", "PASSED", said)
    return Finding(
        name,
        "clock",
        "FAILED",
        f"{said}; at most {_APART_S:.0f} s are expected: set both machines' clocks by NTP",
    )
