"""What each operation on shared arrays costs among three and among four parties: the table of docs/operations.md.

    python -m benchmarks.operations            # prints the page
    python -m benchmarks.operations --write    # writes it

Nothing is measured: rounds and bytes are those that `mpc.cost` declares, which tests hold against ledgers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from secagg import mpc
from secagg.mpc import tables

PAGE: Final = Path(__file__).parent.parent / "docs" / "operations.md"
NAMES: Final = ("ada", "bob", "cleo", "dora")
N: Final = 1 << 12  # elements; comparisons of 2**15 or more take a round more and fewer bytes
FIXED: Final = mpc.fixed(16)


class Operation(NamedTuple):
    """A row of the table.

    Args:
      text: as a program has it.
      dtype: of the operands.
      run: the operation on two arrays.
      error: how far a result may be from the exact one, in units in the last place (ulp) or as a formula.
      source: the construction, for three and four parties.
    """

    text: str
    dtype: Any
    run: Callable[[Any, Any], Any]
    error: str
    source: str


LOCAL: Final = "linear"
PRODUCT: Final = "[MR18, 3.2.2], [DEK21]"
TRUNCATED: Final = "product, then the wrap from top bits"
SIGN: Final = "carry by digits and a tree"
ELEMENTARY: Final = "[CS10], [AS19]"
TABLES: Final = "docs/soundness.md, tables; expected"


def _all(table: tables.Table) -> Any:
    return mpc.concat([column.values for column in table.columns.values()])


def _table(x: Any, y: Any, name: str) -> tables.Table:
    valid = x.engine.public(np.ones(x.shape[0], bool))
    return tables.Table({"k": tables.Column(x), name: tables.Column(y)}, valid)


def _grouped(x: Any, y: Any) -> Any:
    return _all(tables.group_by(_table(x, y, "a"), ["k"], {"s": ("sum", "a"), "n": ("count", None)}))


def _joined(x: Any, y: Any) -> Any:
    left, right = _table(x[: N // 2], y[: N // 2], "a"), _table(x[N // 2 :], y[N // 2 :], "b")
    return _all(tables.join(left, right, [("k", "k")])[0])


def _ranked(x: Any, y: Any) -> Any:
    return _all(tables.window(_table(x, y, "a"), ["k"], [("a", False)], {"r": ("rank", None, None)}))


OPERATIONS: Final = (
    Operation("x + y, x - y, -x", mpc.int64, lambda x, y: x + y, "0", LOCAL),
    Operation("x * 3", mpc.int64, lambda x, _: x * 3, "0", LOCAL),
    Operation("x.sum()", mpc.int64, lambda x, _: x.sum(), "0", LOCAL),
    Operation("x * y", mpc.int64, lambda x, y: x * y, "0", PRODUCT),
    Operation("x * y", FIXED, lambda x, y: x * y, "1 ulp", TRUNCATED),
    Operation("x * 0.3, x / 7", FIXED, lambda x, _: x * 0.3, "1 ulp, and 2**-17 x", TRUNCATED),
    Operation(
        "x @ y of 64 x 64",
        FIXED,
        lambda x, y: x.reshape(64, 64) @ y.reshape(64, 64),
        "1 ulp",
        TRUNCATED,
    ),
    Operation("x // 8, mpc.floor(x)", mpc.int64, lambda x, _: x // 8, "0", "carry of low bits"),
    Operation("x < y, x > 5, ...", mpc.int64, lambda x, y: x < y, "0", SIGN),
    Operation("x == y", mpc.int64, lambda x, y: x == y, "0", "tree of ORs"),
    Operation("p & q, p | q", bool, lambda x, y: x & y, "0", "[AFLNO16, 2.1], [DEK21]"),
    Operation("p ^ q, ~p", bool, lambda x, y: x ^ y, "0", LOCAL),
    Operation("p.astype(int)", bool, lambda x, _: x.astype(int), "0", "bits to integers"),
    Operation("abs(x), mpc.maximum(x, y)", mpc.int64, lambda x, _: abs(x), "0", "sign, selection"),
    Operation("mpc.where(p, 2, 1)", bool, lambda x, _: mpc.where(x, 2, 1), "0", "bits to integers"),
    Operation("x.max()", mpc.int64, lambda x, _: x.max(), "0", "tree of maxima"),
    Operation("np.sort(x)", mpc.int64, lambda x, _: np.sort(x), "0", "docs/soundness.md, sorting; expected"),
    Operation("tables.group_by, sum and count", mpc.int64, _grouped, "0", TABLES),
    Operation("tables.join, rows of both", mpc.int64, _joined, "0", TABLES),
    Operation("tables.window, rank", mpc.int64, _ranked, "0", TABLES),
    Operation(
        "1 / x, mpc.reciprocal(x)", FIXED, lambda x, _: mpc.reciprocal(x), "1 ulp, and 2**-21 / x", ELEMENTARY
    ),
    Operation("x / y", FIXED, lambda x, y: x / y, "[bound](#quotients)", ELEMENTARY),
    Operation("np.sqrt(x)", FIXED, lambda x, _: mpc.sqrt(x), "1 ulp, and 2**-21 sqrt(x)", ELEMENTARY),
    Operation("np.exp(x)", FIXED, lambda x, _: mpc.exp(x), "1 ulp, and 2**-19 exp(x)", ELEMENTARY),
    Operation("np.log(x)", FIXED, lambda x, _: mpc.log(x), "2 ulp", ELEMENTARY),
    Operation("mpc.sigmoid(x)", FIXED, lambda x, _: mpc.sigmoid(x), "2 ulp", "[PS73]"),
    Operation("mpc.tanh(x)", FIXED, lambda x, _: mpc.tanh(x), "4 ulp", "[PS73]"),
)

HEAD: Final = f"""# Operations on shared arrays, and what they cost

