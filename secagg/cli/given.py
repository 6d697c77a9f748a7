"""Options as they were given: one that takes one value is given once, for of two values one would count in silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer.core

from secagg.errors import UsageError


class Command(typer.core.TyperCommand):
    """A command that refuses an option of one value that is given again."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _check_once(self.get_params(ctx), args)
        return super().parse_args(ctx, args)


class Group(typer.core.TyperGroup):
    """A group of such commands, for its own options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _check_once(self.get_params(ctx), args, ends=True)
        return super().parse_args(ctx, args)


def _check_once(params: Sequence[Any], args: Sequence[str], *, ends: bool = False) -> None:
    """Refuse an option of one value that is given again.

    Args:
      ends: options end at the first word that is none, where a group's command stands.

    Raises:
      UsageError: names the option.
    """
    named = {name: param for param in params if param.param_type_name == "option" for name in param.opts}
    seen: set[Any] = set()
    words = iter(args)
    for word in words:
        name, joined, _ = word.partition("=")
        if word == "--" or (ends and not word.startswith("-")):
            return
        option = named.get(name)
        if option is None or option.is_flag:
            continue
        if not joined:
            next(words, None)  # its value, whatever that looks like
        if option.multiple:
            continue
        if option in seen:
            instead = f", with commas between its values: {name} {option.metavar}"
            raise UsageError(
                f"{name} is given more than once, and takes one value; give it once"
                f"{instead if ',' in (option.metavar or '') else ''}"
            )
        seen.add(option)
