"""Compiled loops of numbers by chance beside the formula over arrays."""

from __future__ import annotations

import numpy as np
import pytest

from scirs2_adapters.core.cpu import compile, noise
from scirs2_adapters.core.random_numbers import normal, uniform
from scirs2_adapters.core.step.reference import INTEGERS

LIKE = np.zeros(1)


@pytest.mark.parametrize("turn", [1, 7.0, 2.0**24 - 1])
@pytest.mark.parametrize("count", [0, 1, 7, 70_001])
def test_a_compiled_loop_makes_the_bits_of_the_formula(count: int, turn: float) -> None:
    assert compile.compiler_obstacle() is None
    assert np.array_equal(noise.random(count, turn), uniform(INTEGERS, count, turn, LIKE))
    keys = turn, 3, 0.0
    assert np.array_equal(noise.normals(count, keys), normal(INTEGERS, count, keys, LIKE))


def test_without_a_compiler_numpy_makes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = noise.random(100, 5), noise.normals(100, (5, 1))
    monkeypatch.setattr(compile, "compiler_obstacle", lambda: "none here")
    assert np.array_equal(noise.random(100, 5), compiled[0])
    assert np.array_equal(noise.normals(100, (5, 1)), compiled[1])
