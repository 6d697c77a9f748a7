"""Whether a job computes a query, asked without the parser of SQL: importing it takes a fifth of a program's start."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from secagg.patterns.pattern import Pattern

if TYPE_CHECKING:
    from secagg.jobs.query import QueryPattern


def query_of(pattern: Pattern) -> QueryPattern | None:
    """Return a pattern as the query that it is; None for one that is no query."""
    queries = sys.modules.get("secagg.jobs.query")
    if queries is None:
        return None  # whoever made a query has imported its module
    return pattern if isinstance(pattern, queries.QueryPattern) else None
