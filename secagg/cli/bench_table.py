"""Results of `secagg bench` as a table for a paper, in LaTeX or Markdown, with what a reader needs to measure it again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from secagg.bench.case import network_named
from secagg.cli.show import seconds, size
from secagg.release import RELEASE  # of the program that writes the table, for its first line alone

__all__ = ["Form", "tables"]

Form = Literal["latex", "markdown"]
Result = Mapping[str, Any]

_LATEX: Final = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
}
_KINDS: Final = {"protocol": "numbers a client", "operation": "elements", "pattern": "rows an input party"}


def tables(results: Sequence[Result], form: Form) -> Iterator[str]:
    """Yield a table for each machine and set of versions, as figures of two of them are not comparable.

    Args:
      results: as `measure` returns them; the last of a case counts.
    """
    for where in dict.fromkeys(result["where"] for result in results):
        own = {result["key"]: result for result in results if result["where"] == where}
        yield _FORMS[form](*_columns(list(own.values())), _notes(list(own.values())))


def _columns(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows; a column of which no case has anything is left out."""
    drivers = {result["case"]["tcp"] for result in results}
    networks = list(dict.fromkeys(name for result in results for name in result["networks"]))
    columns: dict[str, Callable[[Result], str]] = {
        "computation": lambda result: result["case"]["name"],
        "parties": lambda result: _count(result["case"]["parties"]),
        "size": lambda result: _count(result["case"]["size"]),
        "fractional bits": lambda result: _count(result["case"]["frac_bits"]),
        "computing": lambda result: _count(
            0 if result["case"]["kind"] == "operation" else result["case"]["engine"]
        ),
        "run by": lambda result: _driver(result) if len(drivers) > 1 else "",
        "rounds": lambda result: f"{result['rounds']:,}",
        "sent by the busiest party": lambda result: size(max(_sent(result))),
        "sent by a client": lambda result: (
            size(max(_sent(result, "client"))) if _sent(result, "client") else ""
        ),
        "time (quartiles)": lambda result: (
            "{1} ({0} to {2})".format(*map(seconds, result["seconds"]))
            if result["case"]["repeat"] > 1
            else seconds(result["seconds"][1])
        ),
    }
    for name in networks:
        columns[f"predicted, {name}"] = lambda result, name=name: (  # type: ignore[misc]
            seconds(result["networks"][name][1]) if name in result["networks"] else ""
        )
    columns["largest error"] = lambda result: f"{result['error']:.1e}" if result["error"] else "0"
    cells = {heading: [cell(result) for result in results] for heading, cell in columns.items()}
    kept = {heading: own for heading, own in cells.items() if any(own)}
    return list(kept), [list(row) for row in zip(*kept.values(), strict=True)]


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _driver(result: Result) -> str:
    return "TLS" if result["case"]["tcp"] else "simulator"


def _sent(result: Result, role: str = "") -> list[int]:
    """Return the bytes of whole frames that parties send, or those of a role; of a large role one figure stands for all."""
    return [
        phases["total"]["frame_bytes"]
        for label, phases in result["parties"].items()
        if not role or result["roles"][label] == role
    ]


def _notes(results: Sequence[Result]) -> list[str]:
    """Return how the figures came about, a sentence or two each."""
    cases = [result["case"] for result in results]
    drivers = {case["tcp"] for case in cases}
    sizes = []
    for kind, what in _KINDS.items():
        if sized := dict.fromkeys(c["name"] for c in cases if c["kind"] == kind and c["size"]):
            sizes.append(f"{what} of {', '.join(sized)}")
    networks = {name: network_named(name) for result in results for name in result["networks"]}
    notes = [
        f"Time: median and quartiles of {_several(case['repeat'] for case in cases)} runs."
        + " Simulator: all parties one after the other in one process." * (False in drivers)
        + " TLS: a process a party over TLS 1.3 on one machine." * (True in drivers),
        "Sent: whole frames."
        + (" A client: the most that any client sends." if any(_sent(r, "client") for r in results) else ""),
    ]
    if sizes:
        notes.append(f"Size: {'; '.join(sizes)}.")
    if networks:
        shaped = "; ".join(
            f"{name}: {1000 * network.latency_s:g} ms one way, {8 * network.bytes_per_s / 1e6:,.0f} Mbit/s a party"
            for name, network in networks.items()
        )
        notes.append(
            f"Predicted: medians, from the messages and computing times of the simulated runs ({shaped})."
        )
    notes.append("Error: largest difference from the same computation in the clear.")
    levels: dict[str, dict[str, None]] = {}
    for result in results:
        case = result["case"]
        by = f" by {case['engine']} parties" if case["engine"] else ""
        levels.setdefault(result["security"], {})[f"{case['name']}{by}"] = None
    notes += [f"Security of {', '.join(of)}: {level}." for level, of in levels.items() if level]
    machine, versions = results[0]["machine"], results[0]["versions"]
    about = [
        f"{name.removesuffix('_bytes')} {size(value) if name.endswith('_bytes') else value}"
        for name, value in machine.items()
    ]
    shares = [share for result in results if (share := result.get("others_share")) is not None]
    if shares:
        about.append(f"of whose processors other work had at most {max(shares):.0%} meanwhile")
    notes += [
        f"Inputs: made up from seed {_several(case['seed'] for case in cases)}. Keys and masks: the operating system's.",
        f"Machine: {', '.join(about)}.",
        f"Software: {', '.join(f'{name} {value}' for name, value in versions.items())}.",
    ]
    return notes


def _several(numbers: Iterable[int]) -> str:
    return " or ".join(map(str, sorted(set(numbers))))


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    rule = ["---", *["---:"] * (len(headings) - 1)]
    lines = [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
        for row in (headings, rule, *rows)
    ]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes), ""])


def _latex(headings: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "  " + " & ".join(map(_escaped, cells)) + r" \\"

    return "\n".join(
        [
            f"% Written by secagg {RELEASE} (secagg bench table). Needs the package booktabs.",
            r"\begin{table}",
            r"  \centering\small",
            r"  \caption{Costs of secure computations, measured with secagg.}",
            rf"  \begin{{tabular}}{{l{'r' * (len(headings) - 1)}}}",
            r"  \toprule",
            line(headings),
            r"  \midrule",
            *map(line, rows),
            r"  \bottomrule",
            r"  \end{tabular}",
            rf"  \par\smallskip\footnotesize {_escaped(' '.join(notes))}",
            r"\end{table}",
            "",
        ]
    )


def _escaped(text: str) -> str:
    """Return the text for LaTeX, with numbers and their units kept on one line."""
    escaped = "".join(_LATEX.get(mark, mark) for mark in text)
    escaped = re.sub(r"(\d+)\\textasciicircum\{\}(-?\d+)", r"$\1^{\2}$", escaped)
    return re.sub(r"(?<=\d) (?=(?:[kMGTP]?B|m?s|min|Mbit/s|bits)\b)", r"\\,", escaped)


_FORMS: Final[Mapping[Form, Callable[[Sequence[str], Sequence[Sequence[str]], Sequence[str]], str]]] = {
    "latex": _latex,
    "markdown": _markdown,
}
