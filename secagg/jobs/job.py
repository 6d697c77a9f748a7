"""What several organisations agreed to compute.

`Job.digest` covers everything that they must agree on, and they compare it before anybody reads data. It
leaves out addresses: two parties may reach a third at different ones, and who answers there is settled by
the certificate.

The module is long because every field of a job is agreed on, shown and written by the same class.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final

import msgspec
from cryptography import x509

from secagg import release, wire
from secagg.cost.operation import Cost
from secagg.data.conventions import Conventions
from secagg.data.generalise import Recipe
from secagg.errors import JobError, UsageError
from secagg.jobs.agreement import OFF, REQUESTER, REQUIRED, WINDOW, Agreement, Allowed
from secagg.jobs.computed import query_of
from secagg.jobs.query_values import shown_value
from secagg.network.hello import FIELD_DIGEST_BYTES
from secagg.network.identity import certificate_pem, fingerprint
from secagg.network.tcp import Peer, Timeouts
from secagg.party import PartyId
from secagg.patterns.parameters import parameter_fields, shown_parameters
from secagg.patterns.pattern import (
    COMPUTING,
    INPUT,
    Disclosure,
    Noisy,
    Pattern,
    Risk,
    RoundsUp,
    Spending,
    Terms,
)
from secagg.patterns.registry import Installed
from secagg.printable import printable
from secagg.protocols.row_counts import MAX_ROWS

Address = tuple[str, int]

_LABEL: Final = "secagg job v1"
# Types that JSON and MessagePack know as texts alone.
_TEXTS: Final = (datetime.datetime, datetime.date, datetime.time, datetime.timedelta, Decimal, uuid.UUID)
_OTHER_TYPE: Final = 1  # the code of MessagePack's extension
_TIMEOUTS: Final = ("connect_s", "silence_s", "message_s")


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open stretch of time, as the tables have it; None for no bound.

    Attributes:
      start, end: numbers, or seconds since 1970 UTC.
      timestamps: whether they were given as timestamps.
    """

    start: float | None = None
    end: float | None = None
    timestamps: bool = False

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Return start and end."""
        return self.start, self.end

    def shown(self, zone: datetime.tzinfo = datetime.UTC) -> dict[str, str]:
        """Return the bounds that there are, as a job file writes them; timestamps as clocks of the zone show them."""
        return {
            name: _moment(at, zone).isoformat() if self.timestamps else repr(at)
            for name, at in (("start", self.start), ("end", self.end))
            if at is not None
        }


def _moment(at: float, zone: datetime.tzinfo) -> datetime.datetime:
    try:
        return datetime.datetime.fromtimestamp(at, zone)
    except (OverflowError, ValueError):  # on the first and the last day that there are
        return datetime.datetime.fromtimestamp(at, datetime.UTC)


@dataclass(frozen=True, slots=True)
class Member:
    """A party of a job; its certificate is None where the job was loaded without certificates."""

    name: PartyId
    address: Address
    certificate: x509.Certificate | None
    workers: tuple[Address, ...] = ()  # where its workers on shards are, by place


@dataclass(frozen=True, slots=True)
class Job:
    """What several organisations agreed to compute.

    Attributes:
      installed: the pattern, and which distribution it comes from.
      parameters: the pattern's struct, amounts in the currency's smallest unit.
      window: which rows count.
      members: all parties, in roster order.
      roles: who has which of the pattern's roles.
      pad_rows_to: row counts are announced as the next multiple of this.
      max_rows: the largest row count that one input party may announce.
      data: how every party's table is read.
      approval: "required", or "off" for a job that runs without anybody's approval.
      agreement: what its approvals are about; a job without can be looked at, and not approved.
      vary: what each run may choose, by parameter; "window" for the window.
      generalise: how columns are made coarser before anything is shared.
      shards: into how many shards the work is divided; see `secagg.jobs.shards`.
    """

    name: str
    installed: Installed
    parameters: Any
    window: Window
    members: tuple[Member, ...]
    roles: Mapping[str, tuple[PartyId, ...]]
    pad_rows_to: int
    timeouts: Timeouts
    data: Conventions = field(default_factory=Conventions)
    max_rows: int = MAX_ROWS
    approval: str = REQUIRED
    agreement: Agreement | None = None
    vary: Mapping[str, Allowed] = field(default_factory=dict)
    generalise: Recipe = field(default_factory=dict)
    shards: int = 1
    # A rehearsal may take seconds, and one job is asked for the cost of the same rows several times.
    _costs: dict[tuple[tuple[PartyId, int], ...], Cost] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def identifiers(self) -> tuple[str, ...]:
        """Return the fields of the parties' tables that are identifiers."""
        found = [name for schema in self.pattern.inputs.values() for name in schema.identifiers]
        return tuple(dict.fromkeys(found))

    @property
    def pattern(self) -> Pattern:
        """Return what is computed."""
        return self.installed.pattern

    def pattern_at(self, me: PartyId | None) -> Pattern:
        """Return what is computed as an input party has it: of a query, about its own tables alone.

        Raises:
          UsageError: a query, and nobody or somebody who holds no table of it.
        """
        query = query_of(self.pattern)
        return self.pattern if query is None else query.at(me or "")

    @property
    def terms(self) -> Terms:
        """Return what the pattern is told besides its parameters."""
        return Terms(
            self.roster,
            self.roles,
            self.pad_rows_to,
            self.max_rows,
            self.data.currency_decimals,
            self.shards,
        )

    @property
    def row_step(self) -> int:
        """Return what row counts are announced in multiples of: `pad_rows_to`, or more where small numbers are hidden."""
        if isinstance(self.pattern, RoundsUp):
            return self.pattern.row_step(self.parameters, self.terms)
        return self.pad_rows_to

    def announced(self, rows: int) -> int:
        """Return the row count that an input party with so many rows announces."""
        if isinstance(self.pattern, RoundsUp):
            return self.pattern.announced(self.parameters, self.terms, rows)
        return self.terms.padded(rows)

    @property
    def input_parties(self) -> tuple[PartyId, ...]:
        """Return who puts in data."""
        return self.roles[INPUT]

    @property
    def computing_parties(self) -> tuple[PartyId, ...]:
        """Return who computes, if that is a role of its own."""
        return self.roles.get(COMPUTING, ())

    @property
    def roster(self) -> tuple[PartyId, ...]:
        """Return the names of all parties."""
        return tuple(member.name for member in self.members)

    def check_takes_part(self, name: PartyId) -> None:
        """Raise `UsageError` where nobody of this name is among the parties."""
        if name not in self.roster:
            raise UsageError(
                f"{printable(name, 80)} takes no part in {self.name}; its parties are {', '.join(self.roster)}"
            )

    def peers(self) -> list[Peer]:
        """Return all parties as the network takes them.

        Raises:
          JobError: the job was loaded without certificates.
        """
        return [Peer(m.name, *m.address, _certificate(m)) for m in self.members]

    @property
    def agreed_fields(self) -> dict[str, Any]:
        """Return everything that the parties must agree on, by what a job file calls it.

        Raises:
          JobError: the job was loaded without certificates.
        """
        return self._fields | {f"{m.name}'s certificate": fingerprint(_certificate(m)) for m in self.members}

    @property
    def _fields(self) -> dict[str, Any]:
        """Return everything that is agreed but the certificates, which parties replace from time to time."""
        parameters = {
            f"parameters.{name}": getattr(self.parameters, field.name)
            for name, field in parameter_fields(self.pattern.Parameters).items()
        }
        query = query_of(self.pattern)
        return {
            "name": self.name,
            "pattern": self.pattern.name,
            "the pattern's origin": str(self.installed.origin),
            **({} if query is None else query.agreed),
            **parameters,
            "window.start": (self.window.start, self.window.timestamps),
            "window.end": (self.window.end, self.window.timestamps),
            **{f"data.{name}": value for name, value in self.data.agreed(self.identifiers).items()},
            "parties": self.roster,
            **{f"roles.{role}": parties for role, parties in self.roles.items()},
            "pad_rows_to": self.pad_rows_to,
            "max_rows": self.max_rows,
            **{f"timeouts.{f}": float(getattr(self.timeouts, f)) for f in _TIMEOUTS},
            **({} if self.shards == 1 else {"shards": [self.shards, len(self.members[0].workers)]}),
            "approval": self.approval,
            **(self.agreement.agreed() if self.agreement is not None else {}),
            **{f"vary.{name}": allowed.agreed() for name, allowed in self.vary.items()},
            **{f"generalise.{place}": step for place, step in self.shown_recipe().items()},
        }

    @property
    def content(self) -> bytes:
        """Return a digest of what people approve of this run, 32 bytes: all that is agreed but the certificates."""
        return _digest(["content", self._fields])

    @property
    def template(self) -> bytes:
        """Return a digest of what people approve once, 32 bytes: `content` without what each run may choose."""
        chosen = {f"parameters.{name}" for name in self.vary}
        if self.vary:
            chosen.add(REQUESTER)
        if WINDOW in self.vary:
            chosen |= {"window.start", "window.end"}
        return _digest(
            ["template", {name: value for name, value in self._fields.items() if name not in chosen}]
        )

    @property
    def digest(self) -> bytes:
        """Return 32 bytes that are equal exactly where the parties agree; see the module for what counts.

        Raises:
          JobError: the job was loaded without certificates.
        """
        return _digest({"release": release.RELEASE, "wire": wire.VERSION, "agreed": self.agreed_fields})

    @property
    def field_digests(self) -> dict[str, bytes]:
        """Return a digest of each agreed field, so that parties whose jobs differ can tell in what.

        A short value can be guessed from its digest. That is no leak: the parties of a job know each other's
        certificates, and what is compared is what all of them should hold anyway.
        """
        return {
            name: _digest([name, value])[:FIELD_DIGEST_BYTES] for name, value in self.agreed_fields.items()
        }

    def disclosures(self) -> list[Disclosure]:
        """Return everything that the pattern declares to open, and to whom."""
        return list(self.pattern.opens(self.parameters, self.terms))

    def trust(self) -> str:
        """Return who is trusted with what, and what those who are not could learn."""
        return self.pattern.trust(self.parameters, self.terms)

    def warnings(self) -> list[str]:
        """Return a sentence for each term that protects nobody, or fewer than it seems."""
        off = ['approval = "off": whoever starts the job at a party needs nobody\'s approval.']
        return off * (self.approval == OFF) + list(self.pattern.warnings(self.parameters, self.terms))

    def spends(self) -> list[Spending]:
        """Return what one run costs the owners' privacy budgets; nothing of a pattern that adds no noise.

        Raises:
          JobError: of tables that the pattern does not have.
        """
        if not isinstance(self.pattern, Noisy):
            return []
        found = list(self.pattern.spends(self.parameters, self.terms))
        strange = {table for one in found for table in one.tables} - set(self.pattern.inputs)
        if strange:
            raise JobError(
                f"the pattern {self.pattern.name} declares to spend on {', '.join(sorted(strange))}, and takes "
                f"{', '.join(self.pattern.inputs)}"
            )
        return found

    def cost(self, rows: Mapping[PartyId, int]) -> Cost:
        """Return what a run costs in which the input parties announce these row counts.

        Raises:
          PlanError: more rows than the job allows.
        """
        key = tuple(sorted(rows.items()))
        if key not in self._costs:
            self._costs[key] = self.pattern.cost(self.parameters, self.terms, rows)
        return self._costs[key]

    def risks(self, rows: Mapping[PartyId, int]) -> list[Risk]:
        """Return what may go wrong by chance in such a run; errors as in `cost`."""
        return list(self.pattern.risks(self.parameters, self.terms, rows))

    def shown_parameters(self) -> dict[str, str]:
        """Return the parameters as a job file writes them, those of a query's own text among them."""
        shown = shown_parameters(self.parameters, decimals=self.data.currency_decimals)
        query = query_of(self.pattern)
        values = {} if query is None else query.values
        return shown | {name: shown_value(value) for name, value in values.items()}

    def shown_recipe(self) -> dict[str, str]:
        """Return how each column is made coarser, by TABLE.COLUMN, as a job file writes it."""
        return {
            f"{table}.{column}": step.shown
            for table, columns in self.generalise.items()
            for column, step in columns.items()
        }

    def moved(
        self,
        addresses: Mapping[PartyId, Address],
        certificates: Mapping[PartyId, x509.Certificate],
        workers: Mapping[PartyId, tuple[Address, ...]] | None = None,
    ) -> Job:
        """Return the same job with every party at another address and with another certificate."""
        members = tuple(
            Member(m.name, addresses[m.name], certificates[m.name], (workers or {}).get(m.name, m.workers))
            for m in self.members
        )
        return replace(self, members=members)

    def to_toml(self) -> str:
        """Return the job as a job file that holds its certificates.

        Raises:
          JobError: the job was loaded without certificates.
        """
        text = json.dumps  # for texts without control characters, JSON's strings are TOML's
        lines = [f"name = {text(self.name)}", f"approval = {text(self.approval)}"]
        lines += [f"pad_rows_to = {self.pad_rows_to}"]
        lines += [f"shards = {self.shards}"] if self.shards > 1 else []
        query = query_of(self.pattern)
        if query is None:
            lines += [f"pattern = {text(self.pattern.name)}", f"max_rows = {self.max_rows}"]
        else:
            lines += [f"sql = {_lines(query.sql)}", f"tables = {_lines(query.declared)}"]
            lines += [f"reveal = {text(query.reveal)}"]
        lines += ["", "[parameters]"]
        lines += [f"{name} = {value}" for name, value in self.shown_parameters().items()]
        lines += ["", "[data]", f"currency_decimals = {self.data.currency_decimals}"]
        lines += [f"largest_amount = {self.data.largest_amount}"]
        lines += [f"time_zone = {text(self.data.time_zone)}"]
        lines += [f"real_identifiers = {text(self.data.real_identifiers, ensure_ascii=False)}"]
        if query is None:  # a declaration says it
            lines += ["", "[data.identifiers]"]
            lines += [f"{name} = {text(self.data.rule(name).name)}" for name in self.identifiers]
        lines += ["", "[window]"]
        lines += [f"{name} = {at}" for name, at in self.window.shown().items()]
        for table, columns in self.generalise.items():
            lines += ["", f"[generalise.{table}]"]
            lines += [f"{column} = {step.shown}" for column, step in columns.items()]
        for member in self.members:
            lines += ["", "[[parties]]", f"name = {text(member.name)}"]
            lines += [f"address = {text(_spelt(member.address))}"]
            lines += [f"workers = {text([_spelt(at) for at in member.workers])}"] if member.workers else []
            lines += [f'certificate = """\n{certificate_pem(_certificate(member)).decode()}"""']
        lines += ["", "[roles]"]
        lines += [f"{role} = {text(parties, indent=1)}" for role, parties in self.roles.items()]
        if query is not None and query.rules:
            lines += ["", "[rules]"]
            lines += [f"{owner} = {_lines(rules)}" for owner, rules in query.rules.items()]
        lines += ["", "[timeouts]"]
        lines += [f"{f} = {float(getattr(self.timeouts, f))!r}" for f in _TIMEOUTS]
        lines += self._agreement_lines()
        return "\n".join(lines) + "\n"

    def _agreement_lines(self) -> list[str]:
        lines = []
        if (agreed := self.agreement) is not None:
            lines += ["", "[agreement]", f"author = {json.dumps(agreed.author)}", f"runs = {agreed.runs}"]
            lines += [f"auditor = {json.dumps(agreed.auditor, ensure_ascii=False)}"]
            lines += [f"requester = {json.dumps(agreed.requester)}"]
            lines += [f"until = {agreed.until.isoformat()}"]
            lines += [] if agreed.start is None else [f"from = {agreed.start.isoformat()}"]
        if self.vary:
            lines += ["", "[vary]"]
            lines += [f"{name} = {self.shown_allowed(name)}" for name in self.vary]
        return lines

    def shown_allowed(self, name: str) -> str:
        """Return what each run may choose of a parameter, as a job file writes it."""
        allowed = self.vary[name]
        if name == WINDOW:
            bounds = Window(allowed.least, allowed.most, timestamps=allowed.timestamps).shown()
            quote = json.dumps if allowed.timestamps else str
            return f"{{earliest = {quote(bounds['start'])}, latest = {quote(bounds['end'])}}}"
        query = query_of(self.pattern)
        if query is not None and name in query.values:
            if allowed.choices:
                return f"[{', '.join(map(shown_value, allowed.choices))}]"
            return f"{{least = {shown_value(allowed.least)}, most = {shown_value(allowed.most)}}}"
        field = parameter_fields(self.pattern.Parameters)[name].name

        def shown(value: Any) -> str:
            parameters = msgspec.structs.replace(self.parameters, **{field: value})
            return shown_parameters(parameters, decimals=self.data.currency_decimals)[name]

        if allowed.choices:
            return f"[{', '.join(map(shown, allowed.choices))}]"
        return f"{{least = {shown(allowed.least)}, most = {shown(allowed.most)}}}"


def _spelt(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _lines(text: str) -> str:
    """Return a text of several lines as TOML's; JSON's escapes are TOML's, but for one character that it does not escape."""
    escaped = [json.dumps(line, ensure_ascii=False)[1:-1] for line in text.split("\n")]
    return '"""\n' + "\n".join(escaped).replace("\x7f", "\\u007f") + '"""'


def _digest(plain: object) -> bytes:
    plain = msgspec.to_builtins(plain, builtin_types=(bytes, *_TEXTS), order="deterministic")
    return hashlib.sha256(_LABEL.encode() + msgspec.msgpack.encode(_told_apart(plain))).digest()


def _told_apart(plain: Any) -> Any:
    """Return plain data whose MessagePack differs wherever they do: a date is no text."""
    if isinstance(plain, dict):
        return {name: _told_apart(value) for name, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [_told_apart(value) for value in plain]
    if isinstance(plain, _TEXTS):
        return msgspec.msgpack.Ext(_OTHER_TYPE, f"{type(plain).__name__} {plain}".encode())
    return plain


def _certificate(member: Member) -> x509.Certificate:
    if member.certificate is None:
        raise JobError(f"the job was loaded without {member.name}'s certificate")
    return member.certificate
