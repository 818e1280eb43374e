"""Muon's options beyond its twin's, which knows no names: layers that are split, and polynomials by name."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from scirs2_adapters.core import HostOptimizer, Muon
from scirs2_adapters.core.matrix import INPUTS_FIRST, OUTPUTS_FIRST, Matrix
from scirs2_adapters.core.newton_schulz import ROWS, SCHEDULES, WIDE, orthogonalize
from scirs2_adapters.core.step.reference import NUMPY

PARTS = [
    (Matrix((-1,), (-2,), 3), (6, 4)),
    (Matrix((-2,), (-1,), 3), (4, 6)),
    (Matrix((-2, -1), (-3,), 2), (4, 3, 5)),
    (Matrix((-3, -2), (-1,), 2), (3, 5, 4)),
    (Matrix((-2,), (-1,), 2), (7, 3, 4)),
    (Matrix((-1,), (-2,), 2), (7, 4, 3)),
]


@pytest.mark.parametrize(("matrix", "shape"), PARTS)
def test_parts_are_so_many_matrices_and_come_back_in_place(matrix: Matrix, shape: tuple[int, ...]) -> None:
    x = np.arange(float(np.prod(shape))).reshape(shape)
    flat = matrix.flat(NUMPY, x)
    assert sorted(flat.shape[1:]) == sorted(matrix.sides(shape))
    np.testing.assert_array_equal(matrix.whole(NUMPY, flat, shape), x)


@pytest.mark.parametrize("kernel", ["host", "traced"])
@pytest.mark.parametrize("layout", [OUTPUTS_FIRST, INPUTS_FIRST])
@pytest.mark.parametrize("options", [{}, {"adjust": "match_rms_adamw"}, {"ns_schedule": "polar_express"}], ids=str)
def test_a_fused_layer_is_stepped_as_its_parts_are(kernel: str, layout: str, options: dict[str, Any]) -> None:
    rng, axis = np.random.default_rng(0), 0 if layout == OUTPUTS_FIRST else 1
    start, gradient = (rng.standard_normal((6, 8) if axis else (8, 6)) for _ in range(2))
    start, gradient = (np.concatenate([x, -x, 2 * x], axis=axis) for x in (start, gradient))
    options = {**options, "layout": layout}
    fused = {"h.0.c_attn.weight": start.copy()}
    HostOptimizer(Muon(split_layers=("c_attn",), **options), fused, kernel=kernel).step({"h.0.c_attn.weight": gradient})
    apart = dict(zip("abc", np.split(start, 3, axis=axis), strict=True))
    apart = {k: x.copy() for k, x in apart.items()}
    HostOptimizer(Muon(**options), apart, kernel=kernel).step(
        dict(zip("abc", np.split(gradient, 3, axis=axis), strict=True))
    )
    np.testing.assert_allclose(fused["h.0.c_attn.weight"], np.concatenate([*apart.values()], axis=axis), atol=1e-15)


def test_outputs_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="outputs that make 3 equal parts, not 8, in `split_layers`"):
        HostOptimizer(Muon(split_layers=("qkv",), split_outputs=3), {"qkv": np.ones((8, 3))})


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_has_come_near_1_when_its_polynomials_are_used_up(schedule: str) -> None:
    x = np.random.default_rng(0).standard_normal((16, 64))
    made = orthogonalize(NUMPY, x, 1e-7, 0.0, 0.0, 0.0, steps=len(SCHEDULES[schedule]), schedule=schedule)
    np.testing.assert_allclose(np.linalg.svd(made, compute_uv=False), 1.0, atol=0.05)


@pytest.mark.parametrize(("smallest", "schedule"), [(1e-2, "polar_express"), (1e-6, "constant")])
def test_polynomials_taken_together_lose_no_accuracy(smallest: float, schedule: str) -> None:
    """Of wide matrices with singular values from 1 down to the smallest; their Gram matrix has the squares."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.standard_normal((n, ROWS)))[0] for n in (ROWS, WIDE * ROWS))
    x = left * np.geomspace(1.0, smallest, ROWS) @ right.T
    options: dict[str, Any] = {"steps": 8 if schedule == "polar_express" else 5, "schedule": schedule}
    polynomial = 1e-7, 3.4445, -4.7750, 2.0315
    alone = orthogonalize(NUMPY, np.concatenate([x, np.zeros_like(x)])[:, : 2 * ROWS], *polynomial, **options)[:ROWS]
    together = orthogonalize(NUMPY, x, *polynomial, **options)
    np.testing.assert_allclose(together, alone, atol=1e-7)
    narrow = orthogonalize(NUMPY, x.astype(np.float32), *polynomial, **options)
    assert narrow.dtype == np.float32
    assert np.linalg.norm(narrow - alone) < 1e-3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_bfloat16_number_has_8_significant_bits(dtype: type) -> None:
    x = np.random.default_rng(0).standard_normal(1000).astype(dtype)
    expected = x.astype(np.float32).astype(ml_dtypes.bfloat16).astype(dtype)
    np.testing.assert_array_equal(NUMPY.bfloat16(x), expected)
    assert NUMPY.bfloat16(x).dtype == dtype
