"""The penalty of coefficients that no row of a batch touches, taken later: when one does, or at the end of the epoch.

A step of gradient descent moves a coefficient c that has no gradient by the penalty alone:

c = sign(c) * max(0, |c| * (1 - lr * l2) - lr * l1)

So many such steps are one of the same form. With S = S * (1 - lr * l2) and U = U * (1 - lr * l2) + lr * l1 at each
step, from S = 1 and U = 0, those since the step at which they were S0 and U0 are

c = sign(c) * max(0, |c| * S / S0 - (U - U0 * S / S0))
"""

from __future__ import annotations

import numpy as np

from .penalties import Strengths, soft_threshold

#: Where S is smaller, coefficients take all that is due, and S begins at 1 again.
LEAST = 1e-100


class LazyPenalty:
    """What a penalty has still to do to each column of some coefficients, in the steps of gradient descent."""

    def __init__(self, strengths: Strengths, coef: np.ndarray) -> None:
        self.strengths, self.coef = strengths, coef
        #: The penalty of each output when this began.
        self.at_first = strengths.of(coef)
        self._begin()

    def _begin(self) -> None:
        count = self.coef.shape[-1]
        self._scale, self._threshold = 1.0, 0.0
        self._scales, self._thresholds = np.ones(count), np.zeros(count)

    def can_step(self, rate: float) -> bool:
        """Whether a step at this rate leaves signs as they are, and the formula holds."""
        return rate * self.strengths.l2 < 1

    def settle(self, columns: np.ndarray | slice) -> None:
        """Apply the penalty that is due to these columns, each named once."""
        ratio = self._scale / self._scales[columns]
        coef = self.coef[..., columns] * ratio.astype(self.coef.dtype)
        if self.strengths.l1:
            soft_threshold(coef, (self._threshold - self._thresholds[columns] * ratio).astype(coef.dtype))
        self.coef[..., columns] = coef
        self._scales[columns], self._thresholds[columns] = self._scale, self._threshold

    def settle_all(self) -> None:
        """Apply the penalty that is due to all columns."""
        self.settle(slice(None))

    def stepped(self, rate: float, columns: np.ndarray) -> None:
        """After a step that took l2 of these columns, which were settled, in their gradient: take their l1, and note
        the penalty of the others.
        """
        if self.strengths.l1:
            coef = self.coef[..., columns]
            soft_threshold(coef, rate * self.strengths.l1)
            self.coef[..., columns] = coef
        shrunk = 1 - rate * self.strengths.l2
        self._scale *= shrunk
        self._threshold = self._threshold * shrunk + rate * self.strengths.l1
        self._scales[columns], self._thresholds[columns] = self._scale, self._threshold
        if self._scale < LEAST:
            self.settle_all()
            self._begin()
