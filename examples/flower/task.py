"""A small real task: handwritten digits, softmax regression in numpy."""

import functools

import numpy as np
from flwr.app import Array, ArrayRecord

CLASSES = 10


@functools.cache  # in a simulation many nodes share a process
def data():
    """Return all images, shape (1797, 64), within [0, 1], and their digits, in a fixed random order."""
    from sklearn.datasets import load_digits  # takes a second, and most steps of a protected sum need no data

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    return digits.data[order] / 16.0, digits.target[order]


def partition(number, partitions):
    """Return one node's images and digits: every n-th of the first 1500."""
    x, y = data()
    return x[number:1500:partitions], y[number:1500:partitions]


def held_out():
    """Return what nobody trains on."""
    x, y = data()
    return x[1500:], y[1500:]


def new_model():
    return {"coef": np.zeros((64, CLASSES), np.float32), "intercept": np.zeros(CLASSES, np.float32)}


def to_record(model):
    """Return a model as Flower sends it."""
    return ArrayRecord({name: Array(array) for name, array in model.items()})


def from_record(record):
    return {name: array.numpy() for name, array in record.items()}


def predict(model, x):
    """Return probabilities, shape (images, 10)."""
    scores = x @ model["coef"] + model["intercept"]
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def train(model, x, y, *, epochs, rate):
    """Return the model after some epochs of gradient descent in batches of 16, and the loss."""
    model = {name: array.copy() for name, array in model.items()}
    wanted = np.eye(CLASSES)[y]
    for _ in range(epochs):
        for start in range(0, len(y), 16):
            batch = slice(start, start + 16)
            gradient = (predict(model, x[batch]) - wanted[batch]) / len(y[batch])
            model["coef"] -= (rate * (x[batch].T @ gradient)).astype(np.float32)
            model["intercept"] -= (rate * gradient.sum(axis=0)).astype(np.float32)
    return model, test(model, x, y)[0]


def test(model, x, y):
    """Return loss and accuracy."""
    probabilities = predict(model, x)
    loss = -np.mean(np.log(probabilities[np.arange(len(y)), y] + 1e-12))
    return float(loss), float(np.mean(probabilities.argmax(axis=1) == y))
