"""`RepeatedStep` takes the steps of `HostOptimizer`, bit for bit, whatever comes between two of its own."""

import weakref
from typing import Any

import numpy as np
import pytest

from scirs2_adapters.core import HostOptimizer, schedules
from scirs2_adapters.core.numpy_executors import KernelExecutor
from scirs2_adapters.core.numpy_repeated import RepeatedStep

SHAPES = {"w": (5, 3), "b": (3,), "empty": (0, 2)}
#: Elementwise; with sums over a tensor; with numbers of the model; with a step of its own for each tensor; of the loss.
RULES = ["adamw", "lamb", "prodigy", "rprop", "momo"]


def arrays(seed: int, dtype: str = "float32") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in SHAPES.items()}


def pair(rule: str, **options: Any) -> tuple[HostOptimizer, HostOptimizer]:
    return HostOptimizer(rule, arrays(0), **options), HostOptimizer(rule, arrays(0), **options)


def assert_same(ours: HostOptimizer, plain: HostOptimizer) -> None:
    a, b = ours.state_dict(), plain.state_dict()
    assert {k: a[k] for k in ("steps", "step_count", "skipped_steps") if k in a} == {
        k: b[k] for k in ("steps", "step_count", "skipped_steps") if k in b
    }
    for name, p in plain.params.items():
        np.testing.assert_array_equal(ours.params[name], p, strict=True)
        for slot, x in plain.state.get(name, {}).items():
            np.testing.assert_array_equal(ours.state[name][slot], x, strict=True)
    assert ours.model == plain.model


@pytest.mark.parametrize("kernel", ["auto", "traced"])
@pytest.mark.parametrize("rule", RULES)
def test_steps_have_the_same_bits(rule: str, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, plain = pair(rule, kernel=kernel)
    repeated, grads, looked = RepeatedStep(ours), arrays(1), []
    write = KernelExecutor._write_addresses
    monkeypatch.setattr(KernelExecutor, "_write_addresses", lambda self, x: looked.append(self) or write(self, x))
    for step in range(6):
        for name, g in arrays(step + 2).items():
            grads[name][...] = g
        repeated.step(grads, 0.5 + step)
        plain.step({name: g.copy() for name, g in grads.items()}, 0.5 + step)
    assert_same(ours, plain)
    by_ours = [executor for executor in looked if executor is ours._executor]
    assert len(by_ours) == (1 if kernel == "auto" else 0)  # the arrays are looked at once


def test_anything_may_come_between() -> None:
    groups = [{"params": ["b"], "weight_decay": 0.0, "learning_rate_factor": 0.5}]
    ours, plain = pair("adamw", skip_nonfinite=True, groups=groups, learning_rate=schedules.Cosine(0.1, steps=20))
    repeated, grads = RepeatedStep(ours), arrays(1)

    def both(gradients: dict[str, np.ndarray]) -> None:
        repeated.step(gradients)
        plain.step(gradients)

    both(grads)
    both(grads)
    assert repeated._is_last(grads)
    grads["b"][1] = np.nan  # is skipped, and counted
    both(grads)
    grads["b"][1] = 0.25
    both(grads)
    others = arrays(7)  # other arrays, also by a step of the optimizer itself
    both(others)
    for optimizer in (ours, plain):
        optimizer.step(grads)
    both(others)
    both({"w": grads["w"]})  # one parameter alone, whose count then differs from the others'
    both({"w": grads["w"]})
    both(grads)
    both(dict(reversed(grads.items())))
    saved = plain.state_dict()
    for optimizer in (ours, plain):
        optimizer.load_state_dict(saved)
    both(grads)
    both(grads)
    assert ours.skipped_steps == 1
    assert_same(ours, plain)


def test_the_learning_rate_may_change() -> None:
    ours, plain = pair("adamw")
    repeated, grads = RepeatedStep(ours), arrays(1)
    for rate in (0.1, 0.02, 0.3):
        for optimizer in (ours, plain):
            optimizer.set_learning_rate(rate)
        repeated.step(grads)
        plain.step(grads)
    assert_same(ours, plain)


@pytest.mark.parametrize("kind", ["strided", "wider"])
def test_gradients_that_a_kernel_cannot_walk_are_read_at_each_step(kind: str) -> None:
    ours, plain = pair("adamw")
    repeated, grads = RepeatedStep(ours), arrays(1)
    grads["w"] = np.zeros((3, 5), np.float32).T if kind == "strided" else np.zeros((5, 3), np.float64)
    for step in range(3):
        grads["w"][...] = arrays(step)["w"]
        repeated.step(grads)
        plain.step(grads)
    assert_same(ours, plain)


def test_no_gradient_lives_longer_than_its_step() -> None:
    repeated = RepeatedStep(HostOptimizer("adamw", {"w": np.ones(1000)}))
    gradient = np.ones(1000)
    kept = weakref.ref(gradient)
    for _ in range(3):
        repeated.step({"w": gradient})
    del gradient
    assert kept() is None
