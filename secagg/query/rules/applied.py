"""Rules held against a query and put into its plan, in the one way in which every party does it before it plans.

The digest covers whose rules they are, what they mean, and to whom the result is opened. Parties compare it when they
announce rows, so that nobody computes under other rules than an owner who puts in rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from secagg import signing
from secagg.errors import RuleError
from secagg.query.algebra import Relation, Scan, relations
from secagg.query.declaration import Declaration
from secagg.query.rules.checks import Grant, check
from secagg.query.rules.rule_file import OwnerRules
from secagg.query.rules.suppression import protect


@dataclass(frozen=True)
class Applied:
    """A plan under rules.

    Attributes:
      root: the plan that suppresses, rounds and codes.
      grants: which rules allow what it tells.
      receivers: to whom it may be opened.
      digest: of the rules and the receivers, 32 bytes.
    """

    root: Relation
    grants: tuple[Grant, ...]
    receivers: frozenset[str]
    digest: bytes = field(repr=False)


def apply(
    root: Relation,
    rules: Mapping[str, OwnerRules],
    receivers: Sequence[str],
    declaration: Declaration,
) -> Applied:
    """Return a plan under its owners' rules.

    Args:
      rules: by owner; those of owners whose tables the plan does not read change nothing.
      receivers: the parties to which the result is opened.

    Raises:
      RuleError: a rule does not allow the plan, or a bound cannot be decided for it.
    """
    strangers = sorted(set(rules) - set(declaration.holders))
    if strangers:
        raise RuleError(
            f"expected rules of {', '.join(declaration.holders)}, got some of {', '.join(strangers)}, who hold no "
            "table of the declaration"
        )
    grants = check(root, rules, receivers, declaration)
    told = protect(root, rules, receivers, declaration)
    read = {one.table for one in relations(root) if isinstance(one, Scan)}
    owners = sorted({holder for table in read for holder in declaration[table].holders})
    parts = [part for owner in owners for part in (owner.encode(), rules[owner].digest)]
    names = [name.encode() for name in sorted(set(receivers))]
    digest = signing.digest("query.applied_rules", [len(owners).to_bytes(4, "big"), *parts, *names])
    return Applied(told, tuple(grants), frozenset(receivers), digest)
