"""Which function of ours numpy's functions and the array API's names lead to; what is missing names what is near.

`NAMES` are functions of shared arrays by the array API's name. A module that adds some puts itself into `_MODULES`, and its
functions into a dictionary `NAMES` of its own.
"""

from __future__ import annotations

import difflib
import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from secagg.errors import UsageError
from secagg.mpc.arrays import arithmetic, comparison, functions, handle, logic, moves, reductions

NAMES: Final[dict[str, Callable[..., Any]]] = {
    "abs": arithmetic.absolute,
    "add": arithmetic.add,
    "all": reductions.all,
    "any": reductions.any,
    "argmax": reductions.argmax,
    "argmin": reductions.argmin,
    "astype": arithmetic.astype,
    "broadcast_to": handle.broadcast_to,
    "ceil": arithmetic.ceil,
    "clip": functions.clip,
    "concat": moves.concat,
    "cumulative_sum": reductions.cumulative_sum,
    "dot": functions.dot,
    "equal": comparison.equal,
    "expand_dims": moves.expand_dims,
    "flip": moves.flip,
    "floor": arithmetic.floor,
    "floor_divide": arithmetic.floor_divide,
    "greater": comparison.greater,
    "greater_equal": comparison.greater_equal,
    "less": comparison.less,
    "less_equal": comparison.less_equal,
    "logical_and": logic.conjunction,
    "logical_not": logic.invert,
    "logical_or": logic.disjunction,
    "logical_xor": logic.exclusive_or,
    "matmul": functions.matmul,
    "max": reductions.max,
    "maximum": comparison.maximum,
    "mean": reductions.mean,
    "min": reductions.min,
    "minimum": comparison.minimum,
    "moveaxis": moves.moveaxis,
    "multiply": arithmetic.multiply,
    "negative": arithmetic.negative,
    "not_equal": comparison.not_equal,
    "outer": functions.outer,
    "permute_dims": moves.permute_dims,
    "pow": arithmetic.power,
    "prod": reductions.prod,
    "remainder": arithmetic.remainder,
    "reshape": moves.reshape,
    "rint": arithmetic.rint,
    "roll": moves.roll,
    "sign": arithmetic.sign,
    "square": arithmetic.square,
    "squeeze": moves.squeeze,
    "stack": moves.stack,
    "subtract": arithmetic.subtract,
    "sum": reductions.sum,
    "take": moves.take,
    "tensordot": functions.tensordot,
    "trunc": arithmetic.trunc,
    "var": reductions.var,
    "vecdot": functions.vecdot,
    "where": comparison.where,
}

_MODULES: Final[tuple[str, ...]] = (
    "secagg.mpc.arrays.elementary",
    "secagg.mpc.arrays.linalg",
    "secagg.mpc.arrays.ordering",
    "secagg.mpc.arrays.statistics",
)

# Numpy's names that the array API has otherwise.
_NUMPY: Final[Mapping[str, str]] = {
    "absolute": "abs",
    "amax": "max",
    "amin": "min",
    "bitwise_and": "logical_and",
    "bitwise_or": "logical_or",
    "bitwise_xor": "logical_xor",
    "concatenate": "concat",
    "cumsum": "cumulative_sum",
    "fabs": "abs",
    "invert": "logical_not",
    "mod": "remainder",
    "power": "pow",
    "round": "rint",
    "transpose": "permute_dims",
    "true_divide": "divide",
}


@functools.cache
def names() -> Mapping[str, Callable[..., Any]]:
    """Return all functions of shared arrays by name."""
    found = dict(NAMES)
    for module in _MODULES:  # imported here, for they stand on `array`
        found |= importlib.import_module(module).NAMES
    return found


def named(name: str) -> Callable[..., Any]:
    """Return a function by the array API's name.

    Raises:
      UsageError: there is none; the message names what is near.
    """
    if (function := names().get(name)) is not None:
        return function
    near = difflib.get_close_matches(name, [*names(), *_NUMPY], 3, 0.7)
    hint = f"near: {', '.join(near)}" if near else "dir(x.__array_namespace__()) lists what there is"
    raise UsageError(f"shared arrays have no {name!r}; {hint}")


