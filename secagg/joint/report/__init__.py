"""Pages for people about a run: one self-contained HTML file, an annex for an impact assessment, a register of runs."""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = ["Report", "load_report", "render"]

if TYPE_CHECKING:
    from secagg.joint.report.contents import Report, load_report
    from secagg.joint.report.page import render
else:
    __getattr__, __dir__ = face(
        "secagg.joint.report",
        {
            "secagg.joint.report.contents": "Report load_report",
            "secagg.joint.report.page": "render",
        },
    )
