"""scikit-learn: an estimator with `partial_fit`, which has its optimizer inside and computes gradients itself."""

from __future__ import annotations

import pickle
from typing import Protocol, cast

import numpy as np
from sklearn.base import BaseEstimator, clone, is_classifier

from ..driver import Driver, Run
from ..outcome import SubjectError
from ..problem import Array, Arrays, Problem
from ..subject import NOTHING, Changes, Subject

#: Where estimators keep what they learn.
LEARNED = ("coefs_", "intercepts_", "coef_", "intercept_")


class Estimator(Protocol):
    """What is asked of an estimator."""

    def fit(self, x: Array, y: Array) -> Estimator: ...
    def partial_fit(self, x: Array, y: Array, **classes: Array) -> Estimator: ...
    def predict(self, x: Array) -> Array: ...
    def get_params(self) -> dict[str, object]: ...
    def set_params(self, **values: object) -> Estimator: ...


class SklearnRun(Run):
    """An estimator that has seen one batch."""

    def __init__(self, walked: Problem, dtype: str, estimator: Estimator) -> None:
        super().__init__(walked)
        self.dtype, self.estimator = dtype, estimator
        self.advance(1)

    def batch(self, step: int) -> tuple[Array, Array]:
        """Rows and targets."""
        x, y = self.problem.batches[step % len(self.problem.batches)]
        return x.astype(self.dtype), labels(y) if is_classifier(self.estimator) else y[:, 0].astype(self.dtype)

    def advance(self, steps: int) -> None:
        for _ in range(steps):
            classes = {"classes": np.arange(2)} if is_classifier(self.estimator) else {}
            self.estimator.partial_fit(*self.batch(self.at), **classes)
            self.at += 1

    def params(self) -> Arrays:
        learned = [getattr(self.estimator, name) for name in LEARNED if hasattr(self.estimator, name)]
        arrays = [x for value in learned for x in (value if isinstance(value, list) else [value])]
        return [np.array(x, np.float64) for x in arrays]

    def dtypes(self) -> set[str]:
        """The dtype of the rows; in which dtype an estimator computes is its business."""
        return {self.dtype}

    def saved(self) -> object:
        return pickle.dumps((self.estimator, self.at))

    def restore(self, saved: object) -> None:
        self.estimator, self.at = pickle.loads(cast("bytes", saved))

    def owned(self) -> object:
        return self.estimator

    def adopt(self, owned: object) -> None:
        self.estimator = cast("Estimator", owned)

    def optimizer_object(self) -> object:
        return self.estimator


def labels(y: Array) -> Array:
    """Targets for a classifier."""
    return (y[:, 0] > np.median(y[:, 0])).astype(np.int64)


class SklearnDriver(Driver):
    """scikit-learn."""

    framework = "sklearn"
    gaps = {
        "numbers.bfloat16": "scikit-learn has no bfloat16",
        "numbers.float16": "scikit-learn makes float64 of float16",
        "running.threads": "products of matrices are the BLAS library's",
    }

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        if not hasattr(self.create(), "partial_fit"):
            raise SubjectError(f"`{subject.path}` must make an estimator with `partial_fit`, which takes one step.")

    def create(self, changes: Changes = NOTHING) -> Estimator:
        """An estimator that has seen nothing, seeded."""
        seed: dict[str, object] = {"random_state": 0} if "random_state" in self.subject.parameters else {}
        return cast("Estimator", self.subject.factory(**self.subject.arguments(self.takes, seed | dict(changes))))

    def start(self, changes: Changes = NOTHING, walked: Problem | None = None, dtype: str = "float32") -> SklearnRun:
        return SklearnRun(walked or self.problem, dtype, self.create(changes))

    def kind(self) -> tuple[str, bool]:
        return "a sklearn.base.BaseEstimator", isinstance(self.create(), BaseEstimator)

    def rebuilt(self, changes: Changes) -> SklearnRun:
        return SklearnRun(self.problem, "float32", clone(self.create(changes)))

    def rows(self) -> tuple[Array, Array]:
        """All batches together."""
        x, y = (np.concatenate(parts) for parts in zip(*self.problem.batches, strict=True))
        return x, labels(y) if is_classifier(self.create()) else y[:, 0]

    def fitted(self, x: Array, y: Array) -> SklearnRun:
        """One that is fitted to these."""
        run = self.start()
        run.estimator = self.create().fit(x, y)
        return run


DRIVER = SklearnDriver
