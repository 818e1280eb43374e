"""The mean of coefficients over the steps of a fit, as `average` of scikit-learn's SGD estimators has it, and means in
which later steps count more (Shamir and Zhang, ICML 2013).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .argument_names import PUBLIC


class Averages:
    """The mean of arrays over steps. They hold it after each epoch, and what is trained while training goes on.

    The weight of a step grows as its number to the power of `growth`; 0 gives all steps the same.
    """

    __module__ = PUBLIC

    growth = 0  # of pickles that know none

    def __init__(self, growth: int = 0) -> None:
        self.steps, self.growth = 0, growth
        self._mean: list[np.ndarray] = []
        self._trained: list[np.ndarray] | None = None

    def add(self, arrays: Sequence[np.ndarray]) -> None:
        """Take in these arrays, after one more step."""
        self.steps += 1
        if self.steps == 1:
            self._mean = [x.copy() for x in arrays]
        share = (1 + self.growth) / (self.steps + self.growth)
        # Not in place: the mean may lie in a file, as after `joblib.load`.
        self._mean = [mean + (x - mean) * share for mean, x in zip(self._mean, arrays, strict=True)]

    def show(self, arrays: Sequence[np.ndarray]) -> None:
        """Put the mean into the arrays, until `resume`."""
        if self._trained is None:
            self._trained = [x.copy() for x in arrays]
            for x, mean in zip(arrays, self._mean, strict=True):
                x[...] = mean

    def resume(self, arrays: Iterable[np.ndarray]) -> None:
        """Put what is trained back into these arrays, the ones that were shown or copies of them."""
        if self._trained is not None:
            for x, trained in zip(arrays, self._trained, strict=True):
                x[...] = trained
            self._trained = None
