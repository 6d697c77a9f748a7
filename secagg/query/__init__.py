"""Questions over tables that lie at several organisations: what tables are, and what SQL asks of them."""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = [
    "Boolean",
    "Category",
    "Date",
    "Declaration",
    "Identifier",
    "Integer",
    "Money",
    "Pool",
    "Query",
    "Real",
    "Schema",
    "Time",
    "Timestamp",
    "plan",
    "run",
    "run_for_owners",
]

if TYPE_CHECKING:
    from secagg.query.algebra import Query
    from secagg.query.declaration import Declaration
    from secagg.query.joint_run import run, run_for_owners
    from secagg.query.reference import Pool
    from secagg.query.schema import (
        Boolean,
        Category,
        Date,
        Identifier,
        Integer,
        Money,
        Real,
        Schema,
        Time,
        Timestamp,
    )
    from secagg.query.sql import plan
else:
    __getattr__, __dir__ = face(
        "secagg.query",
        {
            "secagg.query.algebra": "Query",
            "secagg.query.declaration": "Declaration",
            "secagg.query.joint_run": "run run_for_owners",
            "secagg.query.reference": "Pool",
            "secagg.query.schema": "Boolean Category Date Identifier Integer Money Real Schema Time Timestamp",
            "secagg.query.sql": "plan",
        },
    )
