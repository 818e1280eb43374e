"""Adafactor over chosen axes: both formulas against their slow twins, on every path of the core."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scirs2_adapters.core import HostOptimizer, Lookahead, get
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.slots import Leaf
from tests.reference import reference

#: No kernel can walk the last shape: its two longest axes are not its last ones.
SHAPES = [(), (7,), (4, 6), (6, 4), (5, 5), (2, 4, 6), (2, 6, 5), (3, 2), (0, 4), (5, 2, 4)]
OPTIONS: list[dict[str, Any]] = [
    {"learning_rate": 0.05},
    {"learning_rate": 0.05, "beta1": 0.9, "weight_decay": 0.1, "beta2_decay": -0.5},
    {"learning_rate": 0.05, "scale_parameter": False, "eps1": 1e-3, "clip_threshold": 0.5},
    {"learning_rate": 0.05, "clip_threshold": float("inf"), "eps2": 2.0, "decay_offset": 5.0},
    {"learning_rate": 0.05, "factored": False, "maximize": True},
    {"learning_rate": 0.9, "relative_step": False},
    {"learning_rate": 0.9, "relative_step": True, "warmup_init": True},
]
each_options = pytest.mark.parametrize("options", OPTIONS)


def problem(shapes: list[tuple[int, ...]], steps: int = 30) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    rng = np.random.default_rng(0)
    draw = lambda: [np.asarray(rng.standard_normal(s)) for s in shapes]  # noqa: E731
    return draw(), [draw() for _ in range(steps)]


def compared(twin: str, rule: Any, hyper: dict[str, Any], kernel: str, shapes: list[tuple[int, ...]]) -> None:
    """Every parameter and every slot after every step."""
    params, grads = problem(shapes)
    xs, states = reference(twin)(params, grads, hyper=hyper)
    optimizer = HostOptimizer(rule, params := [p.copy() for p in params], kernel=kernel)
    for gs, wanted, state in zip(grads, xs, states, strict=True):
        optimizer.step(gs)
        for i, (p, x) in enumerate(zip(params, wanted, strict=True)):
            np.testing.assert_allclose(p, x, rtol=1e-10, atol=1e-12)
            assert optimizer.state[i].keys() == state["leaves"][i].keys()
            for name, slot in state["leaves"][i].items():
                np.testing.assert_allclose(optimizer.state[i][name], slot, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("kernel", ["host", "traced"])
@each_options
def test_matching_optax_every_step_is_that_of_the_slow_twin(options: dict[str, Any], kernel: str) -> None:
    hyper = {"min_dim_size_to_factor": 4, **options}
    shapes = SHAPES[:-1] if kernel == "host" and options.get("factored", True) else SHAPES
    compared("adafactor_optax", get("adafactor")(match="optax", **hyper), hyper, kernel, shapes)


@pytest.mark.parametrize("least", [0, 3])
@pytest.mark.parametrize("kernel", ["host", "traced"])
@each_options
def test_as_typed_every_step_is_that_of_the_slow_twin(options: dict[str, Any], kernel: str, least: int) -> None:
    hyper = {"eps1": 2.0**-52, "min_dim_size_to_factor": least, **options}
    compared("adafactor", get("adafactor")(**hyper), hyper, kernel, SHAPES)


def test_the_first_kept_axis_of_an_optax_row_is_the_second_longest() -> None:
    rule = get("adafactor")(match="optax", min_dim_size_to_factor=2)
    for shape, row, col in [
        ((4, 6), (4, 1), (1, 6)),
        ((6, 4), (1, 4), (6, 1)),
        ((5, 2, 4), (1, 2, 4), (5, 2, 1)),
        ((3, 7, 2, 5), (3, 1, 2, 5), (3, 7, 2, 1)),
    ]:
        assert {s.name: s.shape(shape) for s in rule.slots(Leaf(shape))} == {"row_var": row, "col_var": col}


def test_what_no_kernel_walks_by_rows_is_traced_and_asked_for_an_error() -> None:
    rule, params = get("adafactor")(match="optax", min_dim_size_to_factor=2), {"w": np.ones((5, 2, 4))}
    assert record(rule, Leaf((5, 2, 4))).kernel_obstacle
    assert not record(rule, Leaf((2, 5, 4))).kernel_obstacle
    with pytest.raises(ValueError, match="its rows and columns are of the axes"):
        HostOptimizer(rule, params, kernel="host")
    optimizer = HostOptimizer(rule.replace(min_dim_size_to_factor=3), params)
    optimizer.step({"w": np.ones((5, 2, 4))})
    optimizer.replace(min_dim_size_to_factor=2)  # decides anew
    optimizer.step({"w": np.arange(40.0).reshape(5, 2, 4)})
    fresh = {"w": np.ones((5, 2, 4))}
    other = HostOptimizer(rule.replace(min_dim_size_to_factor=3), fresh, kernel="traced")
    other.step({"w": np.ones((5, 2, 4))})
    other.replace(min_dim_size_to_factor=2)
    other.step({"w": np.arange(40.0).reshape(5, 2, 4)})
    np.testing.assert_allclose(params["w"], fresh["w"], rtol=1e-12)


def test_a_wrapper_has_the_axes_of_its_base() -> None:
    rule = Lookahead(get("adafactor")(match="optax", min_dim_size_to_factor=2))
    assert {s.name: s.shape((5, 2, 4)) for s in rule.slots(Leaf((5, 2, 4)))} == {
        "row_var": (1, 2, 4),
        "col_var": (5, 2, 1),
        "slow": (5, 2, 4),
    }
    params = {"w": np.ones((5, 2, 4))}
    HostOptimizer(rule, params).step({"w": np.ones((5, 2, 4))})
    assert np.isfinite(params["w"]).all()


@pytest.mark.parametrize("match", [None, "optax"])
@pytest.mark.parametrize("kernel", ["host", "traced"])
def test_a_mean_of_weight_one_is_the_newest_square_however_small(kernel: str, match: str | None) -> None:
    rule = get("adafactor")(match=match, learning_rate=0.1, beta2_decay=-0.0)
    params = {"w": np.ones(3, np.float32)}
    optimizer = HostOptimizer(rule, params, kernel=kernel)
    optimizer.step({"w": np.array([1e3, 1e3, 1e3], np.float32)})
    optimizer.step({"w": np.array([1e-3, 1e3, 1e3], np.float32)})
    np.testing.assert_allclose(optimizer.state["w"]["variance"], [1e-6, 1e6, 1e6], rtol=1e-6)
    np.testing.assert_allclose(params["w"], np.full(3, params["w"][1]), rtol=1e-6)
