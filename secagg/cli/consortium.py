"""`secagg consortium`: who takes part."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from secagg.cli import show as showing
from secagg.cli.show import say, stdout
from secagg.errors import UsageError
from secagg.home import Home

if TYPE_CHECKING:
    from secagg.joint.consortium import Consortium

__all__ = ["HomeOption", "app"]

_ROLES: Final = ("input", "computing", "result")  # as `joint.consortium.organisation.ROLES`

app = typer.Typer(help="Say who takes part: members, certificates, roles and tables.", no_args_is_help=True)

HomeOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="This organisation's folder; $SECAGG_HOME or ~/.secagg by default."),
]
RoleOption = Annotated[
    list[str] | None,
    typer.Option(metavar="ROLE", help=f"Of {', '.join(_ROLES)} (repeat); all by default."),
]
TableOption = Annotated[
    list[str] | None, typer.Option(metavar="TABLE", help="A table that this organisation holds (repeat).")
]
KeyOption = Annotated[Path | None, typer.Option(help="The key of --certificate.")]
CertificateOption = Annotated[
    Path | None,
    typer.Option(help="A certificate that the company's authority issued; one is made otherwise."),
]
AuthorityOption = Annotated[
    Path | None, typer.Option(help="The authority's certificates in PEM form, from the issuer to the root.")
]
_SOON_DAYS: Final = 30


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="The consortium's name, the same at all members.")],
    as_: Annotated[str, typer.Option("--as", metavar="NAME", help="What this organisation is called in it.")],
    address: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the others reach it.")],
    role: RoleOption = None,
    table: TableOption = None,
    key: KeyOption = None,
    certificate: CertificateOption = None,
    authority: AuthorityOption = None,
    home: HomeOption = None,
) -> None:
    """Make this organisation's folder, and a consortium.

    The folder has its key, and the consortium NAME with itself as a member.

    Each organisation does so, sends its member file to the others, and adds theirs.
    """
    from secagg.jobs.job_parties import parse_address
    from secagg.joint.consortium import changes
    from secagg.network.identity import fingerprint

    own = Home.create(home)
    consortium = changes.found(
        own,
        name,
        as_,
        address=parse_address(address),
        roles=_roles(role),
        tables=table or (),
        given=_given(key, certificate),
        authority=authority,
    )
    console = stdout()
    say(console, f"{own.path}  this organisation's folder; nobody else may enter it")
    _published(own.path / f"{as_}.member.toml")
    say(console, f"certificate {fingerprint(consortium.members[as_].certificate)}")


@app.command("add")
def add(
    file: Annotated[Path, typer.Argument(help="Another organisation's member file.")],
    fingerprint_: Annotated[
        str | None,
        typer.Option("--fingerprint", help="Of its certificate, as told by phone; refused if it is another."),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Add a member, or take over what it changed.

    FILE is its member file.
    """
    from secagg.joint.consortium import Consortium, changes, read_member_file

    own = Home.open(home)
    console = stdout()
    for line in changes.add(own, read_member_file(file), told_fingerprint=fingerprint_):
        say(console, line)
    _compare(Consortium.load(own))


@app.command("show")
def show(home: HomeOption = None) -> None:
    """Print members, version and digest.

    All members compare the digest by phone.
    """
    from secagg.joint.consortium import Consortium
    from secagg.network.identity import fingerprint

    consortium = Consortium.load(Home.open(home))
    console = stdout()
    now = datetime.datetime.now(datetime.UTC)
    rows, warnings = [], []
    for name in sorted(consortium.members):
        member = consortium.members[name]
        end = member.certificate.not_valid_after_utc
        me = " (this organisation)" if name == consortium.me else ""
        rows.append(
            (
                f"{name}{me}",
                "{}:{}".format(*member.address),
                ", ".join(member.roles),
                ", ".join(member.tables) or "not said",
                f"{end:%Y-%m-%d}",
            )
        )
        if end < now:
            warnings.append(f"{name}'s certificate has expired")
        elif end < now + datetime.timedelta(days=_SOON_DAYS):
            warnings.append(f"{name}'s certificate expires on {end:%Y-%m-%d}")
        if not member.approvers and "input" in member.roles:
            warnings.append(f"{name} has no approvers: it can put data into no job that needs approvals")
    columns = ("member", "address", "roles", "tables", "certificate until")
    console.print(showing.table(f"Consortium {consortium.name}", columns, rows, numbers_from=5))
    console.print()
    for name in sorted(consortium.members):
        member = consortium.members[name]
        say(console, f"{name}: certificate {fingerprint(member.certificate)}")
        if member.authority:
            say(console, f"{name}: issued by the authority {fingerprint(member.authority[-1])}")
        needed = f"{member.needed.template} for a template, {member.needed.run} for a run"
        say(console, f"{name}: approvers {', '.join(member.approvers) or 'none'}; {needed}")
    for gone in consortium.removed:
        say(console, f"{gone.name}: removed")
    for one in consortium.revoked:
        say(console, f"revoked, once of {one.member}: {one.fingerprint}")
    for text in warnings:
        say(console, f"Warning: {text}")
    _compare(consortium)


