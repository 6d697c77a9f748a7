"""What a job file says of a query, apart from its text; known without the parser of SQL."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

RESULT: Final = "result"  # the role of those who are told
Reveal: TypeAlias = Literal["result", "owners"]


class QueryParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of a query.

    Attributes:
      announce_filtered: announce how many rows an input party's own part leaves, and not how many its table has.
    """

    announce_filtered: bool = False
