"""Collaborators and an aggregator played by hand, round by round: python by_hand.py KEYS; prints what came of it as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from federation import NAMES, PROTECTION, Runner
from openfl.utilities import LocalTensor, TensorKey

from secagg.errors import UsageError, WireError
from secagg.integrations.openfl import SecureSum, SecureTaskRunner
from secagg.integrations.openfl import messages as m
from secagg.wire import to_bytes

KEYS = sys.argv[1]
PEERS = f"{KEYS}/peers.toml"
ENCRYPTED = {"max_corrupt": 0.2, "max_dropout": 0.2, "encryption": {"key_holder": "col2"}}
FEW = {"clips": {"": 8.0}, "max_weight": 50, "compression": {"bits": 12}}
MODEL = {"w": np.arange(4, dtype=np.float32)}


class Small(Runner):
    """Replies the model and its own number; what it is asked to reply besides comes with it."""

    def __init__(self, name, extra=()):
        super().__init__(name, None)
        self.extra = extra

    def get_tensor_dict(self, with_opt_vars):
        return dict(MODEL)

    def train_task(self, col_name, round_num, input_tensor_dict, **kwargs):
        self.size_inside = self.get_train_data_size()
        update = {"w": input_tensor_dict["w"] + np.float32(int(self.name[-1]))}
        found = {TensorKey(k, col_name, round_num, False, ("trained",)): v for k, v in update.items()}
        found |= {TensorKey(k, col_name, round_num, False, ("trained",)): np.zeros(2) for k in self.extra}
        found[TensorKey("loss", col_name, round_num, True, ("metric",))] = np.float32(self.name[-1])
        return found, {TensorKey("own", col_name, round_num + 1, False, ("model",)): np.ones(1)}


class HoldsOut(Small):
    """Multiplies the model by a tensor that it declares as its own."""

    def __init__(self, name, own="bn"):
        super().__init__(name)
        self.own = own

    def get_tensor_dict(self, with_opt_vars):
        return {**MODEL, "bn": np.ones(4, np.float32)}

    def get_required_tensorkeys_for_function(self, func_name, **kwargs):
        return [
            TensorKey("w", "GLOBAL", 0, False, ("model",)),
            TensorKey(self.own, "LOCAL", 0, False, ("model",)),
        ]

    def train_task(self, col_name, round_num, input_tensor_dict, **kwargs):
        bn = input_tensor_dict["bn"]
        found, _ = super().train_task(col_name, round_num, {"w": input_tensor_dict["w"] * bn}, **kwargs)
        return found, {TensorKey("bn", col_name, round_num + 1, False, ("model",)): 2 * bn}


class Protected(SecureTaskRunner, Small):
    pass


class ProtectedHoldsOut(SecureTaskRunner, HoldsOut):
    pass


def runner(name, protection=PROTECTION, kind=Protected, **more):
    return kind(name, identity=f"{KEYS}/{{collaborator}}.key", peers=PEERS, protection=protection, **more)


def summing(protection=PROTECTION, encoding=None):
    kept: Any = type(SecureSum)
    kept._instances.clear()  # OpenFL keeps one of a kind
    return SecureSum(PEERS, protection, encoding)


def played(rounds, change=None, server=None, order=(m.FRAMES, "w"), **runners):
    """Play OpenFL's rounds; `change` alters what a collaborator is given."""
    summed = server or summing()
    there = {name: runners.get(name) or runner(name) for name in NAMES}
    model = {m.FRAMES: np.zeros(1, np.float32), **MODEL}
    others = {
        "bn": np.ones(4, np.float32),
        "strange": np.ones(4, np.float32),
    }  # the aggregator's, for who asks
    kept, shown = [], []
    for number in range(rounds):
        sent = {}
        for name, one in there.items():
            keys = one.get_required_tensorkeys_for_function("protected_round", task="train_task")
            given = {key.tensor_name: np.array({**others, **model}[key.tensor_name]) for key in keys}
            shown.append(sorted(given))
            if change:
                given = change(name, number, given)
            sent[name], local = one.protected_round(name, number, given, task="train_task")
            kept.append(sorted({key.tensor_name for key in local}))
        rows = [
            {"tensor_name": k, "nparray": v, "round": number, "tags": ("model",)} for k, v in model.items()
        ]
        after = {}
        for key in order:
            tensors = [
                LocalTensor(name, sent[name][TensorKey(key, name, number, False, ("trained",))], 0.2)
                for name in there
            ]
            after[key] = summed.call(tensors, iter(rows), key, number, ("trained",))
        model = after
    report = summed.reports[-1] if summed.reports else None
    return {
        "model": model["w"].tolist(),
        "contributors": report and report.contributors,
        "missed": report and dict(report.missed),
        "error": report and report.error,
        "weight": report and report.weight,
        "failure": report and report.failure,
        "kept": kept[-1],
        "shown": [shown[5], shown[10]],
        "sizes": [there["col1"].get_train_data_size(), getattr(there["col1"], "size_inside", None)],
    }


def other_model(name, number, given):
    if name == "col1" and number == 1:
        given["w"] = given["w"] + np.float32(1)
    return given


def other_local(name, number, given):
    if name == "col1" and "bn" in given:
        given["bn"] = given["bn"] * np.float32(50)
    return given


def garbage(name, number, given):
    if name == "col1" and number == 3:
        given[m.FRAMES] = np.full(9, 7.5, np.float32)
    return given


def refused(action, kind):
    try:
        action()
    except kind as error:
        return str(error)
    return None


def main():
    data = [b"", b"a", bytes(range(256)) * 5, b"\xff" * 4]
    endless = to_bytes(m.Bundle("task", -1, (), {}))
    found = {
        "plain": played(7),
        "another model": played(7, other_model),
        "local tensors": played(13, other_local, **{n: runner(n, kind=ProtectedHoldsOut) for n in NAMES}),
        "a local tensor that the runner lacks": played(
            7, col4=runner("col4", kind=ProtectedHoldsOut, own="strange")
        ),
        "garbage": played(7, garbage),
        "another protection": played(7, col2=runner("col2", {**PROTECTION, "threat_model": "semi-honest"})),
        "no part of the model": played(7, col3=runner("col3", extra=("momentum",))),
        "encrypted": played(9, server=summing(ENCRYPTED), **{n: runner(n, ENCRYPTED) for n in NAMES}),
        "few bits": played(7, server=summing(encoding=FEW)),
        "too early": played(7, order=("w", m.FRAMES)),
        "another task": refused(
            lambda: runner("col1").get_required_tensorkeys_for_function("train_task"), UsageError
        ),
        "bounded": refused(
            lambda: runner("col1", {"bounded": {"computing": NAMES[:3], "norm": 1.0}}), UsageError
        ),
        "bounded at the aggregator": refused(
            lambda: summing({"shared_key": {"key_holders": NAMES[:2]}}), UsageError
        ),
        "bytes": all(m.from_tensor(m.to_tensor(one), peer="x") == one for one in data),
        "strange": [
            refused(lambda t=t: m.read_bundle(t, peer="x"), WireError)
            for t in (
                np.array([np.nan]),
                np.array([-1.0]),
                np.zeros((2, 2)),
                np.array([0, 5, 0.0]),
                m.to_tensor(endless),
            )
        ],
        "nothing": m.read_bundle(np.zeros(1), peer="x"),
    }
    sys.stdout.write(json.dumps(found))


main()
