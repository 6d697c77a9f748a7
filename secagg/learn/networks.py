"""Small neural networks on shared features, as PyTorch trains them: linear layers and what stands between them.

A model is public, or shared by its owner: then sizes and activations are public, and weights stay hidden.
`MLP.from_state` takes a mapping of names to arrays, such as `module.state_dict()`. PyTorch is not imported.
`MLP.from_linear` takes scikit-learn's linear models, whose coefficients can be shared so.

Values between layers have 16 fractional bits, weights 20. A layer of m inputs x and weights w adds to the error of what
follows m max |x| 2**-21 by rounded weights and 2**-15 by truncation; sigmoid, tanh and softmax add their own (`mpc`'s
elementary functions). An error before a layer is multiplied by its largest row sum of |w|, and by no more than 1 by an
activation.

Range: for features within 2**13 of zero, the largest number that a layer may come to, by its row sums of |w|, is below
2**24. Other models are refused. Sigmoid and tanh bring it to 1 again.

Who learns what: nobody anything; of a shared model all know the sizes and the activations. Whoever learns outputs learns
what they say of the model.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from secagg.errors import RangeError, ShapeError, UsageError
from secagg.learn.estimator import LARGEST_FEATURE, at_least_one, features
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.comparison import maximum
from secagg.mpc.arrays.dtypes import FixedType
from secagg.mpc.arrays.elementary import sigmoid, softmax, tanh
from secagg.mpc.arrays.engine import Engine
from secagg.mpc.arrays.handle import rescaled
from secagg.mpc.arrays.linalg import matrix_product
from secagg.party import PartyId

_VALUES: Final = FixedType(16)
_WEIGHTS: Final = FixedType(20)
_LARGEST: Final = 2.0**24  # a product of fixed(16) and fixed(20) then fits what truncation takes

ACTIVATIONS: Final[dict[str, Callable[[SharedArray], SharedArray]]] = {
    "": lambda x: x,
    "relu": lambda x: maximum(x, 0),
    "sigmoid": sigmoid,
    "tanh": tanh,
    "softmax": lambda x: softmax(x, axis=1),
}


@dataclass(frozen=True, slots=True)
class Layer:
    """x @ weight + bias; numpy's arrays, or shared ones."""

    weight: Any = field(repr=False)  # (inputs, outputs)
    bias: Any = field(repr=False)  # (outputs,)


