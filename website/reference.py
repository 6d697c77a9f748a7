"""The pages of reference of the package: what each public module names in `__all__`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from types import ModuleType


def reference_page(module: str, known: Sequence[str]) -> str:
    """Return the page of a module as Markdown.

    Classes and functions are left to mkdocstrings, which reads their docstrings. Of modules within the module there is a
    line each, and of plain values what they are.

    Args:
      known: the modules that have a page of their own.
    """
    names: list[str] = importlib.import_module(module).__all__
    held = {name: getattr(importlib.import_module(module), name) for name in names}
    described = [name for name, value in held.items() if inspect.isclass(value) or inspect.isroutine(value)]
    # A name for a type of Python's own, such as PartyId, has no docstring of ours.
    described = [name for name in described if getattr(held[name], "__module__", "").startswith("secagg")]
    modules = [(name, value) for name, value in held.items() if isinstance(value, ModuleType)]
    values = [
        (name, held[name]) for name in names if name not in described and (name, held[name]) not in modules
    ]
    return "\n".join(
        [
            f"# {module}\n",
            f"::: {module}",
            "    options:",
            f"      members: [{', '.join(described)}]\n",
            *(["## Modules\n", *(_module(module, *each, known) for each in modules), ""] if modules else []),
            *(["## Values\n", *(_value(module, *each) for each in values), ""] if values else []),
        ]
    )


def _module(parent: str, name: str, module: ModuleType, known: Sequence[str]) -> str:
    title = f"`{module.__name__}`"
    if module.__name__ in known:
        title = f"[{title}]({module.__name__}.md)"
    summary = (inspect.getdoc(module) or "").partition("\n")[0]
    return f'- <span id="{parent}.{name}"></span>{title}: {summary}'


def _value(parent: str, name: str, value: object) -> str:
    text = repr(value).replace("\n", " ")
    return f'- <span id="{parent}.{name}"></span>`{name}` = `{text}`'
