"""Every pattern brings example data in which what is planted is found, jointly as in the pooled tables."""

from __future__ import annotations

import pytest

from program_runs import played
from secagg.errors import UsageError
from secagg.jobs.example_files import ExampleFiles, write_example
from secagg.jobs.inputs import InputTables
from secagg.patterns.example import Example, example_of, first_difference, not_found
from secagg.patterns.registry import find, names


def tables_of(files: ExampleFiles):
    """Return the tables as a run reads them."""
    return {
        name: InputTables(files.job, [f"{t}={p}" for t, p in own.items()], allow_empty=True, me=name)()
        for name, own in files.tables.items()
    }


@pytest.mark.parametrize("name", names())
def test_every_pattern_brings_example_data_and_a_job_that_is_accepted(name, tmp_path):
    one, again, other = (
        write_example(name, tmp_path / str(i), seed=seed) for i, seed in enumerate((1, 1, 2))
    )
    assert one.example.story.endswith(".")
    assert one.job.pattern.name == name
    texts = [
        [path.read_text() for own in f.tables.values() for path in own.values()] for f in (one, again, other)
    ]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2] or name == "cohort_count"


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_on_example_data_a_run_tells_what_the_pooled_tables_do_and_finds_what_is_planted(name, tmp_path):
    files = write_example(name, tmp_path, seed=3)
    job, tables = files.job, tables_of(files)
    outcome = played(job.pattern, job.parameters, tables, (), job.terms)
    outcome.values()
    expected = job.pattern.reference(job.parameters, job.terms, tables)
    assert any(expected.values())
    for party, rows in expected.items():
        assert first_difference(outcome.results[party], rows, files.example.tolerance) is None
    assert not_found(files.example, {party: outcome.results[party] for party in expected}) == []


def test_example_data_that_are_not_the_pattern_s_tables_are_refused():
    class Wrong:
        name, inputs = "trace", find("trace").pattern.inputs

        def example(self, seed):
            return Example("A story.", {"north": {"transfers": {"sender": ["a"]}}})

    with pytest.raises(
        UsageError, match="expected transfers, accounts, seeds with their columns, got transfers of north"
    ):
        example_of(Wrong(), 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "expected", "says"),
    [
        ([("a", "1.0")], [("a", 1)], None),
        ([("a", "1.0000001")], [("a", "1")], None),
        ([("a", 1.1)], [("a", 1)], "row 1"),
        ([("a", 1)], [("b", 1)], "row 1"),
        ([("a", 1)], [("a",)], "row 1"),
        ([], [("a", 1)], "0 rows in place of 1"),
    ],
)
def test_rows_that_differ_are_named(found, expected, says):
    assert first_difference(found, expected, 1e-6) == says
