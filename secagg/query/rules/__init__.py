"""Rules of owners: what their columns may be used for, and of which groups anything is told.

    found = plan(sql, declaration)
    grants = check(found.root, rules, receivers, declaration)
    told = protect(found.root, rules, receivers, declaration)

`applied.apply` does both. `rule_file` reads an owner's file, `strictest` takes several together, `checks` holds a plan
against them, and `suppression` rewrites the plan so that groups are counted, and small ones suppressed, on shares.
"""

from secagg.query.rules.applied import Applied, apply
from secagg.query.rules.checks import Grant, check
from secagg.query.rules.rule_file import OwnerRules, Use, load_rules, parse_rules
from secagg.query.rules.suppression import protect

__all__ = [
    "Applied",
    "Grant",
    "OwnerRules",
    "Use",
    "apply",
    "check",
    "load_rules",
    "parse_rules",
    "protect",
]


def __dir__() -> list[str]:
    return sorted(__all__)
