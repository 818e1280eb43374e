"""Estimates of the curvature between steps: they change that memory and nothing else."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from scirs2_adapters.jax import sophiag
from scirs2_adapters.torch import AdamW, SophiaG
from tests.reference import sophiag as twin

START, GRADS = np.linspace(-1, 1, 12).reshape(3, 4), np.random.default_rng(0).normal(size=(6, 3, 4))
HYPER = {"learning_rate": 0.1, "batch_size": 20.0}
#: Which gradients are estimates.
ESTIMATES = (0, 3)


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
