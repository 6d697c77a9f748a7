"""Organisations of a consortium with their folders and approvers, made quickly."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secagg.home import Home
from secagg.jobs.job import Job
from secagg.jobs.job_file import parse_job
from secagg.joint.approval.approval import TEMPLATE, Kind
from secagg.joint.approval.keys import ApproverKey
from secagg.joint.approval.policy import Policy
from secagg.joint.approval.status import approve
from secagg.joint.consortium import Consortium, Needed, changes, read_member_file
from secagg.network.identity import Identity

PERSONS = ("anna", "bert", "carl")
NAMES = ("north", "south", "west")
# What a job file says of three members, two of which put in data.
THREE = """\
[[parties]]
name = "north"
[[parties]]
name = "south"
[[parties]]
name = "west"
[roles]
input = ["north", "south"]
computing = ["north", "south", "west"]
"""


@dataclass
class Members:
    """A consortium's organisations; each has the approvers anna, bert and carl, with keys of its own."""

    name: str
    homes: dict[str, Home] = field(default_factory=dict)
    keys: dict[str, dict[str, ApproverKey]] = field(default_factory=dict)

    @classmethod
    def made(
        cls, folder: Path, names: Sequence[str], *, name: str = "banks", ports: Sequence[int] = ()
    ) -> Members:
        """Found the consortium in each organisation's folder, below `folder`, and let each add the others."""
        members = cls(name)
        places = ports or range(7401, 7401 + len(names))
        for own, port in zip(names, places, strict=True):
            home = Home.create(folder / own)
            changes.found(home, name, own, address=("127.0.0.1", port))
            keys = {person: ApproverKey(person, Ed25519PrivateKey.generate()) for person in PERSONS}
            members.homes[own], members.keys[own] = home, keys
            members.set_policy(own, Needed())
        for own in names:
            members.tell(own)
        return members

    def copied(self, folder: Path) -> Members:
        """Return the same organisations with copies of their folders below another one."""
        homes = {}
        for own, home in self.homes.items():
            shutil.copytree(home.path, folder / own)
            homes[own] = Home.open(folder / own)
        return Members(self.name, homes, self.keys)

    def set_policy(self, own: str, needed: Needed, persons: Sequence[str] = PERSONS) -> None:
        """Say who approves at an organisation, in its policy and its member file."""
        known = {person: self.keys[own][person].public_key for person in persons}
        Policy(needed, known).save(self.homes[own])
        changes.change(self.homes[own], needed=needed, approvers=known)

    def tell(self, own: str) -> None:
        """Let all others add an organisation's member file."""
        told = read_member_file(self.homes[own].path / f"{own}.member.toml")
        for other, home in self.homes.items():
            if other != own:
                changes.add(home, told)

    def consortium(self, own: str) -> Consortium:
        return Consortium.load(self.homes[own])

    def identity(self, own: str) -> Identity:
        return changes.own_identity(self.homes[own], own)

    def job(self, text: str, own: str = "") -> Job:
        """Return a job as an organisation loads it."""
        known = self.consortium(own or next(iter(self.homes))).directory()
        return parse_job(text, file=Path("job.toml"), known=known)

    def approve(self, job: Job, own: str, *persons: str, kind: Kind = TEMPLATE, times: int = 1) -> list[Path]:
        """Let persons of an organisation approve a job there."""
        return [
            approve(
                job,
                self.consortium(own),
                self.keys[own][person],
                into=self.homes[own].approvals,
                kind=kind,
                times=times,
            )
            for person in persons
        ]
