"""Transfers at the accounts where they begin and end, on shares: what follows each, and what is so of any at an account.

One sort of all ends by account. Outgoing transfers of an account stand first in its run of rows, its incoming ones behind
them, and other rows of the account last. The first incoming transfer reads the columns of the outgoing ones from the rows
before it, as many as may follow. It hands them on to the other incoming ones (`mpc.tables.runs.handed_on`). So no transfer
is compared with another, and columns move twice.

Learns: nobody anything; how many transfers an account has does not show.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from secagg.mpc import concat, int32, sort_by, stack
from secagg.mpc.arrays import SharedArray, segments
from secagg.mpc.arrays.handle import as_numbers
from secagg.mpc.tables.runs import any_up_to, earlier, handed_on, later, rows_before
from secagg.mpc.tables.table import numbered


class Ends:
    """Both ends of transfers, in the order of accounts.

    Arrays are *given*, outgoing ends before incoming ones before others, or *ordered* by account. `place` says where a row
    that is ordered was given, `rank` where one that was given is ordered.

    Args:
      outgoing: the account that each following transfer leaves, shape (m,).
      incoming: the account that each transfer goes to, shape (n,).
      others: accounts of other rows.
      behind: which rows stand behind all others of their account; None for none.
    """

    def __init__(
        self,
        outgoing: SharedArray,
        incoming: SharedArray,
        others: Sequence[SharedArray] = (),
        behind: SharedArray | None = None,
    ) -> None:
        self.m, self.n = outgoing.shape[0], incoming.shape[0]
        keys = concat([outgoing, incoming, *others])
        places = np.arange(keys.shape[0])
        goes = keys.engine.public(places < self.m)
        comes = keys.engine.public((places >= self.m) & (places < self.m + self.n))
        key, self.goes, self.comes, self.place = sort_by(
            [keys] if behind is None else [keys, behind], [keys, goes, comes, numbered(keys, int32)]
        )
        self.same = concat([keys.engine.public(np.zeros(1, bool)), key[1:] == key[:-1]])
        (self.rank,) = segments.placed(self.place, [numbered(keys, int32)])

    def ordered(self, columns: Sequence[SharedArray]) -> list[SharedArray]:
        """Return given columns by account."""
        return segments.placed(self.rank, columns)

    def given(self, columns: Sequence[SharedArray]) -> list[SharedArray]:
        """Return ordered columns as ends were given."""
        return segments.placed(self.place, columns)

    def numbers(self) -> SharedArray:
        """Return the number of each ordered row's account, int32; equal for equal accounts and no others."""
        found: SharedArray = segments.running(as_numbers(~self.same, int32.bits))
        return found

    @cached_property
    def first(self) -> SharedArray:
        """Which ordered rows are the first incoming end of an account."""
        found: SharedArray = self.comes & ~(self.same & earlier(self.comes))
        return found

    def before(self, most: int) -> list[SharedArray]:
        """Return for distances 1 to `most` whether the row so far before an ordered one is of its account."""
        return rows_before(self.same, most)

    def followed(
        self, counts: SharedArray, columns: Sequence[SharedArray], kept: Sequence[SharedArray], most: int
    ) -> tuple[list[SharedArray], list[SharedArray], list[list[SharedArray]]]:
        """Return of each incoming end, in the order of accounts, what goes on from its account: up to `most` transfers.

        Args:
          counts: which outgoing ends count; but of an account with more than `most` outgoing ends none does.
          columns: ordered, of the outgoing ends.
          kept: ordered, of the incoming ends.

        Returns:
          the columns `kept`; for each of `most` slots whether a transfer follows; and of each column its `most` slots.
        """
        before = self.before(most + 1)
        few = self.first & ~before[most]
        slots = [few & before[i] & earlier(counts, i + 1) for i in range(most)]
        slots += [earlier(column, i + 1) for column in columns for i in range(most)]
        kept, slots = handed_on(self.comes, self.first, self.n, kept, slots)
        there, *values = (slots[i : i + most] for i in range(0, len(slots), most))
        return kept, there, values

    def any_following(self, slots: Sequence[SharedArray]) -> SharedArray:
        """Return which outgoing ends are set in their slot of any incoming end of their account; the way back of `followed`.

        Args:
          slots: ordered bools, of the incoming ends, False elsewhere.
        """
        backwards = any_up_to([x[::-1] for x in slots], later(self.same)[::-1])
        found: SharedArray | None = None
        for i, (one, there) in enumerate(zip(backwards, self.before(len(slots)), strict=True)):
            mine = later(one[::-1] & self.first & there, i + 1)
            found = mine if found is None else found ^ mine  # an end has one slot
        if found is None:
            raise ValueError("expected at least one slot")
        return found


def successors(
    ends: SharedArray,
    begins: SharedArray,
    valid: SharedArray,
    columns: Sequence[SharedArray],
    *,
    most: int,
) -> tuple[SharedArray, list[SharedArray]]:
    """Return which successors each row has, and columns of them, shape (rows, most); none of keys with more than `most`.

    Args:
      ends: the key at which each row ends, shape (rows,).
      begins: the key at which each following row begins, shape (following,).
      valid: which following rows count.
      columns: of the following rows. Where nothing follows, what they hold is undefined.
    """
    both = Ends(begins, ends)
    nothing = [begins.engine.public(np.zeros(both.n, np.int64), dtype=column.dtype) for column in columns]
    counts, *ordered = both.ordered(
        [
            concat([valid, begins.engine.public(np.zeros(both.n, bool))]),
            *(concat([column, none]) for column, none in zip(columns, nothing, strict=True)),
        ]
    )
    (place,), there, values = both.followed(counts, ordered, [both.place], most)
    rows = segments.placed(place - both.m, [*there, *(slot for each in values for slot in each)])
    slots = [stack(rows[i : i + most], axis=1) for i in range(0, len(rows), most)]
    return slots[0], slots[1:]
