"""Learning rates that change."""

from __future__ import annotations

from ..driver import Driver
from ..outcome import NotApplicable, expect
from ..problem import STEPS, Arrays, distance, same_bits

#: Of the learning rate, by step. The first one counts: Rprop, for one, looks at the rate of its first step only.
FACTORS = tuple(0.5 ** (1 + step % 3) for step in range(STEPS))
#: Frameworks compute factors in float32.
_CLOSE = 1e-5


def by_hand(driver: Driver) -> None:
    """A learning rate that is set before the first step acts as an argument of the constructor."""
    _constant(driver)
    half = driver.subject.rate_value / 2
    constructed, changed = driver.start({driver.rate(): half}), driver.settable()
    changed.set_rate(half)
    for run in (constructed, changed):
        run.advance(STEPS)
    gap = distance(changed.params(), constructed.params())
    expect(gap < _CLOSE, "the walk of an optimizer made with that rate", "another walk")


def schedule(driver: Driver) -> None:
    """A schedule acts as learning rates set by hand before each step."""
    constant = _constant(driver)
    run, scheduled = driver.settable(), driver.scheduled(FACTORS)
    for factor in FACTORS:
        run.set_rate(driver.subject.rate_value * factor)
        run.advance(1)
    scheduled.advance(STEPS)
    expect(distance(scheduled.params(), run.params()) < _CLOSE, "the walk with rates set by hand", "another walk")
    expect(not same_bits(scheduled.params(), constant), "a walk by the schedule", "that of the first rate")


def _constant(driver: Driver) -> Arrays:
    """The end of a walk with its learning rate. Where half of it changes nothing, rates cannot be checked."""
    whole, halved = driver.start(), driver.start({driver.rate(): driver.subject.rate_value / 2})
    for run in (whole, halved):
        run.advance(STEPS)
    if same_bits(whole.params(), halved.params()):
        raise NotApplicable("its steps do not depend on the learning rate")
    return whole.params()


CHECKS = (by_hand, schedule)
