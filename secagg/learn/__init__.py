"""Regression and classification on shared arrays, with scikit-learn's names; trees and small networks on shared features.

`fit` notes what is to be computed. What is learned ends in an underscore and is shared: `await model.coef_.open()` opens it.

Modules, each of which stands on those before it:

  estimator    parameters, and what `fit` takes
  scaling      columns of mean 0 and variance 1, jointly
  linear       `LinearRegression`, `Ridge`
  newton       Newton's method for generalised linear models
  multinomial  block Newton for more than two classes
  logistic     `LogisticRegression`
  poisson      `PoissonRegressor`
  xgboost      models of XGBoost, as it saves them
  trees        `TreeEnsemble`: trees of scikit-learn and XGBoost, on shared features
  shared_trees the same, whose model is shared
  networks     `MLP`: linear models and small networks of PyTorch, public or shared

Who learns what: nobody anything before the caller opens something. docs/learning.md says what models reveal when opened.
"""

from typing import TYPE_CHECKING

from secagg.faces import face

__all__ = [
    "MLP",
    "EnsembleShape",
    "LinearRegression",
    "LogisticRegression",
    "PoissonRegressor",
    "Ridge",
    "TreeEnsemble",
    "shape_of",
    "share_features",
    "share_labels",
    "share_trees",
]

if TYPE_CHECKING:
    from secagg.learn.estimator import share_features, share_labels
    from secagg.learn.linear import LinearRegression, Ridge
    from secagg.learn.logistic import LogisticRegression
    from secagg.learn.networks import MLP
    from secagg.learn.poisson import PoissonRegressor
    from secagg.learn.shared_trees import EnsembleShape, shape_of, share_trees
    from secagg.learn.trees import TreeEnsemble
else:
    __getattr__, __dir__ = face(
        "secagg.learn",
        {
            "secagg.learn.estimator": "share_features share_labels",
            "secagg.learn.linear": "LinearRegression Ridge",
            "secagg.learn.logistic": "LogisticRegression",
            "secagg.learn.poisson": "PoissonRegressor",
            "secagg.learn.networks": "MLP",
            "secagg.learn.shared_trees": "EnsembleShape shape_of share_trees",
            "secagg.learn.trees": "TreeEnsemble",
        },
    )
