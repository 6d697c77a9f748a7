"""Multinomial logistic regression of K classes, by block Newton on standardised columns.

With D = [1 | Z], P the penalty, and p_k what the softmax of D B gives class k, an iteration solves for each class k

    (3/2 D^T W_k D + P) step_k = D^T (y_k - p_k) - P b_k,    W_k = diag(p_k (1 - p_k)),

where all is divided by 2**halvings (`scaling`), and adds the steps to B. The Hessian has further blocks,
-D^T diag(p_k p_l) D. It would be a system of K (p + 1) unknowns; here K systems of p + 1 share their rounds.

*Convergence.* In each row diag(p) - p p^T is at most 2 diag(p_k (1 - p_k)): their difference has p_k (1 - p_k) on its
diagonal and p_k p_l beside it, which add up to the same, so it has no negative eigenvalue. So the Hessian is at most 4/3
of the matrices above, and next to the optimum an error is multiplied by numbers between -1/3 and 1. How near to 1 depends
on the data: on iris, 10 to 15 iterations come within 2**-12 of the coefficients. The optimum is where steps are 0, whatever
the matrix. A step is cut to 4 for each entry of B. What is added to the coefficients of all classes alike changes no
probability, and a penalty is least where their mean is 0. So that mean is taken off after each step.

Error where steps are 0, against the exact optimum: the gradient per row is within 2**-17. So standardised coefficients are
within 2**-17 times the inverse of the smallest eigenvalue of (Hessian + P) / n, among directions whose mean over the
classes is 0.

A pivot below 2**-12 counts as 0 (`linalg`), and its step is 0. Where probabilities come near 0 or 1 that would stop a
coefficient for good. So 2**-11 of the diagonal is added to it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from secagg.learn.linear import as_diagonal
from secagg.learn.newton import LONGEST_STEP, with_ones
from secagg.learn.scaling import FINE, Standardised
from secagg.mpc.arrays.array import SharedArray
from secagg.mpc.arrays.elementary import softmax
from secagg.mpc.arrays.linalg import REFINEMENT, factor_all, matrix_product, product
from secagg.mpc.arrays.moves import stack

_WEIGHT: Final = 1.5  # of the blocks: more than 1, so that iterations converge
_ADDED: Final = np.float64(2.0**-11)  # to the diagonal, in its own units


def multinomial(
    columns: Standardised, y: SharedArray, diagonal: SharedArray | None, iterations: int
) -> tuple[SharedArray, SharedArray]:
    """Return B (p + 1, K) in fixed(24), the intercepts first, and the largest entry of the last step.

    Args:
      y: 1 for each row's class, of shape (n, K), in fixed(20).
      diagonal: of P, in fixed(24), the intercept's first; None for no penalty.
    """
    d, k = with_ones(columns.z), columns.halvings
    unknowns, classes = d.shape[1], y.shape[1]
    b: SharedArray = d.engine.public(np.zeros((unknowns, classes)), dtype=REFINEMENT)
    step = b
    for _ in range(iterations):
        chances = softmax(matrix_product(d, b, FINE), axis=1)
        gradient = matrix_product(d.T, y - chances, REFINEMENT, halvings=k)
        if diagonal is not None:
            gradient = gradient - product(diagonal.reshape(-1, 1), b, REFINEMENT)
        weights = (chances - product(chances, chances, FINE)) * _WEIGHT
        blocks = [_block(d, weights[:, i : i + 1], k, diagonal) for i in range(classes)]
        solved = [factors.solve(gradient[:, i]) for i, factors in enumerate(factor_all(blocks))]
        step = stack(solved, axis=1).clip(-LONGEST_STEP, LONGEST_STEP)
        b = b + step
        b = b - b.mean(axis=1, keepdims=True)
    return b, abs(step - step.mean(axis=1, keepdims=True)).max()


def _block(d: SharedArray, weights: SharedArray, k: int, diagonal: SharedArray | None) -> SharedArray:
    matrix = matrix_product(d.T, product(weights, d, FINE), REFINEMENT, halvings=k)
    places = np.arange(matrix.shape[0])
    more = matrix[places, places] * _ADDED
    return matrix + as_diagonal(more if diagonal is None else more + diagonal)