Rounds, and bytes that the busiest party sends for each element, of arrays of {N:,} elements of 64 bits. Three parties
follow the protocol. Of four, one may lie. `mpc.cost(program, shapes)` gives the same for a whole program and other sizes.
Independent operations share rounds. The bytes are those of arrays; frames and TLS add some 100 bytes a message.

Errors are of one operation whose operands are exact: 1 ulp of `mpc.fixed(16)` is 2**-16. `secagg.mpc.arrays.elementary`
has the ranges of the elementary functions, and what they are outside them. This page is made by
`python -m benchmarks.operations --write`.

| operation | dtype | rounds, 3 parties | bytes, 3 | rounds, 4 parties | bytes, 4 | error | construction |
|---|---|---|---|---|---|---|---|
"""

TAIL: Final = """
## Quotients

`x / y` of numbers with f fractional bits is within 2**-f (1 + 2**(2 f - 45) |x|) + 2**-21 |x / y|, for |x / y| below 2**15
and |x|, |y| below 2**(61 - f). x / 0 is 0. Where the operands differ in fractional bits, f is the larger.
"""


def declared(operation: Operation, parties: int) -> tuple[int, float]:
    """Return the rounds of an operation, and the bytes an element of the party that sends most."""

    def program(run: Callable[[Any, Any], Any] | None) -> Callable[[Any], Any]:
        async def start(party: Any) -> Any:
            engine = await mpc.Engine.create(party)
            values = np.zeros(N, bool if operation.dtype is bool else np.int64)
            x, y = (
                engine.share(
                    values if party.me == "ada" else None, owner="ada", shape=N, dtype=operation.dtype
                )
                for _ in range(2)
            )
            if run is None:
                return await engine.open(x[:0], y[:0], to="ada")
            result = run(x, y)
            kept = result.reshape(-1)[:0]  # so that it is computed, and no element of it opened
            return await engine.open(x[:0], y[:0], kept, to="ada")

        return start

    names = NAMES[:parties]
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(names, ())
    whole, around = mpc.cost(program(operation.run), shapes), mpc.cost(program(None), shapes)
    sent = max(whole.payload_bytes[name] - around.payload_bytes[name] for name in names)
    return whole.rounds - around.rounds, sent / N


def page() -> str:
    """Return the page."""
    rows = []
    for operation in OPERATIONS:
        (rounds3, bytes3), (rounds4, bytes4) = (declared(operation, parties) for parties in (3, 4))
        dtype = "bool" if operation.dtype is bool else str(operation.dtype)
        text = operation.text.replace("|", "\\|")
        costs = f"{rounds3} | {bytes3:.4g} | {rounds4} | {bytes4:.4g}"
        rows.append(f"| `{text}` | {dtype} | {costs} | {operation.error} | {operation.source} |\n")
    return HEAD + "".join(rows) + TAIL


def main(argv: Sequence[str] | None = None) -> None:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--write", action="store_true", help="write docs/operations.md in place of printing it"
    )
    parser.add_argument(
        "--tiny", action="store_true", help="as the other benchmarks have it; changes nothing here"
    )
    options = parser.parse_args(argv)
    if options.write:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        print(page(), end="")


if __name__ == "__main__":
    main()
