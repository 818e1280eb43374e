"""What the linear estimators minimise for one row: each loss, its derivative by the row's scores, and what it predicts.

Names and formulas are those of scikit-learn's `SGDClassifier` and `SGDRegressor`; `quantile` and `poisson` are those of
`QuantileRegressor` and `PoissonRegressor`. All arithmetic is in the dtype of the scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import expit, log_expit

#: The loss of each row and its derivative by each of the row's scores.
Losses = tuple[np.ndarray, np.ndarray]


def both(scores: np.ndarray) -> np.ndarray:
    """A column for each class: where two classes share one score, the first one's is 0."""
    return np.hstack([np.zeros_like(scores), scores]) if scores.shape[1] == 1 else scores


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """The logarithm of softmax, without overflow."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


# -- classes: y is the index of each row's class, or has a column of 0 and 1 for each label


class LogLoss:
    """-log softmax(scores)[y], where two classes have the scores (0, s): multinomial logistic regression."""

    @staticmethod
    def of(scores: np.ndarray, y: np.ndarray) -> Losses:
        """One column of losses, and the derivatives."""
        log_proba, rows = log_softmax(both(scores)), np.arange(len(y))
        residual = np.exp(log_proba)
        residual[rows, y] -= 1
        return -log_proba[rows, y, np.newaxis], residual[:, -scores.shape[1] :]

    @staticmethod
    def log_proba(scores: np.ndarray) -> np.ndarray:
        """The logarithm of the probability of each class."""
        return log_softmax(both(scores))

    @staticmethod
    def proba(scores: np.ndarray) -> np.ndarray:
        """The probability of each class: softmax of the scores."""
        return np.exp(log_softmax(both(scores)))


@dataclass(frozen=True)
class Margin:
    """A loss of the margin z = t * score, where t is 1 for the row's class and -1 for the others: one class against the
    rest, each for itself, or the second of two against the first. Of labels, t is 1 for each that the row has.
    """

    of_margin: Callable[[np.ndarray], Losses]
    proba: Callable[[np.ndarray], np.ndarray] | None = None
    log_proba: Callable[[np.ndarray], np.ndarray] | None = None

    def of(self, scores: np.ndarray, y: np.ndarray) -> Losses:
        """A column of losses for each score, and the derivatives."""
        labels = scores.shape[1]
        positive = y == 1 if y.ndim == 2 else y[:, np.newaxis] == (np.arange(labels) if labels > 1 else 1)
        sign = np.where(positive, 1, -1).astype(scores.dtype)
        losses, slope = self.of_margin(sign * scores)
        return losses, sign * slope


def hinge(z: np.ndarray) -> Losses:
    """max(0, 1 - z)"""
    return np.maximum(1 - z, 0), -(z <= 1).astype(z.dtype)


def squared_hinge(z: np.ndarray) -> Losses:
    """max(0, 1 - z)^2"""
    short = np.maximum(1 - z, 0)
    return short * short, -2 * short


def modified_huber(z: np.ndarray) -> Losses:
    """max(0, 1 - z)^2 where z >= -1, else -4 z"""
    short = np.maximum(1 - z, 0)
    return np.where(z < -1, -4 * z, short * short), np.where(z < -1, -4, -2 * short)


def logistic(z: np.ndarray) -> Losses:
    """log(1 + exp(-z))"""
    return -log_expit(z), -expit(-z)


def clipped(scores: np.ndarray) -> np.ndarray:
    """(clip(score, -1, 1) + 1) / 2"""
    return (np.clip(scores, -1, 1) + 1) / 2


def clipped_proba(scores: np.ndarray) -> np.ndarray:
    """`clipped` of each class, of more than two divided by their sum; if all are 0, all the same."""
    proba = clipped(scores)
    if proba.shape[1] == 1:
        return np.hstack([1 - proba, proba])
    proba[proba.sum(axis=1) == 0] = 1
    return proba / proba.sum(axis=1, keepdims=True)


def log_of(proba: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """The logarithm of these probabilities, some of which may be 0."""

    def log_proba(scores: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.log(proba(scores))

    return log_proba


ClassLoss = LogLoss | Margin
#: The losses of rows that have one class each.
CLASSIFIER_LOSSES: dict[str, ClassLoss] = {
    "log_loss": LogLoss(),
    "hinge": Margin(hinge),
    "squared_hinge": Margin(squared_hinge),
    "modified_huber": Margin(modified_huber, clipped_proba, log_of(clipped_proba)),
}
#: Those of rows that may have several labels: each is told from its absence by itself.
LABEL_LOSSES: dict[str, ClassLoss] = {
    **CLASSIFIER_LOSSES,
    "log_loss": Margin(logistic, expit, log_expit),
    "modified_huber": Margin(modified_huber, clipped, log_of(clipped)),
}


# -- numbers: y has a column for each score


def squared_error(r: np.ndarray, _: float) -> Losses:
    """r^2 / 2"""
    return 0.5 * r * r, r


def huber(r: np.ndarray, epsilon: float) -> Losses:
    """r^2 / 2 where |r| <= epsilon, else epsilon |r| - epsilon^2 / 2"""
    slope = np.clip(r, -epsilon, epsilon)
    return slope * (r - 0.5 * slope), slope


def epsilon_insensitive(r: np.ndarray, epsilon: float) -> Losses:
    """max(0, |r| - epsilon)"""
    over = np.maximum(np.abs(r) - epsilon, 0)
    return over, np.sign(r) * (over > 0)


def squared_epsilon_insensitive(r: np.ndarray, epsilon: float) -> Losses:
    """max(0, |r| - epsilon)^2"""
    over = np.maximum(np.abs(r) - epsilon, 0)
    return over * over, 2 * np.sign(r) * over


def pinball(r: np.ndarray, quantile: float) -> Losses:
    """-quantile r where r < 0, else (1 - quantile) r"""
    slope = np.where(r < 0, -quantile, 1 - quantile).astype(r.dtype)
    return slope * r, slope


class TargetUnits(NamedTuple):
    """What the default optimizer steps in: targets minus `mean` over `scale`, and losses over `loss`."""

    mean: np.ndarray
    scale: np.ndarray
    loss: np.ndarray


@dataclass(frozen=True)
class Residual:
    """A loss of the residual r = score - y. `parameter` is the estimator's argument that it has; it grows as |r| to the
    power of `degree`, far from 0.
    """

    of_residual: Callable[[np.ndarray, float], Losses]
    degree: int
    parameter: str = ""

    def of(self, scores: np.ndarray, y: np.ndarray, parameter: float) -> Losses:
        """A column of losses for each target, and the derivatives."""
        return self.of_residual(scores - y, parameter)

    @staticmethod
    def predicted(scores: np.ndarray) -> np.ndarray:
        """The scores themselves."""
        return scores

    @staticmethod
    def refuses(y: np.ndarray) -> bool:
        """No target."""
        return False

    def units(self, mean: np.ndarray, spread: np.ndarray, parameter: float) -> TargetUnits:
        """Losses are of the size of a power of the targets' spread; of Huber, the straight part is."""
        width = parameter if self.of_residual is huber and parameter > 0 else np.inf
        return TargetUnits(mean, spread, np.minimum(spread, width) * spread ** (self.degree - 1))


