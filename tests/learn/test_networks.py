"""Small networks on shared features give what they give in the clear, whether the model is public or shared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import datasets, linear_model

from clear import run_clear
from secagg import learn, mpc
from secagg.errors import RangeError, ShapeError, UsageError
from secagg.learn.networks import Layer
from secagg.learn.trees import Tree
from secagg.network.simulated import simulate

MADE_UP = np.random.default_rng(5)
X = np.rint(MADE_UP.normal(size=(6, 3)) * 2.0**16) / 2.0**16
STATE = {
    "0.weight": MADE_UP.normal(size=(4, 3)),
    "0.bias": MADE_UP.normal(size=4),
    "2.weight": MADE_UP.normal(size=(2, 4)),
}
CLEAR: dict[str, Callable[[Any], Any]] = {
    "": lambda v: v,
    "relu": lambda v: np.maximum(v, 0),
    "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
    "tanh": np.tanh,
    "softmax": lambda v: np.exp(v) / np.exp(v).sum(axis=1, keepdims=True),
}


def opened(model, x, *, shared):
    async def start(primitives):
        engine = mpc.Engine(primitives)
        used = model
        if shared:
            used = learn.MLP.share(
                engine, model, owner="ada", sizes=model.sizes, activations=model.activations
            )
        rows = learn.share_features(engine, x, owner="ada", shape=x.shape)
        return await used.forward(rows).open()

    return run_clear(start)


@pytest.mark.parametrize("shared", [False, True], ids=["public", "shared"])
@pytest.mark.parametrize("activations", [("relu", "softmax"), ("tanh", "sigmoid")], ids=["relu", "tanh"])
def test_networks_give_what_they_give_in_the_clear(activations, shared):
    model = learn.MLP.from_state(STATE, activations)
    hidden = CLEAR[activations[0]](X @ STATE["0.weight"].T + STATE["0.bias"])
    expected = CLEAR[activations[1]](hidden @ STATE["2.weight"].T)
    spread = np.abs(STATE["2.weight"]).sum(axis=1).max()
    before = 3 * np.abs(X).max() * 2.0**-21 + 2.0**-15 + 2.0**-14
    after = 4 * max(1, hidden.max()) * 2.0**-21 + 2.0**-15 + 2.0**-13
    assert np.abs(opened(model, X, shared=shared) - expected).max() <= before * spread + after


@pytest.mark.slow
def test_a_module_of_torch_gives_what_torch_gives():
    torch = pytest.importorskip("torch", reason="PyTorch is missing: nothing to compare with")
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    model = learn.MLP.from_state(module.state_dict(), ["relu", ""])
    with torch.no_grad():
        expected = module(torch.tensor(X, dtype=torch.float32)).numpy()
    assert np.allclose(opened(model, X, shared=True), expected, rtol=0, atol=2.0**-12)


@pytest.mark.slow
def test_linear_models_whose_owner_keeps_the_coefficients_classify_rows_of_another():
    x, y = datasets.load_iris(return_X_y=True)
    fitted = linear_model.LogisticRegression(max_iter=1000).fit(x, y)
    model = learn.MLP.from_linear(fitted)

    async def program(party):
        engine = await mpc.Engine.create(party)
        mine = model if party.me == "ada" else None
        shared = learn.MLP.share(engine, mine, owner="ada", sizes=(4, 3), activations=[""])
        rows = learn.share_features(
            engine, x[::15] if party.me == "bob" else None, owner="bob", shape=(10, 4)
        )
        return await shared.forward(rows).argmax(axis=1).open(to="bob")

    values = simulate(dict.fromkeys(("ada", "bob", "cleo"), program)).results
    assert values["ada"] is values["cleo"] is None
    assert (values["bob"] == fitted.predict(x[::15])).all()


@pytest.mark.parametrize(
    ("state", "activations", "error", "message"),
    [
        (STATE, ["relu"], UsageError, "each of 2 layers"),
        (STATE, ["relu", "gelu"], UsageError, "gelu"),
        (STATE | {"1.running_mean": np.zeros(4)}, ["relu", ""], UsageError, "running_mean"),
        ({"0.weight": np.zeros(3)}, [""], ShapeError, "outputs, inputs"),
        (STATE | {"2.weight": np.zeros((2, 5))}, ["relu", ""], ShapeError, "layer 1 .* does not follow"),
        (STATE | {"0.bias": np.zeros(1)}, ["relu", ""], ShapeError, "layer 0"),
        (STATE | {"2.weight": np.full((2, 4), np.nan)}, ["relu", ""], RangeError, "finite"),
        (STATE | {"2.weight": np.full((2, 4), 2.0**9)}, ["relu", ""], RangeError, "layer 1 may not"),
    ],
)
def test_states_that_are_no_network_or_too_large_a_one_are_refused(state, activations, error, message):
    with pytest.raises(error, match=message):
        learn.MLP.from_state(state, activations)


def test_a_model_of_other_sizes_than_agreed_on_is_refused_at_its_owner():
    model = learn.MLP.from_state(STATE, ["relu", ""])

    async def start(primitives):
        learn.MLP.share(mpc.Engine(primitives), model, owner="ada", sizes=(3, 5, 2), activations=["relu", ""])

    with pytest.raises(ShapeError, match=r"expected a model of sizes \(3, 5, 2\)"):
        run_clear(start)


def test_the_repr_of_layers_and_trees_shows_no_number():
    layer = Layer(np.array([[0.123]]), np.array([9.87]))
    node = np.array([4711])
    tree = Tree(node, node, node, np.array([0.77]), np.array([[0.31]]))
    assert not any(digit in repr((layer, tree)) for digit in "0123456789")
