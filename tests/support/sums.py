"""What the tests of sums have in common."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

T = TypeVar("T")
# Who may have which role where keys have several holders, besides the default of all apart.
OF_SEVERAL_HOLDERS: dict[str, dict[str, Any]] = {
    "apart": {},
    "two result parties, one a key holder": {"results": ("r", "h2")},
    "the aggregator is a client and learns the sum": {"clients": ("a", "agg", "b"), "results": ("agg",)},
    "key holders are clients": {"clients": ("h1", "h2", "a"), "results": ("r",)},
    "clients learn the sum": {"results": ("a", "c")},
    "everybody has all roles": {
        "clients": ("h1", "h2", "h3", "agg"),
        "results": ("agg", "h1", "h2", "h3"),
    },
}
_ROLES = ("clients", "aggregators", "results", "key_holders")


def with_changes(terms: T, **changes: Any) -> T:
    """Return terms with other fields; those that are roles are with_changes in `terms.roles`."""
    roles = {name: changes.pop(name) for name in _ROLES if name in changes}
    made: Any = terms
    other: T = replace(made, roles=replace(made.roles, **roles), **changes)
    return other
