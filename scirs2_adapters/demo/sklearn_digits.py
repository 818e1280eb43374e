"""scikit-learn: `partial_fit`, batch by batch.

scikit-learn has no AdamW and no Lion. Our AdamW is compared with `solver="adam"`, which is the nearest: it has no
decoupled decay and another place for eps, so its trajectory differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier as SklearnMLPClassifier

from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.core.fields import Value
from scirs2_adapters.core.registry import get
from scirs2_adapters.sklearn import AdamW, LinearRegressor, MLPClassifier

from .adapter import DigitsAdapter, Learn, Parameters, Step
from .data import BATCH, SIZES


class _FixedStart:
    """Starts from the demo's weights: scikit-learn has no public way to set them before the first batch."""

    first: Iterator[tuple[np.ndarray, np.ndarray]]

    def _init_coef(self, fan_in: int, fan_out: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
        kernel, bias = next(self.first)
        assert kernel.shape == (fan_in, fan_out)
        return kernel.astype(dtype), bias.astype(dtype)


class _Ours(_FixedStart, MLPClassifier):
    pass


class _Exact(_Ours):
    """Gradients are computed in float64, and rounded to float32 once."""

    def _backprop(self, *args: object) -> tuple[object, ...]:
        coefs, intercepts = self.coefs_, self.intercepts_
        self.optimizer_.resume([*coefs, *intercepts])
        self.coefs_, self.intercepts_ = _cast(coefs, np.float64), _cast(intercepts, np.float64)
        try:
            evaluated: Value = super()._backprop(*_cast(list(args), np.float64))
        finally:
            self.coefs_, self.intercepts_ = coefs, intercepts
        return evaluated[0], *_cast(list(evaluated[1:]), np.float32)


def _cast(x: Value, dtype: type) -> Value:
    """The same with its numbers in another precision; labels stay as they are."""
    if isinstance(x, list):
        return [_cast(each, dtype) for each in x]
    return x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x


class _Theirs(_FixedStart, SklearnMLPClassifier):
    pass


class Adapter(DigitsAdapter):
    """An `MLPClassifier` without its L2 term."""

    COUNTERPARTS = {"adamw": 'solver="adam"'}

    def trainer(self, optimizer: str, kind: str) -> tuple[Learn, Parameters]:
        model = self._model(optimizer, kind)

        def learn(x: np.ndarray, y: np.ndarray) -> float:
            return float(model.partial_fit(x, y, classes=range(SIZES[-1])).loss_)

        return learn, lambda: [p for pair in zip(model.coefs_, model.intercepts_, strict=True) for p in pair]

    def stepper(self, optimizer: str, kind: str) -> Step:
        model: Any = self._model(optimizer, kind)  # its `_optimizer` is private to scikit-learn
        model.partial_fit(self.digits.x[0], self.digits.y[0], classes=range(SIZES[-1]))
        grads = self.gradients[::2] + self.gradients[1::2]
        return lambda: model._optimizer.update_params(model.coefs_ + model.intercepts_, grads)

    def _model(self, optimizer: str, kind: str) -> _Ours | _Theirs:
        h = self.settings.hyper[optimizer]
        words: dict[str, Value] = {"hidden_layer_sizes": SIZES[1:-1], "activation": "tanh", "alpha": 0.0}
        words |= {"batch_size": BATCH, "shuffle": False}
        if kind == "own":
            words |= {"learning_rate_init": h["learning_rate"], "beta_1": h["beta1"], "beta_2": h["beta2"]}
            model = _Theirs(epsilon=h["eps"], **words)
        else:
            cls = _Exact if kind == "exact" else _Ours
            model = cls(optimizer=get(optimizer)(**h), **words)
        model.first = zip(self.digits.initial[::2], self.digits.initial[1::2], strict=True)
        return model


def step_once(kernel: str) -> None:
    """One step of our AdamW on this path, and one of an estimator, which has no such argument: it is "auto"."""
    x = np.ones((4, 2), np.float32)
    HostOptimizer(AdamW(), [x.copy()], kernel=kernel).step([x])
    LinearRegressor(optimizer=AdamW()).partial_fit(x, x[:, 0])
