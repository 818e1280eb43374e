"""Estimates of the curvature between steps: they change that memory and nothing else."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import scirs2_adapters as s2
from scirs2_adapters import jax as adapter
from scirs2_adapters.core import HostOptimizer, Wrapper
from scirs2_adapters.core.registry import with_closure
from scirs2_adapters.jax import sophiag
from scirs2_adapters.torch import AdamW, Lookahead, SophiaG
from tests.reference import sophiag as twin

START, GRADS = np.linspace(-1, 1, 12).reshape(3, 4), np.random.default_rng(0).normal(size=(6, 3, 4))
HYPER = {"learning_rate": 0.1, "batch_size": 20.0}
#: Which gradients are estimates.
ESTIMATES = (0, 3)

WRAPPERS = [n for n in s2.names() if issubclass(s2.get(n), Wrapper)]
AROUND = [n for n in with_closure() if issubclass(s2.get(n), Wrapper)]


def wanted() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    x, slots = START, dict[str, np.ndarray]()
    for t, g in enumerate(GRADS):
        x, slots = twin.step(t + 1, x, g, slots, estimating=t in ESTIMATES, **HYPER)
    return x, slots


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("options", [{}, {"kernel": "traced"}, {"max_grad_norm": 100.0}])
def test_update_hessian_is_the_estimate_between_steps(options: dict[str, object], compiled: bool) -> None:
    p = torch.nn.Parameter(torch.tensor(START))
    optimizer = SophiaG([p], lr=0.1, batch_size=20.0, **options)
    estimate, step = lambda: optimizer.update_hessian(), lambda: optimizer.step()
    if compiled:
        estimate, step = torch.compile(estimate, backend="eager"), torch.compile(step, backend="eager")
    for t, g in enumerate(GRADS):
        p.grad = torch.tensor(g)
        (estimate if t in ESTIMATES else step)()
    x, slots = wanted()
    np.testing.assert_allclose(p.detach().numpy(), x, rtol=0, atol=1e-14)
    for name, slot in slots.items():
        np.testing.assert_allclose(optimizer.state[p][name].numpy(), slot, rtol=0, atol=1e-14)


def test_update_hessian_takes_gradients_as_they_are_and_leaves_all_else() -> None:
    p = torch.nn.Parameter(torch.tensor(START))
    optimizer = SophiaG([p], lr=0.1, max_grad_norm=1e-3)
    p.grad = torch.tensor(GRADS[0])
    optimizer.step()
    before, average, group = p.detach().clone(), optimizer.state[p]["exp_avg"].clone(), dict(optimizer.param_groups[0])
    p.grad = torch.tensor(GRADS[1])
    optimizer.update_hessian()
    assert torch.equal(p, before)
    assert torch.equal(optimizer.state[p]["exp_avg"], average)
    np.testing.assert_allclose(optimizer.state[p]["hessian"].numpy(), 0.01 * GRADS[1] ** 2, rtol=1e-14)
    assert optimizer.param_groups[0] == group


def test_an_estimate_that_fails_leaves_the_next_step_a_step() -> None:
    p = torch.nn.Parameter(torch.tensor(START))
    optimizer = SophiaG([p])
    p.grad = torch.tensor(GRADS[0]).to_sparse()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.update_hessian()
    assert optimizer.param_groups[0]["estimating"] is False
    assert not hasattr(AdamW, "update_hessian")


def test_two_transformations_share_one_state() -> None:
    with jax.enable_x64(True):
        tx, estimating = (sophiag(0.1, batch_size=20.0, estimating=e) for e in (False, True))
        params, state = jnp.asarray(START), tx.init(jnp.asarray(START))
        assert jax.tree.structure(state) == jax.tree.structure(estimating.init(params))
        for t, g in enumerate(GRADS):
            updates, state = (estimating if t in ESTIMATES else tx).update(jnp.asarray(g), state, params)
            params = params + updates
        np.testing.assert_allclose(np.asarray(params), wanted()[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", [*WRAPPERS, *AROUND])
def test_no_wrapper_sees_an_estimate_in_torch(name: str) -> None:
    p = torch.nn.Parameter(torch.tensor(START))
    optimizer = getattr(s2.torch, s2.get(name).__name__)([p], base="sophiag", lr=0.1, kernel="traced")
    p.grad = torch.tensor(GRADS[0])
    optimizer.step(*[lambda: torch.tensor(0.0)] * (name in AROUND))
    before = p.detach().clone(), {k: x.clone() for k, x in optimizer.state[p].items()}, dict(optimizer.param_groups[0])
    p.grad = torch.tensor(GRADS[1])
    optimizer.update_hessian()
    assert torch.equal(p, before[0])
    np.testing.assert_allclose(optimizer.state[p]["hessian"].numpy(), 0.01 * GRADS[1] ** 2, rtol=1e-14)
    assert optimizer.state[p].keys() == before[1].keys() > {"hessian", "step"}
    for slot, x in before[1].items():
        assert slot == "hessian" or torch.equal(optimizer.state[p][slot], x), slot
    assert optimizer.param_groups[0] == before[2]


@pytest.mark.parametrize("name", WRAPPERS)
def test_no_wrapper_sees_an_estimate_in_numpy(name: str) -> None:
    optimizer = HostOptimizer(s2.get(name)("sophiag", learning_rate=0.1), {"w": START.copy()}, kernel="traced")
    optimizer.step({"w": GRADS[0]})
    before = optimizer.params["w"].copy(), optimizer.state_dict()
    optimizer.replace(estimating=True)
    optimizer.step({"w": GRADS[1]})
    optimizer.replace(estimating=False)
    np.testing.assert_array_equal(optimizer.params["w"], before[0])
    np.testing.assert_allclose(optimizer.state["w"].pop("hessian"), 0.01 * GRADS[1] ** 2, rtol=1e-14)
    for slot, x in optimizer.state["w"].items():
        np.testing.assert_array_equal(x, before[1]["state"]["w"][slot], err_msg=slot)
    assert (optimizer.model, optimizer.steps["w"], optimizer.step_count) == (before[1]["model"], 1, 1)


@pytest.mark.parametrize("name", ["lookahead", "mechanize", "swa"])
def test_no_wrapper_sees_an_estimate_in_jax(name: str) -> None:
    with jax.enable_x64(True):
        make = getattr(adapter, name)
        tx, estimating = (make(0.1, base="sophiag", estimating=e, kernel="traced") for e in (False, True))
        params, state = jnp.asarray(START), tx.init(jnp.asarray(START))
        _, state = tx.update(jnp.asarray(GRADS[0]), state, params)
        updates, after = estimating.update(jnp.asarray(GRADS[1]), state, params)
        assert not np.any(updates)
        np.testing.assert_allclose(after.slots.pop("hessian"), 0.01 * GRADS[1] ** 2, rtol=1e-14)
        assert state.slots.pop("hessian") is not None
        jax.tree.map(np.testing.assert_array_equal, after, state)


def test_a_wrapper_around_what_takes_no_estimates_says_so() -> None:
    optimizer = Lookahead([torch.nn.Parameter(torch.tensor(START))], base="adamw")
    with pytest.raises(ValueError, match=r'`Lookahead\(base=...\)` must be .* such as "sophiag". Received: \'adamw\''):
        optimizer.update_hessian()
