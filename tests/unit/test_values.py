"""Optimizers whose step depends on the loss: listed apart, given the loss with each step, and refused without it."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from scirs2_adapters.core import SAM, AdamW, HostOptimizer, Lookahead, Rule, get, names
from scirs2_adapters.core.fields import fraction
from scirs2_adapters.core.registry import with_closure, with_value

from .host_support import Params, assert_same, params

each = pytest.mark.parametrize("name", with_value())
both_paths = pytest.mark.parametrize("kernel", ["host", "traced"])


def loss_and_grads(at: Params) -> tuple[float, Params]:
    """Of a paraboloid whose minimum is 0."""
    to = params(9)
    return float(sum(((at[k] - to[k]) ** 2).sum() for k in at)), {k: 2 * (at[k] - to[k]) for k in at}


def walk(optimizer: HostOptimizer, steps: int, sign: float = 1.0) -> list[float]:
    losses = []
    for _ in range(steps):
        loss, grads = loss_and_grads(dict(optimizer.params))
        optimizer.step({k: sign * g for k, g in grads.items()}, value=sign * loss)
        losses.append(loss)
    return losses


def made(name: str, **options: Any) -> HostOptimizer:
    return HostOptimizer(get(name)(learning_rate=0.1), params(), **options)


def test_they_are_found_by_name_and_listed_apart() -> None:
    assert with_value() == ("momo", "momoadam", "polyaksgd")
    assert not {*with_value()} & {*names(), *with_closure()}
    assert all(get(name).needs_value for name in with_value())
    assert not any(get(name).needs_value for name in (*names(), *with_closure()))


@each
@both_paths
def test_the_loss_falls(name: str, kernel: str) -> None:
    losses = walk(made(name, kernel=kernel), 60)
    assert losses[-1] < losses[0] / 2


@each
@pytest.mark.parametrize("value", [None, "1.0", np.ones(2), [1.0], 1j, np.asarray(1j)], ids=repr)
def test_a_step_without_the_loss_is_refused_and_changes_nothing(name: str, value: Any) -> None:
    optimizer, untouched = made(name), made(name)
    walk(optimizer, 2)
    walk(untouched, 2)
    with pytest.raises(TypeError, match=rf"`HostOptimizer.step\(value=...\)` must be the loss .*{name} depends on it"):
        optimizer.step(loss_and_grads(params())[1], value=value)
    assert_same(optimizer, untouched)


@each
@pytest.mark.parametrize("kind", [float, np.float32, np.asarray, np.atleast_1d], ids=lambda kind: kind.__name__)
def test_the_loss_may_be_a_number_of_any_kind(name: str, kind: Any) -> None:
    optimizer, other = made(name), made(name)
    grads = loss_and_grads(params())[1]
    optimizer.step(grads, value=kind(0.25))
    other.step(grads, value=0.25)
    assert_same(optimizer, other)


def test_to_others_the_loss_is_of_no_use() -> None:
    grads, optimizers = loss_and_grads(params())[1], [HostOptimizer(AdamW(), params()) for _ in range(2)]
    optimizers[0].step(grads)
    optimizers[1].step(grads, value=7.0)
    assert_same(*optimizers)


@each
@both_paths
def test_to_maximize_is_to_minimize_the_negative(name: str, kernel: str) -> None:
    up = HostOptimizer(get(name)(learning_rate=0.1, maximize=True), params(), kernel=kernel)
    down = made(name, kernel=kernel)
    walk(up, 5, sign=-1.0)
    walk(down, 5)
    assert_same(up, down)


@each
def test_a_wrapper_hands_the_loss_on(name: str) -> None:
    alone, wrapped = made(name), HostOptimizer(Lookahead(name, learning_rate=0.1, sync_period=100), params())
    assert walk(alone, 5) == walk(wrapped, 5)
    with pytest.raises(TypeError, match="depends on it"):
        wrapped.step(params())


@each
def test_what_takes_the_gradient_elsewhere_refuses_them(name: str) -> None:
    with pytest.raises(ValueError, match=r"`SAM\(base=...\)` must be an optimizer whose step does not depend on"):
        SAM(name)


@each
@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_is_skipped_where_that_is_asked_for(name: str, loss: float) -> None:
    optimizer = made(name, skip_nonfinite=True)
    optimizer.step(params(1), value=loss)
    assert optimizer.skipped_steps == 1
    assert all(np.array_equal(p, q) for p, q in zip(optimizer.params.values(), params().values(), strict=True))
    optimizer.step(params(1), value=1.0)
    assert optimizer.steps == dict.fromkeys(params(), 1)


@each
@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
def test_training_goes_on_from_a_copy_and_from_saved_memory(name: str, again: Any) -> None:
    optimizer = made(name)
    walk(optimizer, 3)
    twin, other = again(optimizer), made(name)
    for k, p in other.params.items():
        p[...] = optimizer.params[k]
    other.load_state_dict(optimizer.state_dict())
    walk(optimizer, 3)
    for one in (twin, other):
        walk(one, 3)
        assert_same(one, optimizer)


@each
@both_paths
def test_no_gradient_is_no_step(name: str, kernel: str) -> None:
    """Where there is nothing to divide by, nothing moves."""
    optimizer = HostOptimizer(get(name)(), params(), kernel=kernel)
    optimizer.step({k: np.zeros_like(p) for k, p in params().items()}, value=1.0)
    assert all(np.array_equal(p, q) for p, q in zip(optimizer.params.values(), params().values(), strict=True))


@each
@both_paths
def test_a_gradient_that_is_not_a_number_is_seen(name: str, kernel: str) -> None:
    optimizer = made(name, kernel=kernel)
    optimizer.step({k: p * np.nan for k, p in params().items()}, value=1.0)
    assert all(np.isnan(p).all() for p in optimizer.params.values())


def test_any_rule_whose_formula_takes_the_loss_is_given_it() -> None:
    class ByLoss(Rule):
        """A gradient times the loss. Paper: none. Differs from the paper: nothing."""

        part = fraction(0.5, "part of it")

        def coefficients(self, math: Any, t: Any) -> dict[str, Any]:
            return {}

        def update(self, xp: Any, p: Any, g: Any, /, value: Any, part: Any) -> Any:
            return part * value * g

    array = {"w": np.ones(3)}
    HostOptimizer(ByLoss(), array).step({"w": np.ones(3)}, value=0.5)
    np.testing.assert_array_equal(array["w"], 0.75)