def call_ufunc(ufunc: Any, method: str, inputs: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """Return what numpy's ufunc asks for, of inputs of which one is shared."""
    name = str(ufunc.__name__)
    if method != "__call__":
        raise UsageError(
            f"np.{name}.{method} does not take shared arrays; use sum, cumulative_sum, prod, max or min"
        )
    if options:
        raise UsageError(
            f"np.{name} of shared arrays takes no {', '.join(options)}: nothing is written in place"
        )
    if name == "positive":
        return inputs[0]
    operators = _OPERATORS.get(name)
    if operators is not None and len(inputs) == 2:
        x, y = inputs
        return getattr(x, operators[0])(y) if isinstance(x, handle.Handle) else getattr(y, operators[1])(x)
    if name in ("floor_divide", "remainder", "power") and not isinstance(inputs[0], handle.Handle):
        arithmetic.refuse_shared(inputs[1], {"floor_divide": "//", "remainder": "%", "power": "**"}[name])
    if name in ("maximum", "minimum") and not isinstance(inputs[0], handle.Handle):
        inputs = (inputs[1], inputs[0])
    return named(_NUMPY.get(name, name))(*inputs)


# For ufuncs of two operands of which the second may be the shared one.
_OPERATORS: Final[Mapping[str, tuple[str, str]]] = {
    "add": ("__add__", "__radd__"),
    "bitwise_and": ("__and__", "__rand__"),
    "bitwise_or": ("__or__", "__ror__"),
    "bitwise_xor": ("__xor__", "__rxor__"),
    "divide": ("__truediv__", "__rtruediv__"),
    "equal": ("__eq__", "__eq__"),
    "greater": ("__gt__", "__lt__"),
    "greater_equal": ("__ge__", "__le__"),
    "less": ("__lt__", "__gt__"),
    "less_equal": ("__le__", "__ge__"),
    "logical_and": ("__and__", "__rand__"),
    "logical_or": ("__or__", "__ror__"),
    "logical_xor": ("__xor__", "__rxor__"),
    "matmul": ("__matmul__", "__rmatmul__"),
    "multiply": ("__mul__", "__rmul__"),
    "not_equal": ("__ne__", "__ne__"),
    "subtract": ("__sub__", "__rsub__"),
}


def call_function(function: Any, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """Return what numpy's function asks for, of arguments among which there are shared arrays.

    Numpy takes options by place that the array API takes by name: an axis second.
    """
    name = str(function.__name__)
    target = _NUMPY_ALONE.get(name) or named(_NUMPY.get(name, name))
    options = {k: v for k, v in options.items() if v is not None or k == "axis"}
    if "ddof" in options:
        options = {**{k: v for k, v in options.items() if k != "ddof"}, "correction": options["ddof"]}
    if name in _AXIS_SECOND and len(args) == 2:
        args, options = args[:1], {"axis": args[1], **options}
    if name in _AXIS_THIRD and len(args) == 3:
        args, options = args[:2], {_AXIS_THIRD[name]: args[2], **options}
    try:
        return target(*args, **options)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise UsageError(f"np.{name} of shared arrays: {str(error).split('() ')[-1]}") from None


# Numpy's functions that are no names of the array API.
_NUMPY_ALONE: Final[Mapping[str, Callable[..., Any]]] = {
    "ndim": lambda a: a.ndim,
    "ravel": lambda a: moves.reshape(a, -1),
    "shape": lambda a: a.shape,
    "size": lambda a, *, axis=None: a.size if axis is None else a.shape[axis],
}
_AXIS_SECOND: Final = frozenset(
    {
        *(
            "all",
            "amax",
            "amin",
            "any",
            "argmax",
            "argmin",
            "argsort",
            "concatenate",
            "cumsum",
            "cumulative_sum",
        ),
        *(
            "expand_dims",
            "flip",
            "max",
            "mean",
            "median",
            "min",
            "prod",
            "size",
            "sort",
            "squeeze",
            "stack",
            "std",
            "sum",
            "var",
        ),
    }
)
_AXIS_THIRD: Final = {
    "percentile": "axis",
    "quantile": "axis",
    "roll": "axis",
    "searchsorted": "side",
    "take": "axis",
    "tensordot": "axes",
}
