"""A run of a network that goes from torch to JAX, to Keras and back to torch walks as one that stays in torch: with
kernels of dense layers and convolutions, fused queries, keys and values, embeddings and norms, and all their slots.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scirs2_adapters import state

from .cells import TOLERANCES
from .continued import RUNS, Weights, first_weights, renamed

#: The network, the optimizer, and how many steps each framework takes.
CASES = [
    ("mlp", "adamw", 100), ("cnn", "adamw", 100), ("transformer", "adamw", 100), ("transformer", "adafactor", 20),
    ("cnn", "soap", 12),
]  # fmt: skip
RATE = 1e-2


def distance(a: Weights, b: Weights) -> float:
    return float(np.sqrt(sum(np.sum((a[n].astype(float) - b[n]) ** 2) for n in a)))


@pytest.mark.parametrize(("kind", "rule", "steps"), CASES)
def test_a_network_goes_on_in_other_frameworks(
    kind: str, rule: str, steps: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    wanted = str(request.config.getoption("--adapters")).split(",")
    stops = [name for name in ("torch", "jax", "tf", "torch") if name in wanted]
    start = first_weights(kind)
    if "torch" not in stops or len(stops) < 3:
        pytest.skip("it goes from torch to another framework and back, and one of the two is not driven")
    alone, forgetful = (RUNS["torch"](kind, start, rule, RATE) for _ in range(2))
    weights, last = start, ""
    for place, framework in enumerate(stops):
        run = RUNS[framework](kind, weights, rule, RATE)
        if last:
            there, here = renamed(kind, last), renamed(kind, framework)
            run.load(tmp_path / "state", {full(last, there[n], tmp_path): here[n] for n in there})
            forgetful = RUNS["torch"](kind, forgetful.weights(), rule, RATE)
        for step in range(place * steps, (place + 1) * steps):
            for each in (run, alone, forgetful):
                each.step(step)
        weights, last = run.weights(), framework
        run.save(tmp_path / "state")
    moved = distance(alone.weights(), start)
    print(f"{kind}, {rule}: {distance(weights, alone.weights()) / moved:.1e} of the way apart")
    print(f"and {distance(forgetful.weights(), alone.weights()) / moved:.1e} where each begins with empty memory")
    assert distance(weights, alone.weights()) <= TOLERANCES["float32"] * moved
    assert distance(forgetful.weights(), alone.weights()) >= 1e-2 * moved


def full(framework: str, name: str, folder: Path) -> str:
    """The name of a parameter in the file: Keras' begin with what stands around a layer."""
    if framework != "tf":
        return name
    return next(n for n in state.describe(folder / "state").parameters if n == name or n.endswith(f"/{name}"))
