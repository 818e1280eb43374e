"""A step length that satisfies the strong Wolfe conditions: Nocedal and Wright, Numerical Optimization (2006),
Algorithms 3.5 (bracket) and 3.6 (zoom), with the cubic of their equation (3.59).

What they leave open is chosen as torch's L-BFGS has it, so that trajectories agree: how far a bracket may grow at
once, when a trial is too close to an end of it, and when it is too narrow to go on. A point where the loss or its slope
is not finite counts as infinitely high, and an interval with such an end is halved: the search ends, at a finite point.

Near a minimum the loss falls by less than its last bits, the sooner the larger it is there, and then says nothing of
two points; slopes still do. There the first condition is that of Hager and Zhang (SIAM J. Optim. 16, 2005, eq. 22), and
what the loss would have fallen between two points follows from their slopes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ._search import Search, Space, Vector, divide, is_finite

SUFFICIENT, CURVATURE = 1e-4, 0.9
#: Roundings of the loss that may hide what it does.
ROUNDINGS = 2
#: A bracket grows by at least this part of its length and at most to this multiple of the step.
LEAST_GROWTH, MOST_GROWTH = 0.01, 10
#: Part of the bracket at either end in which a trial makes too little progress.
MARGIN = 0.1


class Trial(NamedTuple):
    """A point on the line: its step length, loss, gradient and slope."""

    t: float
    loss: float
    g: Vector
    slope: float


class Line:
    """The line from x along d."""

    def __init__(self, space: Space, x: Vector, d: Vector, start: Trial) -> None:
        self.space, self.x, self.d, self.start = space, x, d, start
        self.noise = ROUNDINGS * space.epsilon(x) * abs(start.loss)

    def evaluate(self, t: float) -> Search[Trial]:
        loss, g = yield self.space.plus(self.x, t, self.d)
        slope = self.space.dot(g, self.d)
        return Trial(t, loss, g, slope) if is_finite(loss, slope) else Trial(t, math.inf, g, math.nan)

    def too_high(self, trial: Trial) -> bool:
        """Whether the loss has not fallen as far as the first slope promises."""
        if self.alike(trial, self.start):
            return trial.slope > (2 * SUFFICIENT - 1) * self.start.slope
        return trial.loss > self.start.loss + SUFFICIENT * trial.t * self.start.slope

    def alike(self, a: Trial, b: Trial) -> bool:
        """Whether rounding hides which of two losses is lower, and would also hide the decrease that is required."""
        promised = -SUFFICIENT * max(a.t, b.t) * self.start.slope
        return abs(a.loss - b.loss) <= self.noise and promised <= self.noise

    def no_lower(self, trial: Trial, than: Trial) -> bool:
        return trial.loss >= than.loss and not self.alike(trial, than)

    def lowest(self, a: Trial, b: Trial, least: float, most: float) -> float:
        """Where the cubic through both has its minimum; that of a parabola where the losses are alike."""
        if self.alike(a, b):
            b = b._replace(loss=a.loss + (b.t - a.t) * (a.slope + b.slope) / 2)
        return lowest(a, b, least, most)

    def flat(self, trial: Trial) -> bool:
        return abs(trial.slope) <= -CURVATURE * self.start.slope


def search(line: Line, t: float, narrowest: float, most: int) -> Search[tuple[Trial, int]]:
    """The trial to accept and the number of evaluations, at most about `most`; t is the first length."""
    last, new, evaluations = line.start, (yield from line.evaluate(t)), 1
    while evaluations <= most:
        if line.too_high(new) or (evaluations > 2 and line.no_lower(new, last)):
            break
        if line.flat(new):
            return new, evaluations
        if new.slope >= 0:
            break
        t = line.lowest(last, new, new.t + LEAST_GROWTH * (new.t - last.t), new.t * MOST_GROWTH)
        last, new, evaluations = new, (yield from line.evaluate(t)), evaluations + 1
    else:
        last = line.start
    return (yield from _zoom(line, [last, new], narrowest, most, evaluations))


def _zoom(line: Line, bracket: list[Trial], narrowest: float, most: int, evaluations: int) -> Search[tuple[Trial, int]]:
    """Narrows a bracket; its lower end satisfies the first condition at all times."""
    extent, stuck = line.space.largest(line.d), False
    low, high = _order(line, bracket)
    while evaluations <= most and not abs(bracket[1].t - bracket[0].t) * extent < narrowest:
        left, right = sorted(bracket, key=lambda trial: trial.t)
        t, stuck = _inside(line, left, right, stuck)
        new, evaluations = (yield from line.evaluate(t)), evaluations + 1
        if line.too_high(new) or line.no_lower(new, bracket[low]):
            bracket[high] = new
            low, high = _order(line, bracket)
            continue
        if line.flat(new):
            return new, evaluations
        if new.slope * (bracket[high].t - bracket[low].t) >= 0:
            bracket[high] = bracket[low]
        bracket[low] = new
    return bracket[low], evaluations


def _order(line: Line, bracket: list[Trial]) -> tuple[int, int]:
    """Which end has the lower loss; if the losses are alike, the less steep end."""
    a, b = bracket
    if line.alike(a, b):
        return (0, 1) if abs(a.slope) <= abs(b.slope) else (1, 0)
    return (0, 1) if a.loss <= b.loss else (1, 0)


def _inside(line: Line, left: Trial, right: Trial, stuck: bool) -> tuple[float, bool]:
    """The next length to try, and whether it is near an end of the bracket; the second time it is moved away."""
    t, margin = line.lowest(left, right, left.t, right.t), MARGIN * (right.t - left.t)
    if min(right.t - t, t - left.t) >= margin:
        return t, False
    if stuck or t >= right.t or t <= left.t:
        return (right.t - margin if abs(t - right.t) < abs(t - left.t) else left.t + margin), False
    return t, True


def lowest(a: Trial, b: Trial, least: float, most: float) -> float:
    """Where the cubic through both has its minimum, within the bounds; their middle where it has none."""
    left, right = (a, b) if a.t <= b.t else (b, a)
    width = right.t - left.t
    d1 = left.slope + right.slope - divide(3 * (left.loss - right.loss), left.t - right.t)
    square = d1 * d1 - left.slope * right.slope
    if not square >= 0:
        return (least + most) / 2
    d2 = math.sqrt(square)
    t = right.t - width * divide(right.slope + d2 - d1, right.slope - left.slope + 2 * d2)
    return (least + most) / 2 if math.isnan(t) else min(max(t, least), most)