@app.command("change")
def change(
    address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where the others reach it.")
    ] = None,
    role: RoleOption = None,
    table: TableOption = None,
    template: Annotated[int | None, typer.Option(help="How many persons approve a template.")] = None,
    run: Annotated[int | None, typer.Option(help="How many persons approve a run within one.")] = None,
    home: HomeOption = None,
) -> None:
    """Change what the others know of this organisation.

    Writes the member file that tells them.
    """
    from secagg.jobs.job_parties import parse_address
    from secagg.joint.consortium import Consortium, changes
    from secagg.joint.consortium.organisation import Needed

    own = Home.open(home)
    consortium = Consortium.load(own)
    before = consortium.members[consortium.me].needed
    needed = Needed(before.template if template is None else template, before.run if run is None else run)
    if needed.template < 1 or needed.run < 0:
        raise UsageError("expected --template of at least 1 and --run of at least 0 persons")
    path = changes.change(
        own,
        address=None if address is None else parse_address(address),
        roles=None if role is None else _roles(role),
        tables=table,
        needed=needed,
    )
    _published(path)
    _compare(Consortium.load(own))


@app.command("rotate")
def rotate(
    key: KeyOption = None,
    certificate: CertificateOption = None,
    authority: AuthorityOption = None,
    lost: Annotated[
        bool,
        typer.Option("--lost", help="The old key is gone or in other hands; it does not sign the new one."),
    ] = False,
    home: HomeOption = None,
) -> None:
    """Replace this organisation's key and certificate.

    Writes the member file that tells the others.
    """
    from secagg.joint.consortium import Consortium, changes
    from secagg.network.identity import fingerprint

    own = Home.open(home)
    path = changes.rotate(own, new=_given(key, certificate), authority=authority, lost=lost)
    consortium = Consortium.load(own)
    _published(path)
    say(stdout(), f"certificate {fingerprint(consortium.members[consortium.me].certificate)}")
    _compare(consortium)


@app.command("remove")
def remove(
    name: Annotated[str, typer.Argument(help="The member.")],
    home: HomeOption = None,
) -> None:
    """Remove a member and revoke its certificate.

    Each other member does the same.
    """
    from secagg.joint.consortium import Consortium, changes

    own = Home.open(home)
    changes.remove(own, name)
    say(stdout(), f"{name} is removed, and its certificate is refused from now on")
    _compare(Consortium.load(own))


def _roles(given: list[str] | None) -> tuple[str, ...]:
    for role in given or ():
        if role not in _ROLES:
            raise UsageError(f"expected --role of {', '.join(_ROLES)}, got {role!r:.40}")
    return tuple(dict.fromkeys(given or _ROLES))


def _given(key: Path | None, certificate: Path | None) -> tuple[Path, Path] | None:
    if (key is None) != (certificate is None):
        raise UsageError("expected --key and --certificate together, or neither")
    return None if key is None or certificate is None else (key, certificate)


def _published(path: Path) -> None:
    say(stdout(), f"{path}  send this to the other members; they run: secagg consortium add FILE")


def _compare(consortium: Consortium) -> None:
    say(
        stdout(),
        f"version {consortium.version}, digest {consortium.shown_digest}; compare both with the other members by phone",
    )
