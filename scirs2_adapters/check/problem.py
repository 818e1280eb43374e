"""The problem that every check walks: a small network fitted to seeded data, with gradients by hand in float64.

Biases begin at zero, so that they move in 16 bits too. One input is always zero, so that a row of gradients is, as in
embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Arrays = list[Array]
#: Gradients of one step. None is a parameter that has none.
Grads = Sequence[Array | None]

INPUTS, HIDDEN, OUTPUTS, ROWS = 4, 6, 3, 16
#: Steps of a walk; a state is saved in the middle.
STEPS = 6
#: After so many steps every optimizer has moved: some only remember in their first ones.
MOVES = 8


@dataclass(frozen=True)
class Problem:
    """Names and first values of the parameters, and batches of inputs and targets, each with other noise."""

    names: tuple[str, ...]
    params: Arrays
    batches: tuple[tuple[Array, Array], ...]

    def gradients(self, params: Arrays, step: int) -> Arrays:
        """Of half the mean square error over the batch of this step."""
        first, bias, second, offset = params
        x, y = self.batches[step % len(self.batches)]
        hidden = np.tanh(x @ first + bias)
        error = (hidden @ second + offset - y) / len(x)
        back = (error @ second.T) * (1 - hidden**2)
        return [x.T @ back, back.sum(0), hidden.T @ error, error.sum(0)]


def problem() -> Problem:
    """The same one at every call."""
    rng = np.random.default_rng(3)
    shapes = ((INPUTS, HIDDEN), (HIDDEN,), (HIDDEN, OUTPUTS), (OUTPUTS,))
    params = [rng.standard_normal(shape) / 2 * (len(shape) > 1) for shape in shapes]
    truth = rng.standard_normal((INPUTS, OUTPUTS))
    batches = []
    for _ in range(4):
        x = rng.standard_normal((ROWS, INPUTS)) * (np.arange(INPUTS) < INPUTS - 1)
        batches.append((x, np.sin(x @ truth) + 0.1 * rng.standard_normal((ROWS, OUTPUTS)) + 1))
    return Problem(("hidden_kernel", "hidden_bias", "output_kernel", "output_bias"), params, tuple(batches))


def same_bits(one: Arrays, other: Arrays) -> bool:
    """Whether all numbers are equal; those that are not finite too."""
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))


def distance(one: Arrays, other: Arrays) -> float:
    """The largest difference, relative to the largest number of its array; infinite where a number is not one."""
    differences = [
        float(np.abs(a - b).max() / max(float(np.abs(b).max()), 1e-30))
        for a, b in zip(one, other, strict=True)
        if a.size
    ]
    return max((d if np.isfinite(d) else np.inf for d in differences), default=0.0)
