"""Kron where the conformance tests do not lead it: balancing, when factors learn, which are diagonal, few numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from scirs2_adapters.adapters._xla.ops import SCALARS as JAX_SCALARS
from scirs2_adapters.adapters.torch.ops import SCALARS as TORCH_SCALARS
from scirs2_adapters.core import Kron
from scirs2_adapters.core.matrix import INPUTS_FIRST, OUTPUTS_FIRST
from scirs2_adapters.core.ops import HOST_SCALARS
from scirs2_adapters.core.slots import Leaf
from scirs2_adapters.core.step.reference import NUMPY
from tests.reference import reference

from .matrix_walks import arrays, walked

OPTIONS: list[dict[str, Any]] = [
    {},
    {"memory_save_mode": "one_diag", "min_ndim_triangular": 1},
    {"memory_save_mode": "all_diag"},
    {"max_size_triangular": 4, "preconditioner_update_probability": 0.3},
    {"momentum_into_precond_update": False, "precond_init_scale": 4.0},
]
KERNELS = pytest.mark.parametrize("kernel", ["host", "traced"])
FLOATS = pytest.mark.parametrize("dtype", ["float64", "float32"])


def shown(options: dict[str, Any]) -> str:
    """A readable test name."""
    return ",".join(f"{k}={v}" for k, v in options.items()) or "defaults"


# ---------------------------------------------------------------- steps


@KERNELS
@pytest.mark.parametrize("options", OPTIONS, ids=shown)
def test_many_steps_walk_like_the_twin(options: dict[str, Any], kernel: str) -> None:
    """Through the 100th step, when factors are balanced: one of them has become larger than the other."""
    options = {"learning_rate": 0.01, "weight_decay": 0.1, **options}
    shapes = {"w": (3, 6), "v": (5,)}
    start, gradients = arrays(0, shapes), [arrays(seed, shapes) for seed in range(1, 103)]
    ours = walked(Kron(**options), start, gradients, kernel=kernel)
    path, states = reference("kron")(list(start.values()), [list(g.values()) for g in gradients], hyper=options)
    for k, p, slots in zip(start, path[-1], states[-1]["leaves"], strict=True):
        np.testing.assert_allclose(ours.params[k], p, rtol=0, atol=1e-11)
        assert ours.state[k].keys() == slots.keys()
        for name, slot in slots.items():
            np.testing.assert_allclose(ours.state[k][name], slot, rtol=1e-10, atol=1e-12)


def test_balanced_factors_are_as_large_as_each_other_and_of_the_same_product() -> None:
    rule, shapes = Kron(precond_lr=0.0, preconditioner_update_probability=1.0), {"w": (3, 6)}
    gradients = [arrays(seed, shapes) for seed in range(100)]
    optimizer = walked(rule, arrays(0, shapes), gradients[:99])
    memory = optimizer.state["w"]
    memory["factor_left"] *= 8.0
    before = memory["factor_left"][0, 0] * memory["factor_right"]
    optimizer.step(gradients[99])
    sizes = [np.max(np.abs(memory[k])) for k in ("factor_left", "factor_right")]
    np.testing.assert_allclose(sizes, [8**0.5, 8**0.5], rtol=1e-14)
    np.testing.assert_allclose(memory["factor_left"][0, 0] * memory["factor_right"], before, rtol=1e-14)


def test_preconditioned_gradients_are_white_noise() -> None:
    """Of gradients L Z R with independent numbers Z, and therefore of rows and columns that are correlated."""
    rng = np.random.default_rng(0)
    left, right = (np.eye(n) + 0.8 * rng.standard_normal((n, n)) for n in (4, 3))
    gradients = [{"w": left @ rng.standard_normal((4, 3)) @ right} for _ in range(1500)]
    rule = Kron(beta1=0.0, precond_lr=0.02, preconditioner_update_probability=1.0, learning_rate=0.0)
    memory = walked(rule, {"w": np.zeros((4, 3))}, gradients, kernel="traced").state["w"]
    p, q = (memory[f"factor_{side}"].T @ memory[f"factor_{side}"] for side in ("left", "right"))

    def covariance(steps: list[np.ndarray]) -> np.ndarray:
        return np.cov([s.ravel() for s in steps], rowvar=False)

    raw = covariance([g["w"] for g in gradients])
    made = covariance([p @ g["w"] @ q for g in gradients])
    assert np.linalg.cond(raw) > 100
    assert np.max(np.abs(made - np.eye(12))) < 0.3


@KERNELS
@FLOATS
@pytest.mark.parametrize("size", [1e-30, 1e18])
def test_the_size_of_gradients_leaves_memory_finite_and_steps_bounded(size: float, dtype: str, kernel: str) -> None:
    """Though squares of float32 would not be: they would be 0, or infinite in a product of both sides."""
    shapes = {"w": (5, 4), "v": (6,)}
    gradients = [{k: (size * x).astype(dtype) for k, x in arrays(seed, shapes).items()} for seed in range(30)]
    start = {k: np.zeros(shape, dtype) for k, shape in shapes.items()}
    optimizer = walked(Kron(learning_rate=1.0), start, gradients, kernel=kernel)
    for k, p in optimizer.params.items():
        assert all(np.isfinite(slot).all() for slot in optimizer.state[k].values())
        assert np.sqrt(np.mean(p * p)) <= 1.1 * 30


@KERNELS
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_normalized_gradients_have_one_length(size: float, kernel: str) -> None:
    """As they are before all else, so that no size of theirs is seen; those of zeros stay zeros."""
    shapes = {"w": (5, 4), "v": (6,), "still": (3, 2)}
    gradients = [arrays(seed, shapes) | {"still": np.zeros((3, 2))} for seed in range(10)]
    start = arrays(99, shapes)
    scaled = [{k: size * x for k, x in grads.items()} for grads in gradients]
    optimizer = walked(Kron(normalize_grads=True), start, scaled, kernel=kernel)
    units = [{k: x / max(np.linalg.norm(x), 1e-300) for k, x in grads.items()} for grads in gradients]
    wanted = walked(Kron(), start, units, kernel=kernel)
    for k, p in wanted.params.items():
        np.testing.assert_allclose(optimizer.params[k], p, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(optimizer.params["still"], start["still"])


@KERNELS
@FLOATS
def test_gradients_of_zeros_move_nothing_and_teach_nothing(dtype: str, kernel: str) -> None:
    """A factor that grew by a tenth a step would be infinite before the 1,000th."""
    start = {"w": np.ones((4, 3), dtype), "v": np.ones(3, dtype)}
    zeros = {k: np.zeros_like(p) for k, p in start.items()}
    optimizer = walked(Kron(), start, [zeros] * 5, kernel=kernel)
    for k, p in start.items():
        np.testing.assert_array_equal(optimizer.params[k], p)
    np.testing.assert_array_equal(optimizer.state["w"]["factor_left"], np.eye(4))
    np.testing.assert_array_equal(optimizer.state["v"]["diagonal_right"], np.ones((3, 1)))


def test_a_gradient_that_fades_leaves_memory_finite() -> None:
    """Momentum falls to denormal numbers, and to 0, while factors grow as fast."""
    start = {"w": np.ones((4, 3), "float32"), "v": np.ones(3, "float32")}
    ones, zeros = ({k: np.full_like(p, value) for k, p in start.items()} for value in (1.0, 0.0))
    optimizer = walked(Kron(beta1=0.8), start, [ones] + [zeros] * 500)
    numbers = [*optimizer.params.values(), *(x for memory in optimizer.state.values() for x in memory.values())]
    assert all(np.isfinite(x).all() for x in numbers)


# ---------------------------------------------------------------- when factors learn

NAMESPACES: dict[str, Callable[[float], dict[str, Any]]] = {
    "jax": lambda t: Kron().coefficients(JAX_SCALARS, jnp.float32(t)),
    "torch": lambda t: Kron().coefficients(TORCH_SCALARS, torch.tensor(t, dtype=torch.float32)),
}


def learning_steps(rule: Kron, steps: range) -> list[int]:
    return [t for t in steps if rule.coefficients(HOST_SCALARS, t)["due"]]


def test_factors_learn_always_at_first_and_at_the_end_three_times_in_a_hundred() -> None:
    rule = Kron()
    assert learning_steps(rule, range(1, 502)) == list(range(1, 502))
    assert set(np.diff(learning_steps(rule, range(4100, 6000)))) == {34}
    between = learning_steps(rule, range(502, 4100))
    authors = sum(1 / np.ceil(np.exp((t - 501) / 1000)) for t in range(502, 4100))
    assert abs(len(between) - authors) < 0.1 * authors
    assert learning_steps(Kron(preconditioner_update_probability=0.3), range(1, 10)) == [4, 8]


@pytest.mark.parametrize("framework", NAMESPACES)
def test_the_steps_at_which_factors_learn_are_the_same_in_float32(framework: str) -> None:
    """At each step around those at which the wait grows by one."""
    waits = [501 + round(1000 * np.log(k)) for k in range(1, 35)]
    for t in sorted({t + k for t in waits for k in (-1, 0, 1)}):
        wanted, traced = Kron().coefficients(HOST_SCALARS, t), NAMESPACES[framework](t)
        assert [float(traced[k]) for k in ("due", "balanced", "turn")] == [
            wanted[k] for k in ("due", "balanced", "turn")
        ]


@pytest.mark.parametrize(
    ("wrong", "worded"),
    [
        ({"preconditioner_update_probability": 0.0}, "in (0, 1] or None. Received: 0.0."),
        ({"preconditioner_update_probability": "often"}, "in (0, 1] or None. Received: 'often' (str)."),
        ({"memory_save_mode": "diag"}, "one of 'one_diag', 'smart_one_diag', 'all_diag' or None. Received: 'diag'."),
    ],
    ids=str,
)
def test_an_error_says_that_none_is_taken(wrong: dict[str, Any], worded: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(f"`Kron({next(iter(wrong))}=...)` must be {worded}")):
        Kron(**wrong)


# ---------------------------------------------------------------- which factors there are

FULL: dict[str, Any] = {}
SLOTS: list[tuple[dict[str, Any], tuple[int, ...], list[tuple[int, ...]]]] = [
    (FULL, (6, 4), [(6, 6), (4, 4)]),
    (FULL, (4, 3, 2), [(4, 4), (6, 6)]),
    (FULL, (6, 1), [(6, 6), (1, 1)]),
    (FULL, (5,), [(5, 1)]),
    (FULL, (), [(1, 1)]),
    (FULL, (0, 4), []),
    ({"min_ndim_triangular": 1}, (5,), [(5, 5)]),
    ({"min_ndim_triangular": 3}, (6, 4), [(4, 1), (6, 1)]),
    ({"memory_save_mode": "one_diag"}, (6, 4), [(4, 4), (6, 1)]),
    ({"memory_save_mode": "one_diag"}, (5, 5), [(5, 5), (5, 1)]),
    ({"memory_save_mode": "smart_one_diag"}, (5, 5), [(5, 5), (5, 5)]),
    ({"memory_save_mode": "smart_one_diag"}, (4, 6), [(4, 4), (6, 1)]),
    ({"memory_save_mode": "all_diag"}, (6, 4), [(6, 1), (4, 1)]),
    ({"max_size_triangular": 5}, (6, 4), [(4, 4), (6, 1)]),
]


@pytest.mark.parametrize(("options", "shape", "factors"), SLOTS, ids=str)
def test_a_side_has_a_factor_that_is_triangular_or_diagonal(
    options: dict[str, Any], shape: tuple[int, ...], factors: list[tuple[int, ...]]
) -> None:
    shapes = [s.shape(shape) for s in Kron(**options).slots(Leaf(shape)) if s.name != "exp_avg"]
    assert sorted(shapes) == sorted(factors)


def test_of_a_square_matrix_the_factor_of_the_inputs_is_diagonal_in_either_layout() -> None:
    rule = Kron(memory_save_mode="one_diag")
    names = [
        {s.name for s in rule.slots(Leaf((5, 5), layout=layout))} & {"diagonal_left", "diagonal_right"}
        for layout in (OUTPUTS_FIRST, INPUTS_FIRST)
    ]
    assert names == [{"diagonal_right"}, {"diagonal_left"}]


# ---------------------------------------------------------------- numpy's solve


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (6, 3), (37, 5)], ids=str)
def test_numpy_solves_triangular_systems_by_halves(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    a, b = np.tril(rng.standard_normal((shape[0], shape[0]))) + 3 * np.eye(shape[0]), rng.standard_normal(shape)
    np.testing.assert_allclose(NUMPY.solve_triangular(a, b), np.linalg.solve(a, b), rtol=0, atol=1e-12)
