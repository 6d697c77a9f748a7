"""Every request of a protocol says how large the arrays of its answer may be."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import secagg
from secagg.wire import Message, carries_arrays

SOURCES = Path(secagg.__file__).parent
REQUESTS = ("receive", "gather", "as_completed")


def requests() -> Iterator[tuple[str, ModuleType, ast.Call]]:
    for folder in ("mpc", "protocols"):
        for path in sorted((SOURCES / folder).rglob("*.py")):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                    continue
                if node.func.attr in REQUESTS and ast.unparse(node.func.value).endswith("party"):
                    where = path.relative_to(SOURCES.parent)
                    module = importlib.import_module(".".join(where.with_suffix("").parts))
                    yield f"{where.name}-{node.lineno}", module, node


def says_how_large(module: ModuleType, call: ast.Call) -> bool:
    if "max_bytes" in {keyword.arg for keyword in call.keywords}:
        return True
    if isinstance(call.args[1], ast.Tuple) and not call.args[1].elts:
        return True  # nobody is asked
    kind = getattr(module, ast.unparse(call.args[0]))
    return issubclass(kind, Message) and not carries_arrays(kind)


@pytest.mark.slow
def test_every_request_for_arrays_says_how_large_they_may_be() -> None:
    found = list(requests())
    assert len(found) >= 45
    assert not [name for name, module, call in found if not says_how_large(module, call)]
