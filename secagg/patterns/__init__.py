"""Patterns that organisations look for together, behind one contract."""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = [
    "Agreed",
    "Contribution",
    "Disclosure",
    "Example",
    "Field",
    "Findings",
    "GroupByPattern",
    "Groups",
    "Identifier",
    "Integer",
    "JointTable",
    "Limit",
    "Money",
    "Number",
    "Pattern",
    "ProgramPattern",
    "Result",
    "Risk",
    "RoleSize",
    "Rows",
    "Schema",
    "Tables",
    "Terms",
    "Time",
    "banking",
    "counts",
    "factorize",
    "find",
    "group_size",
    "group_sum",
    "names",
    "nunique",
]

if TYPE_CHECKING:
    from secagg.patterns import banking, counts
    from secagg.patterns.counts import factorize, group_size, group_sum, nunique
    from secagg.patterns.example import Example
    from secagg.patterns.group_by import GroupByPattern
    from secagg.patterns.groups import Groups
    from secagg.patterns.joint_tables import JointTable, Number
    from secagg.patterns.pattern import (
        Agreed,
        Contribution,
        Disclosure,
        Limit,
        Pattern,
        Result,
        Risk,
        RoleSize,
        Tables,
        Terms,
    )
    from secagg.patterns.program import Findings, ProgramPattern
    from secagg.patterns.registry import find, names
    from secagg.protocols.group_by import Field, Rows
    from secagg.query.schema import Identifier, Integer, Money, Schema, Time
else:
    __getattr__, __dir__ = face(
        "secagg.patterns",
        {
            "secagg.patterns": "banking counts",
            "secagg.patterns.counts": "factorize group_size group_sum nunique",
            "secagg.patterns.example": "Example",
            "secagg.patterns.group_by": "GroupByPattern",
            "secagg.patterns.pattern": "Agreed Contribution Disclosure Limit Pattern Result Risk RoleSize Tables Terms",
            "secagg.patterns.groups": "Groups",
            "secagg.patterns.joint_tables": "JointTable Number",
            "secagg.patterns.program": "Findings ProgramPattern",
            "secagg.patterns.registry": "find names",
            "secagg.query.schema": "Identifier Integer Money Schema Time",
            "secagg.protocols.group_by": "Field Rows",
        },
    )