class Poisson:
    """exp(score) - y score: half the Poisson deviance, but for a term without the score. It predicts exp(score)."""

    parameter = ""

    @staticmethod
    def of(scores: np.ndarray, y: np.ndarray, _: float) -> Losses:
        """A column of losses for each target, and the derivatives; too large a score is infinite."""
        predicted = Poisson.predicted(scores)
        return predicted - y * scores, predicted - y

    @staticmethod
    def predicted(scores: np.ndarray) -> np.ndarray:
        """The mean that a score stands for."""
        with np.errstate(over="ignore"):
            return np.exp(scores)

    @staticmethod
    def refuses(y: np.ndarray) -> bool:
        """Targets below 0."""
        return bool(np.any(y < 0))

    @staticmethod
    def units(mean: np.ndarray, spread: np.ndarray, _: float) -> TargetUnits:
        """Scores are logarithms, and have no unit; the losses have that of the targets."""
        mean = np.where(mean > 0, mean, 1.0)
        return TargetUnits(np.log(mean), np.ones_like(spread), mean)


RegressorLoss = Residual | Poisson
REGRESSOR_LOSSES: dict[str, RegressorLoss] = {
    "squared_error": Residual(squared_error, 2),
    "huber": Residual(huber, 2, "epsilon"),
    "epsilon_insensitive": Residual(epsilon_insensitive, 1, "epsilon"),
    "squared_epsilon_insensitive": Residual(squared_epsilon_insensitive, 2, "epsilon"),
    "quantile": Residual(pinball, 1, "quantile"),
    "poisson": Poisson(),
}
