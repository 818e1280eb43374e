"""The mean of coefficients over the steps of a fit, as `average` of scikit-learn's SGD estimators has it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .argument_names import PUBLIC


class Averages:
    """The mean of arrays over steps. They hold it after each epoch, and what is trained while training goes on."""

    __module__ = PUBLIC

    def __init__(self) -> None:
        self.steps = 0
        self._mean: list[np.ndarray] = []
        self._trained: list[np.ndarray] | None = None

    def add(self, arrays: Sequence[np.ndarray]) -> None:
        """Let these arrays, after one more step, count as much as each before them."""
        self.steps += 1
        if self.steps == 1:
            self._mean = [x.copy() for x in arrays]
        for mean, x in zip(self._mean, arrays, strict=True):
            mean += (x - mean) / self.steps

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
