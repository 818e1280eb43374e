"""The slow twins against Keras, where Keras' formula is the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .problem import WALK, Case, Record, compare, named

CASES = [
    Case(
        "decay",
        "lion",
        {"beta1": 0.8, "weight_decay": 0.1},
        "Lion",
        {"learning_rate": 1e-4, "beta_1": 0.8, "beta_2": 0.99, "weight_decay": 0.1},
    ),
    # Keras takes the decay out of the trust ratio, so only the undecayed formula is the same.
    Case("plain", "lamb", {"eps": 1e-7}, "Lamb", {"learning_rate": 1e-3}),
    # Keras adds eps under the root, so only without it is the formula the same.
    Case(
        "without eps",
        "adagrad",
        {"learning_rate": 1e-3, "initial_accumulator_value": 0.1, "eps": 0.0},
        "Adagrad",
        {"epsilon": 0.0},
    ),
    Case("defaults", "adadelta", {"learning_rate": 1e-3, "decay_rate": 0.95, "eps": 1e-7}, "Adadelta", {}),
    Case("options", "lamb", {"beta1": 0.5, "beta2": 0.7}, "Lamb", {"beta_1": 0.5, "beta_2": 0.7, "epsilon": 1e-6}),
]
SLOTS = {"exp_avg": "_momentums", "exp_avg_sq": "_velocities", "sum": "_accumulators"}
SLOTS |= {"square_avg": "_accumulated_grads", "acc_delta": "_accumulated_delta_vars"}


@pytest.fixture(scope="module")
def histories() -> dict[str, list[dict]]:
    """What Keras does in each case, from one process because starting it takes seconds."""
    work = json.dumps([[case.peer, case.options] for case in CASES])
    command = [sys.executable, "-m", "tests.peers.keras_peer", work]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    return dict(zip(map(named, CASES), json.loads(done.stdout), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=named)
def test_twin_agrees_with_keras(case: Case, histories: dict[str, list[dict]], record_property: Record) -> None:
    xs, states = [], []
    for step in histories[named(case)]:
        columns = {name: step[key] for name, key in SLOTS.items() if step[key]}
        leaves = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        xs.append(step["params"])
        states.append({"leaves": leaves, "model": {}})
    record_property(WALK, (case.twin, f"keras.optimizers.{case.peer}", compare(case, (xs, states))))