@dataclass(frozen=True, eq=False)
class MLP:
    """A multilayer perceptron.

    Attributes:
      activations: what follows each layer: "relu", "sigmoid", "tanh", "softmax" or "" for nothing.
    """

    layers: tuple[Layer, ...]
    activations: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_activations(self.activations, len(self.layers))

    def __repr__(self) -> str:
        return (
            f"<MLP {' x '.join(map(str, self.sizes))}, {', '.join(a or 'linear' for a in self.activations)}>"
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many features it takes, and how many outputs each layer has."""
        return (*(layer.weight.shape[0] for layer in self.layers), self.layers[-1].weight.shape[1])

    @classmethod
    def from_state(cls, state: Mapping[str, Any], activations: Sequence[str]) -> Self:
        """Take over linear layers: arrays NAME.weight (outputs, inputs) and, unless it has none, NAME.bias (outputs,).

        Args:
          state: in the order of the layers, as `torch.nn.Sequential` has them.
          activations: what follows each layer.

        Raises:
          UsageError: other names, or activations that are none or too few.
          ShapeError: layers that do not follow each other.
          RangeError: weights that are not finite or too large.
        """
        names = [name.removesuffix(".weight") for name in state if name.endswith(".weight")]
        known = {f"{name}.{part}" for name in names for part in ("weight", "bias")}
        others = [name for name in state if name not in known]
        if not names or others:
            raise UsageError(
                f"expected arrays NAME.weight and NAME.bias of linear layers, got {others or list(state)!a}"
            )
        layers = []
        for name in names:
            weight = _numbers(state[f"{name}.weight"], f"{name}.weight")
            if weight.ndim != 2:
                raise ShapeError(f"expected {name!a}.weight of shape (outputs, inputs), got {weight.shape}")
            bias = state.get(f"{name}.bias")
            zeros = np.zeros(weight.shape[0])
            layers.append(Layer(weight.T, zeros if bias is None else _numbers(bias, f"{name}.bias")))
        return cls._checked(tuple(layers), tuple(activations))

    @classmethod
    def from_linear(cls, model: Any, activation: str = "") -> Self:
        """Take over a fitted linear model of scikit-learn: `coef_` and `intercept_`.

        Raises:
          UsageError: something else.
        """
        if not hasattr(model, "coef_") or not hasattr(model, "intercept_"):
            raise UsageError(f"expected a fitted linear model of scikit-learn, got {type(model).__name__}")
        weight = np.atleast_2d(_numbers(model.coef_, "coef_"))
        bias = np.broadcast_to(_numbers(model.intercept_, "intercept_"), weight.shape[:1])
        return cls._checked((Layer(weight.T, bias),), (activation,))

    @classmethod
    def _checked(cls, layers: tuple[Layer, ...], activations: tuple[str, ...]) -> Self:
        model, largest = cls(layers, activations), LARGEST_FEATURE
        for i, (layer, activation) in enumerate(zip(layers, activations, strict=True)):
            inputs, outputs = layer.weight.shape
            if layer.bias.shape != (outputs,) or (i and layers[i - 1].weight.shape[1] != inputs):
                raise ShapeError(f"layer {i} of shape {(outputs, inputs)} does not follow the one before")
            largest = float((np.abs(layer.weight).sum(axis=0) * largest + np.abs(layer.bias)).max())
            if not largest < _LARGEST:
                raise RangeError(
                    f"expected layers that stay below 2**24 for features within {LARGEST_FEATURE:g} of zero; layer {i} "
                    "may not; scale features before training"
                )
            largest = largest if activation in ("", "relu") else 1.0
        return model

    @classmethod
    def share(
        cls,
        engine: Engine,
        model: MLP | None,
        *,
        owner: PartyId,
        sizes: Sequence[int],
        activations: Sequence[str],
    ) -> Self:
        """Share a model of `owner`.

        Args:
          model: at the owner; None elsewhere.
          sizes, activations: public, as all computing parties know them.

        Raises:
          ShapeError: at the owner, a model of other sizes or activations.
        """
        sizes, activations = tuple(at_least_one("sizes", size) for size in sizes), tuple(activations)
        if len(sizes) < 2:
            raise ShapeError(f"expected the number of features and that of outputs at least, got {sizes}")
        _check_activations(activations, len(sizes) - 1)
        if model is not None and (model.sizes != sizes or model.activations != activations):
            raise ShapeError(f"expected a model of sizes {sizes} and activations {activations} at {owner}")
        layers = []
        for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
            weight, bias = (None, None) if model is None else (model.layers[i].weight, model.layers[i].bias)
            layers.append(
                Layer(
                    engine.share(weight, owner=owner, shape=(inputs, outputs), dtype=_WEIGHTS),
                    engine.share(bias, owner=owner, shape=outputs, dtype=_VALUES),
                )
            )
        return cls(tuple(layers), activations)

    def forward(self, X: SharedArray) -> SharedArray:  # noqa: N803  # scikit-learn's name
        """Return the last layer's outputs, of shape (n, outputs); `argmax(axis=1)` of them are classes."""
        values = rescaled(features(X, self.sizes[0]), _VALUES)
        for layer, activation in zip(self.layers, self.activations, strict=True):
            weight, bias = layer.weight, layer.bias
            if not isinstance(weight, SharedArray):
                weight, bias = (
                    X.engine.public(weight, dtype=_WEIGHTS),
                    X.engine.public(bias, dtype=_VALUES),
                )
            values = ACTIVATIONS[activation](matrix_product(values, weight, _VALUES) + bias)
        return values


def _check_activations(activations: Sequence[str], layers: int) -> None:
    if not layers or len(activations) != layers or not all(a in ACTIVATIONS for a in activations):
        raise UsageError(
            f"expected an activation for each of {layers} layers, one of {', '.join(map(repr, ACTIVATIONS))}; got "
            f"{list(activations)!a}"
        )


def _numbers(values: Any, name: str) -> NDArray[np.float64]:
    given = np.asarray(values)
    if given.dtype.kind not in "iuf" or not np.isfinite(given).all():
        raise RangeError(f"expected finite numbers as {name!a}, got others")
    return given.astype(np.float64)
