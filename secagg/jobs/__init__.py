"""What organisations agree on and run: job files, one party's part, all parties on one machine, records."""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = [
    "InputTables",
    "Job",
    "Member",
    "Part",
    "PartyResult",
    "Progress",
    "Window",
    "load_job",
    "parse_job",
    "read_record",
    "run_job",
    "run_locally",
    "sign_record",
    "verify_record",
]

if TYPE_CHECKING:
    from secagg.jobs.inputs import InputTables
    from secagg.jobs.job import Job, Member, Window
    from secagg.jobs.job_file import load_job, parse_job
    from secagg.jobs.local import run_locally
    from secagg.jobs.record import PartyResult
    from secagg.jobs.run import Part, Progress, run_job
    from secagg.jobs.signature import read_record, sign_record, verify_record
else:
    __getattr__, __dir__ = face(
        "secagg.jobs",
        {
            "secagg.jobs.inputs": "InputTables",
            "secagg.jobs.job": "Job Member Window",
            "secagg.jobs.job_file": "load_job parse_job",
            "secagg.jobs.local": "run_locally",
            "secagg.jobs.record": "PartyResult",
            "secagg.jobs.run": "Part Progress run_job",
            "secagg.jobs.signature": "read_record sign_record verify_record",
        },
    )
