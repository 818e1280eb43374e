"""scikit-learn: one update of an `MLPClassifier`, ours against its own adam, the nearest it has to AdamW."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier

from scirs2_adapters import sklearn as ours

from .row import Row, measure


def rows(quick: bool) -> Iterator[Row]:
    """The update alone, as scikit-learn's own loop calls it."""
    for width, rounds in [(32, (20, 20))] if quick else [(100, (40, 20)), (1000, (25, 2))]:
        mine = _stepper(ours.MLPClassifier((width, width), optimizer="adamw"))
        own = {'MLPClassifier(solver="adam")': _stepper(MLPClassifier((width, width)))}
        yield from measure("sklearn", f"AdamW update, hidden layers ({width}, {width})", mine, own, rounds)


def _stepper(model: Any) -> Callable[[], object]:
    rng = np.random.default_rng(0)
    model.partial_fit(rng.random((8, 64), dtype=np.float32), np.arange(8), classes=range(10))
    params = model.coefs_ + model.intercepts_
    grads = [rng.random(p.shape, dtype=np.float32) for p in params]
    return lambda: model._optimizer.update_params(params, grads)
