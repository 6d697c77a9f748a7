"""`secagg patterns`: what can be computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from secagg.cli.show import complain, say, stdout, table
from secagg.errors import UsageError

if TYPE_CHECKING:
    from secagg.patterns.pattern import RoleSize
    from secagg.patterns.registry import Installed
    from secagg.query.schema import Schema, Type

__all__ = ["patterns"]


def patterns() -> None:
    """List what can be computed, with parameters and defaults."""
    from secagg.patterns.registry import find, names

    console = stdout()
    for name in names():
        try:
            _describe(console, find(name))
        except UsageError as error:  # the others can be listed all the same
            complain(error)
        console.print()


def _describe(console: Console, installed: Installed) -> None:
    from secagg.patterns.parameters import shown_parameters

    pattern = installed.pattern
    say(console, f"{pattern.name}: {pattern.summary}")
    if installed.origin.module_sha256:
        say(console, f"from {installed.origin}")
    for name, schema in pattern.inputs.items():
        say(console, f"each input party puts in {name}: {_columns(schema)}")
        if schema.formats:
            say(console, f"known formats of {name}: {', '.join(known.name for known in schema.formats)}")
    say(console, f"results: {', '.join(pattern.results)}")
    say(console, f"roles: {', '.join(f'{role} ({_count(size)})' for role, size in pattern.roles.items())}")
    defaults = shown_parameters(pattern.Parameters())
    if defaults:
        console.print(table("", ("parameter", "default"), list(defaults.items())))


def _columns(schema: Schema) -> str:
    return ", ".join(f"{field} ({_type(kind)})" for field, kind in schema.items())


def _type(kind: Type) -> str:
    from secagg.query.schema import Category, Integer, Money, Real

    if isinstance(kind, Integer):
        return f"integer, {kind.min} to {kind.max}"
    if isinstance(kind, Category):
        return f"one of {', '.join(kind.values)}"
    if isinstance(kind, Real):
        further = ", further ones are cut" if kind.cut else ""
        return f"number, {kind.min} to {kind.max}, {kind.decimals} decimals{further}"
    return "amount" if isinstance(kind, Money) else type(kind).__name__.lower()


def _count(size: RoleSize) -> str:
    return str(size.min) if size.min == size.max else f"{size.min} to {size.max}"
