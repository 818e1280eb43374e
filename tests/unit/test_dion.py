"""Dion where the conformance tests do not lead it: all ranks, low ranks of gradients, few numbers, late gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scirs2_adapters.core import Dion
from scirs2_adapters.core.slots import Leaf
from tests.reference import reference

from .matrix_walks import arrays, walked

KERNELS = pytest.mark.parametrize("kernel", ["host", "traced"])
SHAPES = {"tall": (7, 4), "wide": (3, 8), "square": (5, 5), "vector": (6,), "kernel": (4, 3, 2)}


# ---------------------------------------------------------------- steps


@KERNELS
@pytest.mark.parametrize("fraction", [1.0, 0.5, 0.1])
def test_many_steps_walk_like_the_twin(fraction: float, kernel: str) -> None:
    hyper = {"learning_rate": 0.1, "rank_fraction": fraction, "momentum": 0.8}
    start, gradients = arrays(0, SHAPES), [arrays(seed, SHAPES) for seed in range(1, 61)]
    ours = walked(Dion(**hyper), start, gradients, kernel=kernel)
    path, states = reference("dion")(list(start.values()), [list(g.values()) for g in gradients], hyper=hyper)
    for k, p, slots in zip(start, path[-1], states[-1]["leaves"], strict=True):
        np.testing.assert_allclose(ours.params[k], p, rtol=0, atol=1e-10)
        assert ours.state[k].keys() == slots.keys()
        for name, slot in slots.items():
            np.testing.assert_allclose(ours.state[k][name], slot, rtol=0, atol=1e-9)


def test_steps_come_to_move_every_direction_equally_far() -> None:
    """By power iterations the directions become singular vectors, of which a step has each with the same length."""
    gradient = {"w": np.random.default_rng(0).standard_normal((12, 6))}
    optimizer = walked(Dion(learning_rate=1.0, weight_decay=0.0), {"w": np.zeros((12, 6))}, [gradient] * 200)
    before = optimizer.params["w"].copy()
    optimizer.step(gradient)
    lengths = np.linalg.svd(optimizer.params["w"] - before)[1]
    np.testing.assert_allclose(lengths, math.sqrt(12 / 6), rtol=1e-3)


def test_what_the_directions_miss_is_kept() -> None:
    """The momentum is what gradients sum up to, less the part that was stepped along."""
    gradients = [arrays(seed, {"w": (9, 8)}) for seed in range(1, 5)]
    optimizer = walked(Dion(rank_fraction=0.25, momentum=0.0), {"w": np.zeros((9, 8))}, gradients)
    memory = optimizer.state["w"]
    assert memory["directions"].shape == (8, 2)
    np.testing.assert_allclose(np.linalg.norm(memory["directions"], axis=0), 1.0, rtol=1e-7)
    before = memory["momentum_buffer"].copy()
    optimizer.step(last := arrays(9, {"w": (9, 8)}))
    spent = before + last["w"] - memory["momentum_buffer"]
    assert np.linalg.matrix_rank(spent) == 2


@KERNELS
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_gradient_of_low_rank_is_stepped_along_and_nothing_else(dtype: str, kernel: str) -> None:
    """Where the columns that rounding has made would be as long as any other."""
    gradient = np.outer(np.arange(1.0, 9.0), np.arange(1.0, 6.0)).astype(dtype)
    rule = Dion(learning_rate=1.0, weight_decay=0.0)
    optimizer = walked(rule, {"w": np.zeros((8, 5), dtype)}, [{"w": gradient}], kernel=kernel)
    wanted = -math.sqrt(8 / 5) * gradient / np.linalg.norm(gradient)
    np.testing.assert_allclose(optimizer.params["w"], wanted, rtol=0, atol=1e-5 if dtype == "float32" else 1e-9)


@KERNELS
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("size", [1e-30, 1e18])
def test_the_size_of_gradients_leaves_memory_finite_and_steps_bounded(size: float, dtype: str, kernel: str) -> None:
    gradients = [{k: (size * x).astype(dtype) for k, x in arrays(seed, SHAPES).items()} for seed in range(20)]
    start = {k: np.zeros(shape, dtype) for k, shape in SHAPES.items()}
    optimizer = walked(Dion(learning_rate=1.0, eps=0.0), start, gradients, kernel=kernel)
    for k, p in optimizer.params.items():
        assert all(np.isfinite(slot).all() for slot in optimizer.state[k].values())
        assert np.isfinite(p).all()
        assert 0 < np.linalg.norm(p) < 200


@KERNELS
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_gradients_of_zeros_move_nothing_and_leave_the_directions(dtype: str, kernel: str) -> None:
    start = {"w": np.ones((4, 3), dtype)}
    zeros, ones = ({"w": np.full((4, 3), value, dtype)} for value in (0.0, 1.0))
    optimizer = walked(Dion(weight_decay=0.0), start, [zeros], kernel=kernel)
    first = optimizer.state["w"]["directions"].copy()
    assert np.linalg.matrix_rank(first) == 3
    optimizer.step(zeros)
    np.testing.assert_array_equal(optimizer.state["w"]["directions"], first)
    np.testing.assert_array_equal(optimizer.params["w"], start["w"])
    optimizer.step(ones)
    late = walked(Dion(weight_decay=0.0), start, [ones], kernel=kernel)
    np.testing.assert_array_equal(optimizer.params["w"], late.params["w"])


# ---------------------------------------------------------------- which directions there are, and who steps the rest

SLOTS: dict[tuple[int, ...], tuple[float, tuple[int, ...]]] = {
    (6, 4): (1.0, (4, 4)),
    (4, 6): (0.5, (4, 2)),
    (5, 5): (0.3, (5, 2)),
    (8, 3, 2): (0.5, (6, 3)),
    (6, 1): (0.5, (1, 1)),
}


@pytest.mark.parametrize("shape", SLOTS, ids=str)
def test_directions_are_of_the_shorter_side_and_as_many_as_its_fraction(shape: tuple[int, ...]) -> None:
    fraction, wanted = SLOTS[shape]
    shapes = {s.name: s.shape(shape) for s in Dion(rank_fraction=fraction).slots(Leaf(shape))}
    assert shapes == {"momentum_buffer": shape, "directions": wanted}


OTHERS = {
    "fewer than two axes": Leaf((5,)),
    "embedding or head": Leaf((6, 4), name="embed.weight"),
    "a stack of matrices": Leaf((2, 6, 4), name="experts.weight"),
    "no elements": Leaf((0, 4)),
}


@pytest.mark.parametrize("why", OTHERS)
def test_what_is_no_hidden_matrix_is_stepped_by_adamw(why: str) -> None:
    rule = Dion(learning_rate=0.02)
    assert rule.reason(OTHERS[why]) == why
    routed = rule.route(OTHERS[why])
    assert (routed.name, routed.learning_rate, routed.beta2, routed.weight_decay) == ("adamw", 0.02, 0.95, 0.01)


@pytest.mark.parametrize("wrong", [0.0, 1.5, -1.0])
def test_a_rank_fraction_out_of_range_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"`Dion\(rank_fraction=\.\.\.\)` must be in \(0, 1\]\. Received: "):
        Dion(rank_fraction=wrong)
