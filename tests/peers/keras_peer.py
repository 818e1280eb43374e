"""Runs Keras optimizers and prints their trajectories as JSON: `python -m tests.peers.keras_peer '[["Lion", {}]]'`.

A process of its own: Keras settles its backend and default float type once, and other tests want other ones.
"""

from __future__ import annotations

import json
import os
import sys

os.environ["KERAS_BACKEND"] = "torch"

import keras

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


if __name__ == "__main__":
    keras.config.set_floatx("float64")  # else even the learning rate would be kept in float32
    json.dump([run(name, options) for name, options in json.loads(sys.argv[1])], sys.stdout)
