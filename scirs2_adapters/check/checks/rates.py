"""Learning rates that change."""

from __future__ import annotations

from ..driver import Driver
from ..outcome import NotApplicable, expect
from ..problem import STEPS, distance, same_bits

#: Of the learning rate, by step.
FACTORS = tuple(0.5 ** (step % 3) for step in range(STEPS))
#: Frameworks compute factors in float32.
_CLOSE = 1e-5


def by_hand(driver: Driver) -> None:
    """A learning rate that is set before the first step acts as one that is given to the constructor."""
    word, half = driver.rate(), driver.subject.rate_value / 2
    made, changed, whole = driver.start({word: half}), driver.settable(), driver.start()
    changed.set_rate(half)
    for run in (made, changed, whole):
        run.advance(STEPS)
    if same_bits(made.params(), whole.params()):
        raise NotApplicable("its steps do not depend on the learning rate")
    gap = distance(changed.params(), made.params())
    expect(gap < _CLOSE, "the walk of an optimizer made with that rate", "another walk")


def schedule(driver: Driver) -> None:
    """A schedule acts as learning rates set by hand before each step."""
    driver.rate()
    run, scheduled = driver.settable(), driver.scheduled(FACTORS)
    for factor in FACTORS:
        run.set_rate(driver.subject.rate_value * factor)
        run.advance(1)
    scheduled.advance(STEPS)
    expect(distance(scheduled.params(), run.params()) < _CLOSE, "the walk with rates set by hand", "another walk")


CHECKS = (by_hand, schedule)
