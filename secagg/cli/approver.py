"""`secagg approver`: persons who approve jobs, and their keys."""

from __future__ import annotations

import base64
import enum
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from secagg.cli.consortium import HomeOption
from secagg.cli.show import say, stdout
from secagg.errors import UsageError
from secagg.files import read_file
from secagg.home import Home

if TYPE_CHECKING:
    from secagg.joint.approval.policy import Policy

__all__ = ["PasswordOption", "app", "password_of"]

app = typer.Typer(help="Say who approves jobs in this organisation.", no_args_is_help=True)


class Unapproved(enum.Enum):
    """What an organisation does with jobs that nobody approves; values as in `joint.approval.policy`."""

    refuse = "refuse"
    allow = "allow"


PasswordOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="A file with the key's password on its first line; asked for otherwise."
    ),
]


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="The person's name, such as anna.")],
    out: Annotated[Path, typer.Option(help="Where to write NAME.approver.")] = Path(),
    password_file: PasswordOption = None,
) -> None:
    """Make a person's key for approvals.

    A password opens its file.

    The person keeps it, on a machine of their own. Nothing is overwritten.
    """
    from secagg.joint.approval.keys import create_key

    path = out / f"{name}.approver"
    key = create_key(path, name, password_of(password_file, again=True))
    say(stdout(), f"{path}  {name} keeps this")
    say(stdout(), f"public key {base64.b64encode(key.public_key).decode()}")
    say(stdout(), "whoever keeps this organisation's folder runs: secagg approver add NAME PUBLIC_KEY")


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="The person's name.")],
    key: Annotated[str, typer.Argument(metavar="PUBLIC_KEY", help="The public key, or the key's file.")],
    home: HomeOption = None,
) -> None:
    """Let a person approve for this organisation.

    Writes the member file that tells the others.
    """
    from secagg.joint.approval.policy import Policy

    own = Home.open(home)
    public_key = _public_key(name, key)
    known = Policy.load(own)
    if not known.approvers:  # who has approvers is asked from now on
        known = replace(known, unapproved=Unapproved.refuse.value)
    policy = known.with_approver(name, public_key)
    if list(policy.approvers.values()).count(public_key) > 1:
        raise UsageError("another approver has this key; each person has a key of their own")
    _take(own, policy)


@app.command("remove")
def remove(name: Annotated[str, typer.Argument(help="The person's name.")], home: HomeOption = None) -> None:
    """Let a person approve no more.

    What the person approved counts no more either.
    """
    from secagg.joint.approval.policy import Policy

    own = Home.open(home)
    _take(own, Policy.load(own).without_approver(name))


@app.command("needed")
def needed(
    template: Annotated[
        int | None, typer.Option(min=1, help="Persons for a job or a template; 2 at first.")
    ] = None,
    run: Annotated[
        int | None, typer.Option(min=0, help="Persons for one run within a template, 0 for none; 1 at first.")
    ] = None,
    unapproved: Annotated[
        Unapproved | None, typer.Option(help='What to do with jobs with approval = "off"; refuse at first.')
    ] = None,
    home: HomeOption = None,
) -> None:
    """Say how many persons approve.

    Writes the member file that tells the others.
    """
    from secagg.joint.approval.policy import Policy
    from secagg.joint.consortium import Needed

    own = Home.open(home)
    policy = Policy.load(own)
    before = policy.needed
    needed = Needed(before.template if template is None else template, before.run if run is None else run)
    unasked = policy.unapproved if unapproved is None else unapproved.value
    _take(own, replace(policy, needed=needed, unapproved=unasked))


def password_of(file: Path | None, *, again: bool = False) -> str:
    """Return a key's password: of a file, or as a person types it."""
    from secagg.joint.approval.keys import SHORTEST_PASSWORD

    if file is not None:
        text = read_file(file, what="the password", max_bytes=4096, private=True)
        return text.decode(errors="replace").split("\n")[0]
    if not os.isatty(0):
        raise UsageError("expected a terminal to ask for the password, or --password-file FILE")
    asked: str = typer.prompt(
        f"Password (at least {SHORTEST_PASSWORD} characters)" if again else "Password",
        hide_input=True,
        confirmation_prompt=again,
        err=True,
    )
    return asked


def _take(home: Home, policy: Policy) -> None:
    # The others learn first: a policy that they do not know yet refuses runs, and one that is not kept here would not.
    from secagg.joint.consortium import changes

    path = changes.change(home, needed=policy.needed, approvers=policy.approvers)
    policy.save(home)
    persons = ", ".join(policy.approvers) or "nobody"
    say(
        stdout(),
        f"approvers: {persons}; {policy.needed.template} for a template, {policy.needed.run} for a run",
    )
    say(stdout(), f"{path}  send this to the other members; they run: secagg consortium add FILE")


def _public_key(name: str, text: str) -> bytes:
    from secagg.joint.approval.keys import read_public_key

    if Path(text).is_file():
        found, key = read_public_key(Path(text))
        if found != name:
            raise UsageError(f"{text} is the key of {found}, and not of {name}")
        return key
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise UsageError(
            "expected a public key as `secagg approver new` prints it, or the key's file; this is no key, and no file has "
            "this name"
        )
    return key
