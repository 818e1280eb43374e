"""Runs Keras optimizers and prints their trajectories as JSON: `python -m tests.peers.keras_peer '[["Lion", {}]]'`.

A process of its own: Keras settles its backend and default float type once, and other tests want other ones.
"""

from __future__ import annotations

import json
import os
import sys

os.environ["KERAS_BACKEND"] = "torch"

import keras

from scirs2_adapters.adapters.tf.argument_names import KERAS, spelling
from scirs2_adapters.core import Rule

from . import matches
from .problem import gradients, parameters

#: Where Keras' classes hold what they remember.
HELD = ("_momentums", "_velocities", "_accumulators", "_accumulated_grads", "_accumulated_delta_vars", "_m", "_u")


def run(name: str, options: dict) -> list[dict]:
    """What the optimizer leaves after each step, under Keras' own names."""
    variables = [keras.Variable(p, dtype="float64") for p in parameters()]
    optimizer = getattr(keras.optimizers, name)(**options)
    optimizer.build(variables)
    history = []
    for gs in gradients():
        optimizer.apply([keras.ops.convert_to_tensor(g, dtype="float64") for g in gs])
        held = {"params": variables, **{k: vars(optimizer).get(k, []) for k in HELD}}
        history.append({k: [v.numpy().tolist() for v in values] for k, values in held.items()})
    return history


def matched_walks() -> dict[str, list]:
    """For each rule that matches Keras, the variants and where Keras' own optimizer goes with them."""
    walks: dict[str, list] = {}
    for rule in matches.matched("keras"):
        theirs = getattr(keras.optimizers, spelling(rule))
        for hyper in matches.variants(rule, "keras", KERAS.spelled(rule.fields), theirs):
            walks.setdefault(rule.name, []).append([hyper, walk(rule(match="keras", **hyper), hyper, theirs)])
    return walks


def walk(rule: Rule, hyper: dict, theirs: type) -> list:
    """Keras' parameters after each step."""
    variables = [keras.Variable(p, dtype="float64") for p in matches.parameters()]
    optimizer, path = theirs(**matches.arguments(rule, hyper, KERAS)), []
    optimizer.build(variables)
    for t, grads in enumerate(matches.gradients()):
        if t == matches.HALVED:
            optimizer.learning_rate = float(optimizer.learning_rate) / 2
        optimizer.apply([keras.ops.convert_to_tensor(g, dtype="float64") for g in grads])
        path.append([v.numpy().tolist() for v in variables])
    return path


if __name__ == "__main__":
    keras.config.set_floatx("float64")  # else even the learning rate would be kept in float32
    work = sys.argv[1]
    made = matched_walks() if work == "matches" else [run(name, options) for name, options in json.loads(work)]
    json.dump(made, sys.stdout)
