"""Small changes to a module, each of which some test should notice.

Made from the syntax tree: comparisons turned or shifted by one, operators exchanged, numbers one more and one less,
conditions and truth values turned, arguments exchanged, statements left out, checks that raise left out. Docstrings,
annotations, messages of errors and what is shown by `repr` are left alone: no test is asked to know their words.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import Final, NamedTuple

_OPERATORS: Final[dict[type[ast.AST], tuple[type[ast.AST], ...]]] = {
    ast.Lt: (ast.LtE,),
    ast.LtE: (ast.Lt,),
    ast.Gt: (ast.GtE,),
    ast.GtE: (ast.Gt,),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add,),
    ast.FloorDiv: (ast.Mult,),
    ast.Div: (ast.Mult,),
    ast.Mod: (ast.FloorDiv,),
    ast.LShift: (ast.RShift,),
    ast.RShift: (ast.LShift,),
    ast.BitXor: (ast.BitOr,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
_SYMMETRIC: Final = ("add", "array_equal", "bitwise_and", "bitwise_or", "bitwise_xor", "multiply")
_SILENT: Final = ("__repr__", "__rich_repr__", "__str__")


class Mutant(NamedTuple):
    """A module with one change.

    name: line, what was changed and into what; tells apart the mutants of one module.
    """

    name: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """Yield every mutant of a module, in the order of its lines."""
    tree = ast.parse(source)
    lines = source.splitlines(keepends=True)
    # ast counts columns in bytes of UTF-8.
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line.encode()))
    encoded = source.encode()
    seen: set[str] = set()
    for node, changed, statement in _changes(tree):
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        text = changed if isinstance(changed, str) else ast.unparse(changed)
        if not statement and not isinstance(changed, ast.Name | ast.Constant):
            text = f"({text})"
        mutated = (encoded[:begin] + text.encode() + encoded[end:]).decode()
        before = " ".join(encoded[begin:end].decode().split())
        name = f"{node.lineno}: {before:.90} -> {' '.join(text.split()):.90}"
        if mutated not in seen and mutated != source:
            seen.add(mutated)
            yield Mutant(name, mutated)


def _changes(tree: ast.Module) -> Iterator[tuple[ast.expr | ast.stmt, ast.AST | str, bool]]:
    """Yield (node, what stands in its place, whether it is a statement)."""
    for node in _visited(tree):
        if isinstance(node, ast.stmt):
            yield from ((node, text, True) for text in _without(node))
        elif isinstance(node, ast.expr):
            yield from ((node, changed, False) for changed in _exchanged(node))


def _visited(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or _is_left_alone(child):
                continue
            yield from _visited(child)


def _is_left_alone(node: ast.AST) -> bool:
    if isinstance(node, ast.FunctionDef) and node.name in _SILENT:
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True  # a docstring
    return isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert)


def _without(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.Expr(value=ast.Call() | ast.Await()) | ast.AugAssign() | ast.Delete():
            yield "pass"
        case ast.Assign(targets=[ast.Subscript() | ast.Attribute()]):
            yield "pass"
        case ast.If(body=[*_, ast.Raise()], orelse=[]):
            yield "pass"
        case ast.Raise():
            yield "pass"
        case _:
            return


def _commutes(function: ast.expr) -> bool:
    return isinstance(function, ast.Attribute) and function.attr in _SYMMETRIC


def _exchanged(node: ast.expr) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(ops=[op]) | ast.BinOp(op=op) | ast.BoolOp(op=op):
            for other in _OPERATORS.get(type(op), ()):
                changed = copy.deepcopy(node)
                if isinstance(changed, ast.Compare):
                    changed.ops = [other()]  # type: ignore[list-item]
                else:
                    changed.op = other()  # type: ignore[assignment]
                yield changed
        case ast.UnaryOp(op=ast.Not() | ast.Invert() | ast.USub()):
            yield node.operand
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() as value):
            yield ast.Constant(value + 1)
            if value > 0:
                yield ast.Constant(value - 1)
        case ast.Constant(value=float() as value):
            yield ast.Constant(value * 2)
        case ast.Call(args=[first, second, *_]) if not (
            isinstance(first, ast.Starred) or isinstance(second, ast.Starred) or _commutes(node.func)
        ):
            exchanged = copy.deepcopy(node)
            exchanged.args[:2] = reversed(exchanged.args[:2])
            yield exchanged
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield ast.IfExp(test=test, body=orelse, orelse=body)
        case _:
            return
