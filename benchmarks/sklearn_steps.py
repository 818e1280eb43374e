"""scikit-learn: updates and whole fits of `MLPClassifier`, ours against its own adam, the nearest it has to AdamW."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.datasets import load_digits, make_classification
from sklearn.neural_network import MLPClassifier

from scirs2_adapters import sklearn as ours

from .row import Row, measure
from .sklearn_linear import fits


def rows(quick: bool) -> Iterator[Row]:
    """The update alone, as scikit-learn's own loop calls it; then fits of so many epochs in the same batches."""
    for width, rounds in [(32, (20, 20))] if quick else [(100, (40, 20)), (1000, (25, 2))]:
        mine = _stepper(ours.MLPClassifier((width, width), optimizer="adamw"))
        theirs = {'MLPClassifier(solver="adam")': _stepper(MLPClassifier((width, width)))}
        yield from measure("sklearn", f"AdamW update, hidden layers ({width}, {width})", mine, theirs, rounds)
    warnings.simplefilter("ignore")  # of fits that are ended before they converge
    count = 1_000 if quick else 15_000
    made = make_classification(count * 5 // 4, 200, n_informative=40, n_classes=5, random_state=0)
    yield from _fits("digits", (100,), *load_digits(return_X_y=True), 20, quick)
    yield from _fits(f"{count:,} x 200", (256, 128), *made, 5, quick)


def _fits(data: str, hidden: tuple[int, ...], X: Any, y: Any, epochs: int, quick: bool) -> Iterator[Row]:
    arguments = {"max_iter": epochs, "n_iter_no_change": epochs, "random_state": 0}
    models = ours.MLPClassifier(hidden, optimizer="adamw", **arguments), MLPClassifier(hidden, **arguments)
    yield from fits("sklearn", f"{data}, hidden layers {hidden}, {epochs} epochs", models, X, y, quick)


def _stepper(model: Any) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    model.partial_fit(rng.random((8, 64), dtype=np.float32), np.arange(8), classes=range(10))
    params = model.coefs_ + model.intercepts_
    grads = [rng.random(p.shape, dtype=np.float32) for p in params]
    return lambda: model._optimizer.update_params(params, grads)
