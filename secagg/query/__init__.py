"""Questions over tables that lie at several organisations: what tables are, and what SQL asks of them."""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = ["Identifier", "Integer", "Money", "Schema", "Time"]

if TYPE_CHECKING:
    from secagg.query.schema import Identifier, Integer, Money, Schema, Time
else:
    __getattr__, __dir__ = face(
        "secagg.query", {"secagg.query.schema": "Identifier Integer Money Schema Time"}
    )
