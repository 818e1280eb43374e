"""Shampoo where the conformance tests do not lead it: each grafting, sums, one side alone, few gradients."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from scirs2_adapters.core import AdamW, HostOptimizer, Shampoo
from scirs2_adapters.core.eigenbases import gram_power
from scirs2_adapters.core.step.reference import NUMPY
from tests.reference import reference

EARLY = {"start_preconditioning_step": 1, "precondition_frequency": 1}
OPTIONS = [
    {"grafting": grafting, **betas, **side}
    for grafting, betas, side in itertools.product(
        ("adam", "rmsprop", "sgd", "none"),
        ({}, {"beta1": 0.0, "beta2": 1.0, "grafting_beta2": 1.0}),
        ({}, {"max_precond_dim": 4}, {"max_precond_dim": 2}),
    )
]
#: Compiling takes a second each.
CASES = [(options, "traced") for options in OPTIONS] + [(options, "host") for options in OPTIONS[::5]]
KERNELS = pytest.mark.parametrize("kernel", ["host", "traced"])
FLOATS = pytest.mark.parametrize("dtype", ["float64", "float32"])


def shown(case: Any) -> str:
    """A readable test name."""
    return case if isinstance(case, str) else ",".join(f"{k}={v}" for k, v in case.items())


def walked(rule: Any, start: np.ndarray, gradients: np.ndarray, kernel: str = "traced") -> tuple[np.ndarray, Any]:
    """The parameter after these steps, and its memory."""
    params = {"w": start.copy()}
    optimizer = HostOptimizer(rule, params, kernel=kernel)
    for gradient in gradients:
        optimizer.step({"w": gradient})
    return params["w"], optimizer.state["w"]


@pytest.mark.parametrize(("options", "kernel"), CASES, ids=shown)
def test_options_walk_like_the_twin(options: dict[str, Any], kernel: str) -> None:
    """Roots are first made of 8 gradients, when all Gram matrices have full rank."""
    options = {"learning_rate": 0.1, "start_preconditioning_step": 8, "precondition_frequency": 3, **options}
    rng = np.random.default_rng(0)
    start, gradients = rng.standard_normal((3, 6)), rng.standard_normal((20, 3, 6)) + 0.5
    ours, memory = walked(Shampoo(**options), start, gradients, kernel)
    path, states = reference("shampoo")([start], [[g] for g in gradients], hyper=options)
    np.testing.assert_allclose(ours, path[-1][0], rtol=0, atol=1e-12)
    assert memory.keys() == states[-1]["leaves"][0].keys()
    for name, slot in states[-1]["leaves"][0].items():
        np.testing.assert_allclose(memory[name], slot, rtol=1e-10, atol=1e-12)


@KERNELS
@FLOATS
@pytest.mark.parametrize("shape", [(3, 7), (7, 3)], ids=str)
def test_the_first_step_is_the_gradient_made_orthogonal(shape: tuple[int, int], dtype: str, kernel: str) -> None:
    """(G G^T)^(-1/4) G (G^T G)^(-1/4) has the singular vectors of G, and singular values of 1: however many eigenvalues
    are 0 there, nothing of the gradient lies along them.
    """
    gradient = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    rule = Shampoo(learning_rate=1.0, grafting="none", **EARLY)
    moved, _ = walked(rule, np.zeros(shape, dtype), gradient[None], kernel)
    u, _, v = np.linalg.svd(gradient, full_matrices=False)
    np.testing.assert_allclose(-moved, u @ v, atol=1e-4)


@FLOATS
@pytest.mark.parametrize("size", [1e-12, 1e12])
def test_the_size_of_gradients_does_not_matter(size: float, dtype: str) -> None:
    rng = np.random.default_rng(0)
    start, gradients = np.zeros((5, 4), dtype), rng.standard_normal((12, 5, 4)).astype(dtype)
    rule = Shampoo(grafting="none", learning_rate=1.0, **EARLY)
    one, _ = walked(rule, start, gradients)
    other, _ = walked(rule, start, gradients * np.dtype(dtype).type(size))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-3 * np.abs(one).max())


def test_a_step_is_as_long_as_adamws_and_a_vector_takes_adamws() -> None:
    rng = np.random.default_rng(0)
    for shape in ((4, 6), (6,)):
        gradients = rng.standard_normal((15, *shape))
        ours = [walked(Shampoo(), np.zeros(shape), gradients[:n])[0] for n in (14, 15)]
        theirs = [walked(AdamW(weight_decay=0.0), np.zeros(shape), gradients[:n])[0] for n in (14, 15)]
        step, right = ours[1] - ours[0], theirs[1] - theirs[0]
        np.testing.assert_allclose(np.linalg.norm(step), np.linalg.norm(right), rtol=1e-12)
        assert np.allclose(step, right, atol=1e-15) == (len(shape) == 1)


@FLOATS
@pytest.mark.parametrize("options", [{}, {"grafting": "none"}, {"grafting": "sgd"}], ids=str)
def test_gradients_of_zero_move_nothing_and_leave_memory_finite(options: dict[str, Any], dtype: str) -> None:
    start = np.ones((4, 3), dtype)
    moved, memory = walked(Shampoo(**EARLY, **options), start, np.zeros((3, 4, 3), dtype))
    np.testing.assert_array_equal(moved, start)
    assert all(np.isfinite(slot).all() for slot in memory.values())


def test_a_root_that_is_not_there_is_made_when_others_are_and_not_at_their_next_turn() -> None:
    gram, options = np.diag([4.0, 1.0]), (1.0, 0.0, -0.5)
    made = gram_power(NUMPY, np.zeros((2, 2)), gram, 1.0, 1.0, *options)
    np.testing.assert_allclose(made, np.diag([0.5, 1.0]))
    for old, ready, wanted in ((0 * made, 1.0, made), (0 * made, 0.0, 0 * made), (2 * made, 1.0, 2 * made)):
        np.testing.assert_array_equal(gram_power(NUMPY, old, gram, 0.0, ready, *options), wanted)
