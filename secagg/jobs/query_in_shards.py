"""A query that is divided into shards, and what a worker makes its plan of."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from secagg.errors import UsageError
from secagg.party import PartyId
from secagg.printable import printable
from secagg.query.announcement import Announced
from secagg.query.declaration import Declaration
from secagg.query.division import DividedPlan, divided
from secagg.query.joint_run import plan_query
from secagg.query.owner import Prepared
from secagg.query.rules.rule_file import parse_rules
from secagg.query.terms import QueryTerms

Plain = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PlanInShards:
    """A divided query whose rows are announced, as one party has it.

    Attributes:
      texts: of `texts_of`.
      mine: what this party puts in, None if it puts in nothing.
    """

    plan: DividedPlan
    terms: QueryTerms
    texts: Plain
    announced: Announced
    mine: Prepared | None = field(repr=False)


def texts_of(sql: str, declared: str, rules: Mapping[PartyId, str], receivers: Sequence[PartyId]) -> Plain:
    """Return what a plan is made of, as plain data.

    Args:
      sql: with values in place of its parameters.
      declared: the declaration.
      rules: the rule files, by owner.
      receivers: for whom rules are applied.
    """
    # Job files may list rules in any order; what workers compare has one.
    return {
        "sql": sql,
        "tables": declared,
        "rules": dict(sorted(rules.items())),
        "receivers": list(receivers),
        "parser": parser_of_sql(),
    }


def parser_of_sql() -> str:
    """Return what makes a plan of SQL. Two versions of it may make two plans."""
    return f"sqlglot {importlib.metadata.version('sqlglot')}"


def told_terms(terms: QueryTerms) -> Plain:
    """Return terms as plain data."""
    return {
        "parties": list(terms.parties),
        "computing": list(terms.computing),
        "receivers": list(terms.receivers),
        "about_own": list(terms.about_own),
        "step": terms.step,
        "announce_filtered": terms.announce_filtered,
        "shards": terms.shards,
    }


def terms_of(told: Plain) -> QueryTerms:
    """Return the terms that `told_terms` made plain."""
    return QueryTerms(
        tuple(told["parties"]),
        tuple(told["computing"]),
        tuple(told["receivers"]),
        tuple(told["about_own"]),
        step=told["step"],
        announce_filtered=told["announce_filtered"],
        shards=told["shards"],
    )


def plan_of(texts: Plain, terms: QueryTerms) -> DividedPlan:
    """Return the divided plan that every party has made of these texts.

    Raises:
      UsageError: there is none, or this machine has another parser of SQL than the one that told these texts.
    """
    if texts["parser"] != (mine := parser_of_sql()):
        raise UsageError(
            f"the worker has {mine}, and its main process {printable(str(texts['parser']), 40)}; install the same release "
            "of it on all machines"
        )
    rules = {owner: parse_rules(text, file="rule file") for owner, text in texts["rules"].items()}
    plan = plan_query(texts["sql"], Declaration.parse(texts["tables"]), texts["receivers"], rules or None)
    return divided(plan, terms)
