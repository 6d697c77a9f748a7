"""Make the test vectors of our own formats anew: python tests/vectors/make.py, or make vectors.

CONTRIBUTING.md says when that is allowed. What comes out is the same on every machine; look at what differs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from formats import FORMATS
from made import Format
from secagg.errors import SecaggError

HERE = Path(__file__).parent


def vectors_of(made: Format) -> list[dict[str, Any]]:
    """Return a format's vectors as data for JSON, the good ones first."""
    vectors: list[dict[str, Any]] = [
        {"name": name, "in": given, "out": made.run(given)} for name, given in made.good.items()
    ]
    for name, (error, given) in made.bad.items():
        try:
            made.run(given)
        except SecaggError as refusal:
            if type(refusal).__name__ != error:
                raise
            vectors.append({"name": name, "in": given, "error": error})
        else:
            raise SystemExit(f"{name}: expected {error}, and it was read")
    return vectors


def main() -> None:
    for name, make in FORMATS.items():
        made = make()
        content = {"about": made.about, "vectors": vectors_of(made)}
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        (HERE / f"{name}.json").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
