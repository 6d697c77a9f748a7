"""`secagg synthesize`: a synthetic table from noisy marginals."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secagg.cli.show import say, stdout
from secagg.errors import DataError, UsageError
from secagg.files import file_digest, write_file
from secagg.printable import printable

if TYPE_CHECKING:
    import numpy as np

__all__ = ["synthesize"]


def synthesize(
    job_file: Annotated[
        Path, typer.Argument(metavar="JOB", help="The job file of a run of noisy_marginals.")
    ],
    result: Annotated[Path, typer.Option(help="The run's result table, NAME.JOB.csv.")],
    out: Annotated[
        Path, typer.Option(help="The synthetic table, a CSV file with a column for each variable.")
    ],
    rows: Annotated[
        int | None, typer.Option(min=1, help="How many rows; about as many as the counts tell, by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The same seed gives the same rows.")] = 0,
) -> None:
    """Make a synthetic table of noisy marginals, with their epsilon.

    A file beside the table, of the same name with .json, says from what it was made and what it costs. The table is as
    private as the result: it is made of nothing else.
    """
    import numpy as np

    from secagg.dp.synthesis import synthesize as make
    from secagg.jobs.job_file import load_job
    from secagg.jobs.spreadsheet import cell_of
    from secagg.patterns.health import NOISY_MARGINALS

    job = load_job(job_file, with_certificates=False)
    if job.pattern is not NOISY_MARGINALS:
        raise UsageError(f"expected a job of noisy_marginals, got one of {job.pattern.name}")
    beside = out.with_suffix(".json")
    if (taken := next((path for path in (out, beside) if path.exists()), None)) is not None or beside == out:
        raise UsageError(
            f"{taken or out} is there already, or would be written twice; give another --out, such as NAME.csv"
        )
    parameters: Any = job.parameters
    counts, place = _counts(result, parameters.names()), 0
    marginals = {}
    for names in parameters.sets:
        shape = parameters.shape(names)
        marginals[names] = counts[place : place + int(np.prod(shape))].reshape(shape)
        place += int(np.prod(shape))
    (spent,), std = job.spends(), NOISY_MARGINALS.noise_std(parameters)
    table = make(parameters.axes, marginals, noise_std=std, rows=rows, seed=seed)
    made = len(next(iter(table.values())))
    about = {
        "job": job.name,
        "result_sha256": file_digest(result),
        "epsilon": spent.epsilon,
        "delta": spent.delta,
        "hides": "one patient more or less in one hospital's table, in all that this run told",
        "noise_std": std,
        "marginals": [list(names) for names in parameters.sets],
        "rows": made,
        "seed": seed,
        "synthesizer": f"mbi {importlib.metadata.version('mbi')}",
    }
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(
        [cell_of(cell) for cell in row] for row in [list(table), *zip(*table.values(), strict=True)]
    )
    write_file(out, text.getvalue().encode(), mode=0o644)
    write_file(beside, (json.dumps(about, indent=2) + "\n").encode(), mode=0o644)
    say(
        stdout(),
        f"{out}: {made} synthetic rows, differentially private with epsilon {spent.epsilon:g} at delta {spent.delta:g}, "
        "for one patient more or less in one hospital's table; runs on the same patients add up",
    )


def _counts(result: Path, names: list[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the counts of a result table, in the order of the job's names.

    Raises:
      UsageError: the file cannot be read. DataError: it is not the result of this job.
    """
    import numpy as np

    from secagg.jobs.spreadsheet import text_of

    try:
        lines = list(csv.reader(io.StringIO(result.read_text("utf-8"))))
    except OSError as error:
        raise UsageError(f"cannot read {result}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{result} is no table of results: {error}") from None
    found = [text_of(row[0]) for row in lines[1:] if row]
    if not lines or lines[0] != ["what", "patients"] or found != names:
        other = next(
            (f"{f!r:.80} where {n!r:.80} is expected" for f, n in zip(found, names, strict=False) if f != n),
            "",
        )
        raise DataError(
            f"{result} is not the result of this job: expected the columns what and patients, and {len(names)} rows, got "
            f"{len(found)}{printable(f', {other}') if other else ''}; give the job file that the run had"
        )
    try:
        return np.array([int(row[1]) for row in lines[1:]], np.float64)
    except (IndexError, ValueError):
        raise DataError(
            f"{result} has a row without a whole number of patients; take the table as the run wrote it"
        ) from None
