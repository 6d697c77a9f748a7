"""A report as one HTML page: no script, nothing that is fetched, and every text escaped.

The templates are jinja2's, with automatic escaping. Besides, each text is made `printable`: a page obeys characters that
turn the reading direction as a terminal does. The page's policy forbids everything but its own style, by its digest.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
from typing import Any, Final

from jinja2 import Environment, FunctionLoader, StrictUndefined

from secagg.joint.report.contents import Report, when
from secagg.joint.report.plots import bars, curves
from secagg.joint.report.words import grouped, size, span, spoken_trust
from secagg.printable import printable

SHOWN_ROWS: Final = 200  # of a result; the file has them all


def render(report: Report) -> str:
    """Return the page of a run."""
    columns = range(len(report.answer.columns)) if report.answer is not None else ()
    return rendered(
        "report.html",
        report=report,
        record=report.record,
        plot=None if report.answer is None else curves(report.answer),
        bars={} if report.answer is None else {i: bars(report.answer, i) for i in columns},
        shown_rows=SHOWN_ROWS,
        trust=spoken_trust(str(report.record["trust"])),
        most_sent=max((phase.sent_bytes for phase in report.phases), default=0),
    )


def rendered(template: str, **values: Any) -> str:
    """Return a page made of one of the package's templates."""
    style = _text("style.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return _environment().get_template(template).render(style=style, policy=policy, **values) + "\n"


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=FunctionLoader(_text),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"grouped": grouped, "size": size, "span": span, "when": when}
    return made


def _finalized(value: Any) -> Any:
    """Return what is printed of a value; what says that it is markup already is the template's own."""
    return value if hasattr(value, "__html__") else printable("" if value is None else str(value))


def _text(name: str) -> str:
    return (importlib.resources.files("secagg.joint.report") / "templates" / name).read_text("utf-8")
