"""What ends a group-by, each by its own check: hashes that fall badly, and labels that came out altered."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest

import transcripts
from secagg.errors import PlanError, RemoteProtocolError
from secagg.mpc.three.engine import ThreeEngine
from secagg.mpc.three.opening import Opening
from secagg.network.simulated import simulate
from secagg.protocols.group_by import Field, Layout, Query, Rows, find_groups
from secagg.protocols.group_by.layout import bit_fields, take
from secagg.protocols.group_by.owner import PlacedRows
from secagg.protocols.pseudonyms import pseudonyms
from shared import opened

THREE = ("A", "B", "C")
QUERY = Query(THREE, THREE, (Field("n", 3, at_least=1),))
KEY = bytes(32)
NAMES = [f"name {i}" for i in range(2000)]
HASHES = pseudonyms(KEY, np.array(NAMES, object))


def table(names):
    return Rows(np.array([*names, None], object)[:-1], np.ones((len(names), 1), np.uint64))


def place(layout, names):
    return PlacedRows.place(layout, table(names), KEY, "B")


def by_bucket(layout, identity_bits):
    """Return the names of which each bucket holds rows with these identity bits: {(bucket, identity): names}."""
    found: dict[tuple[int, int], list[str]] = {}
    for name, (first, second) in zip(NAMES, HASHES.tolist(), strict=True):
        key = first & (layout.buckets.buckets - 1), second & ((1 << identity_bits) - 1)
        found.setdefault(key, []).append(name)
    return found


def test_a_bucket_takes_as_many_rows_as_its_capacity_and_not_one_more():
    layout = Layout.plan(QUERY, [3, 3, 3])
    capacity = layout.buckets.capacities[1]
    first, *_ = [
        names for names in by_bucket(layout, 0).values() if len(names) > capacity
    ]  # identity bits do not matter here
    place(layout, first[:capacity])
    with pytest.raises(PlanError, match=f"more than the {capacity} rows .* run again"):
        place(layout, first[: capacity + 1])


@pytest.mark.parametrize("identity", [0, 1, 2])
def test_two_rows_that_agree_in_bucket_and_identity_bits_end_the_run(identity):
    layout = dataclasses.replace(Layout.plan(QUERY, [100] * 3), identity_bits=2)
    places = by_bucket(layout, 2)
    bucket = next(b for b in range(64) if len(places[b, identity]) > 1)
    other = places[bucket, (identity + 1) % 3][0]
    place(layout, [places[bucket, identity][0], other])
    place(layout, [places[bucket, identity][0], places[bucket + 1 & 63, identity][0]])
    with pytest.raises(PlanError, match="cannot be told apart"):
        place(layout, places[bucket, identity][:2])


def test_a_row_whose_identity_bits_are_those_of_padding_ends_the_run():
    layout = dataclasses.replace(Layout.plan(QUERY, [100] * 3), identity_bits=2)
    with pytest.raises(PlanError, match="cannot be told apart"):
        place(layout, by_bucket(layout, 2)[5, 3][:1])


def altered_labels(monkeypatch, flipped):
    """Run three banks, of whose shuffled rows some come out of the shuffle with another label.

    Args:
      flipped: from labels and identity bits, shape (buckets, rows), to the (bucket, row) whose label's lowest bit to turn.
    """

    honest = ThreeEngine.shuffle

    async def alter(self, rows):
        (x,) = await honest(self, rows)
        layout = Layout.plan(QUERY, [2, 2, 2])
        offset = bit_fields(layout)[-1] + QUERY.sum_widths[0]
        word, bit = divmod(offset, 64)
        values = await opened(x)  # what a party that alters labels by guessing would take many runs for
        labels = take(values, offset, QUERY.origin_planes)
        for place in flipped(labels, take(values, 0, layout.identity_bits)):
            if self.channel.index == 0:
                x.parts[0][(*place, word)] ^= np.uint64(1 << bit)
            if self.channel.index == 2:
                x.parts[1][(*place, word)] ^= np.uint64(1 << bit)
        return [x]

    monkeypatch.setattr(ThreeEngine, "shuffle", alter)
    rows = {"A": ["x", "y"], "B": ["x", "z"], "C": ["u", "v"]}
    programs = {n: partial(find_groups, query=QUERY, rows=table(names)) for n, names in rows.items()}
    return simulate(programs, record=True, insecure_seed=1)


def openings_of_rows(outcome):
    """Return the openings of rows to their holders."""
    arrays = [
        m.message.shares[0] for m in transcripts.sent(outcome.transcript) if isinstance(m.message, Opening)
    ]
    return [a for a in arrays if a.dtype == np.uint64 and a.ndim == 2]


def one_label(labels, _):
    return [tuple(np.argwhere(labels == 0)[0])]


def two_labels(labels, identity):
    """Return the place of a row of A that is no padding, and of another row of B in the same bucket."""
    for bucket, row in np.argwhere((labels == 0) & (identity != identity.max())):
        others = np.flatnonzero((labels[bucket] == 1) & (identity[bucket] != identity[bucket, row]))
        if others.size:
            return [(bucket, row), (bucket, others[0])]
    raise AssertionError("no such rows")


def test_labels_of_which_one_is_anothers_open_no_row(monkeypatch):
    outcome = altered_labels(monkeypatch, one_label)
    assert not outcome.results
    assert not openings_of_rows(outcome)
    assert any("the shuffled table does not hold" in str(e) for e in outcome.errors.values())
    assert all(isinstance(e, RemoteProtocolError) for e in outcome.errors.values())


@pytest.mark.slow
def test_two_labels_that_are_exchanged_are_found_by_the_owners_of_both_rows(monkeypatch):
    # Not before the rows were opened: docs/soundness.md, section 1.
    outcome = altered_labels(monkeypatch, two_labels)
    assert openings_of_rows(outcome)
    found = {name for name, e in outcome.errors.items() if "not those that were put in" in str(e)}
    assert found
    assert found <= {"A", "B"}
    assert not {"A", "B"} & set(outcome.results)


def test_without_an_alteration_the_same_run_ends_well(monkeypatch):
    outcome = altered_labels(monkeypatch, lambda *_: [])
    outcome.values()
    assert len(openings_of_rows(outcome)) == 3
