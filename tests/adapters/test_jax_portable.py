"""JAX's states in `scirs2_adapters.state`: ours and optax's, alone and in trees of states; a state is never changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scirs2_adapters import get, state
from scirs2_adapters import jax as adapter
from scirs2_adapters.core import HostOptimizer

Tree = object
PARAMS = {"a": {"kernel": jnp.linspace(0, 1, 12).reshape(3, 4), "bias": jnp.ones(4)}, "s": jnp.ones(())}
GRADS = jax.tree.map(lambda p: jnp.sin(p + 1), PARAMS)
NAMES = ["a.bias", "a.kernel", "s"]
LABELS = {"a": {"kernel": "one", "bias": "two"}, "s": "two"}

#: An optimizer of ours or optax's with something around it.
AROUND: dict[str, Callable[[optax.GradientTransformation], optax.GradientTransformation]] = {
    "nothing": lambda tx: tx,
    "a chain": lambda tx: optax.chain(optax.clip(10.0), tx),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
    "labels": lambda tx: optax.multi_transform({"one": tx, "two": tx}, LABELS),
    "steps": lambda tx: optax.MultiSteps(tx, 1).gradient_transformation(),
}


def stepped(tx: optax.GradientTransformation, steps: int = 2) -> Tree:
    held = tx.init(PARAMS)
    for _ in range(steps):
        held = tx.update(GRADS, held, PARAMS)[1]
    return held


def alike(one: Tree, other: Tree) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert (a.dtype, a.weak_type) == (b.dtype, b.weak_type)
        assert np.array_equal(a, b)


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("make", [optax.adamw, adapter.adamw], ids=["optax", "ours"])
def test_the_state_is_found_wherever_it_stands(make: Callable[..., Tree], around: str, tmp_path: Path) -> None:
    tx = AROUND[around](make(1e-2))
    was = stepped(tx)
    state.save((tx, was), tmp_path / "s", rule="adamw")
    saved = state.describe(tmp_path / "s")
    assert sorted(saved.parameters) == NAMES
    assert {p.steps for p in saved.parameters.values()} == {2}
    fresh = tx.init(PARAMS)
    new, report = state.load(tmp_path / "s", (tx, fresh), rule="adamw")
    assert [report.converted, report.missing, report.left_over] == [{}, [], []]
    if around != "steps":  # which has counts of its own
        alike(new, was)
    alike(fresh, tx.init(PARAMS))
    alone, _ = state.load(tmp_path / "s", make(1e-2).init(PARAMS), rule="adamw")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), alone, stepped(make(1e-2)))


@pytest.mark.parametrize("options", [{"state_dtype": "bfloat16"}, {"state_dtype": "int8"}], ids=str)
def test_formats_come_back_to_the_bit(options: dict[str, str], tmp_path: Path) -> None:
    params = {"w": jnp.ones((64, 128)), "b": jnp.ones(4)}
    tx = adapter.adamw(1e-2, **options)
    _, was = tx.update(jax.tree.map(jnp.sin, params), tx.init(params), params)
    state.save((tx, was), tmp_path / "s")
    new, report = state.load(tmp_path / "s", (tx, tx.init(params)))
    assert not report.converted
    alike(new, was)
    wide, report = state.load(tmp_path / "s", (adapter.adamw(1e-2), adapter.adamw(1e-2).init(params)))
    assert "w/exp_avg" in report.converted
    alike(wide, jax.tree.map(lambda x: x, wide))


def test_a_schedule_s_count_goes_on(tmp_path: Path) -> None:
    tx = optax.adamw(optax.linear_schedule(1.0, 0.0, 10))
    was = stepped(tx, 4)
    state.save(was, tmp_path / "s", rule="adamw")
    new, _ = state.load(tmp_path / "s", tx.init(PARAMS), rule="adamw")
    alike(new, was)


def test_a_state_that_two_formulas_may_have_written_needs_a_rule(tmp_path: Path) -> None:
    tx = optax.rmsprop(1e-2, momentum=0.9)
    was = stepped(tx)
    with pytest.raises(ValueError, match='match="optax"'):
        state.save(was, tmp_path / "s", rule="rmsprop")
    with pytest.raises(TypeError, match="name of the optimizer"):
        state.save(was, tmp_path / "s")
    state.save((tx, was), tmp_path / "s", rule="rmsprop")
    assert state.describe(tmp_path / "s").match == "optax"
    host = HostOptimizer(get("rmsprop")(momentum=0.9, match="optax"), {n: np.ones(1, np.float32) for n in ("x",)})
    with pytest.raises(ValueError, match="in the file only"):
        state.load(tmp_path / "s", host)
    new, _ = state.load(tmp_path / "s", (tx, tx.init(PARAMS)), rule="rmsprop")
    alike(new, was)


def test_what_is_not_the_optimizer_s_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="must hold the state of lion"):
        state.save(stepped(optax.adamw(1e-2)), tmp_path / "s", rule="lion")
    with pytest.raises(ValueError, match="factored state"):
        state.save(stepped(optax.adafactor()), tmp_path / "s", rule=get("adafactor")(match="optax"))
    with pytest.raises(ValueError, match="one memory for each parameter"):
        state.save(stepped(optax.chain(optax.adam(1.0), optax.adam(1.0))), tmp_path / "s", rule="adam")
    assert list(tmp_path.iterdir()) == []


def test_parameters_that_have_stepped_apart_are_refused(tmp_path: Path) -> None:
    host = HostOptimizer(
        "adamw", {n: np.ones(p.shape, np.float32) for n, p in zip(NAMES, [*jax.tree.leaves(PARAMS)], strict=True)}
    )
    host.step({n: np.ones_like(p) for n, p in host.params.items()})
    host.step({"s": np.ones((), np.float32)})
    state.save(host, tmp_path / "s")
    tx = adapter.adamw(1e-2)
    with pytest.raises(ValueError, match="same number of steps"):
        state.load(tmp_path / "s", (tx, tx.init(PARAMS)))


def test_skipped_steps_go_on(tmp_path: Path) -> None:
    tx = adapter.adamw(1e-2, skip_nonfinite=True)
    held = stepped(tx)
    _, held = tx.update(jax.tree.map(lambda g: g * jnp.nan, GRADS), held, PARAMS)
    state.save((tx, held), tmp_path / "s")
    assert state.describe(tmp_path / "s").skipped_steps == 1
    new, _ = state.load(tmp_path / "s", (tx, tx.init(PARAMS)))
    assert int(new.total_notfinite) == 1


def test_rows_become_columns_where_a_kernel_is_turned(tmp_path: Path) -> None:
    """Which has to be seen from the rows and columns themselves: a state does not say how a parameter is shaped."""
    host = HostOptimizer("adafactor", {"weight": np.ones((2, 3), np.float32)}, kernel="traced")
    host.step({"weight": np.arange(6, dtype=np.float32).reshape(2, 3)})
    state.save(host, tmp_path / "s")
    tx = adapter.adafactor()
    fresh = tx.init({"kernel": jnp.ones((3, 2))})
    new, _ = state.load(tmp_path / "s", (tx, fresh), rename={"weight": "kernel"})
    assert np.array_equal(new.slots["row_var"]["kernel"], host.state["weight"]["col_var"].T)
    assert np.array_equal(new.slots["col_var"]["kernel"], host.state["weight"]["row_var"].T)
