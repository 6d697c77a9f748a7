"""What the tests of sums have in common."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

T = TypeVar("T")
_ROLES = ("clients", "aggregators", "results", "key_holders")


def with_changes(terms: T, **changes: Any) -> T:
    """Return terms with other fields; those that are roles are with_changes in `terms.roles`."""
    roles = {name: changes.pop(name) for name in _ROLES if name in changes}
    made: Any = terms
    other: T = replace(made, roles=replace(made.roles, **roles), **changes)
    return other
