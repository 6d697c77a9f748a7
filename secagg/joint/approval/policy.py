"""An organisation's own policy: who approves here, and how many must.

    [needed]
    template = 2                    # persons for a job, or for a template of jobs
    run = 1                         # persons for one run within a template; 0 lets runs within it begin without

    [approvers]
    anna = "bWFkZSB1cC4uLg=="       # public keys, Ed25519, in base64; `secagg approver add` writes them

    unapproved = "refuse"           # before the first [table]: jobs with approval = "off"; or "allow"

Without the file, nobody approves, and jobs with approval = "off" are allowed. The author is never enough alone, whatever the
numbers are.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from secagg.errors import UsageError
from secagg.home import Home
from secagg.joint.consortium.organisation import Needed, approvers, needed
from secagg.toml_files import FieldFault, check_values, convert, parse_toml, read_toml

REFUSE: Final = "refuse"
ALLOW: Final = "allow"


class _PolicyFile(msgspec.Struct, forbid_unknown_fields=True):
    needed: dict[str, int] = {}
    approvers: dict[str, str] = {}
    unapproved: str = REFUSE


@dataclass(frozen=True, slots=True)
class Policy:
    """Who approves in an organisation, by name with public key, and how many must.

    Attributes:
      unapproved: "refuse" or "allow" jobs with approval = "off".
    """

    needed: Needed = field(default_factory=Needed)
    approvers: Mapping[str, bytes] = field(default_factory=dict)
    unapproved: str = REFUSE

    @classmethod
    def load(cls, home: Home) -> Policy:
        """Read a home's policy.

        Raises:
          UsageError: a field is wrong.
        """
        if not home.policy.exists():
            return cls(unapproved=ALLOW)
        text = read_toml(home.policy, what="the policy", kind=UsageError)
        tables = parse_toml(text, file=home.policy, kind=UsageError)
        try:
            check_values(tables)
            fields = convert(tables, _PolicyFile)
            if fields.unapproved not in (REFUSE, ALLOW):
                raise FieldFault(
                    "unapproved", f'expected "{REFUSE}" or "{ALLOW}", got {fields.unapproved!r:.80}'
                )
            persons = approvers(fields.approvers, "approvers")
            return cls(needed(fields.needed, "needed"), persons, fields.unapproved)
        except FieldFault as fault:
            raise fault.error(home.policy, text, UsageError) from None

    def save(self, home: Home) -> None:
        """Write the policy in the place of what was there.

        Raises:
          UsageError: it cannot be written.
        """
        lines = [
            "# Who approves jobs in this organisation, and how many must: `secagg approver`",
            f'unapproved = "{self.unapproved}"  # jobs with approval = "off": refuse, or allow',
            "",
            "[needed]",
            f"template = {self.needed.template}  # persons for a job, or for a template of jobs",
            f"run = {self.needed.run}  # persons for one run within a template",
            "",
            "[approvers]",
            *(
                f'{json.dumps(name)} = "{base64.b64encode(key).decode()}"'
                for name, key in self.approvers.items()
            ),
        ]
        unfinished = home.policy.with_suffix(".new")
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write("\n".join(lines) + "\n")
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(home.policy)
        except OSError as error:
            raise UsageError(f"cannot write {home.policy}: {error.strerror}") from None

    def with_approver(self, name: str, key: bytes) -> Policy:
        """Return the policy with one approver more, or with another key of one."""
        return replace(self, approvers={**self.approvers, name: key})

    def without_approver(self, name: str) -> Policy:
        """Return the policy without an approver.

        Raises:
          UsageError: there is none of this name.
        """
        if name not in self.approvers:
            raise UsageError(f"{name} is no approver here; they are {', '.join(self.approvers) or 'none'}")
        return replace(self, approvers={other: key for other, key in self.approvers.items() if other != name})
