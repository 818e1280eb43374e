"""What an optimizer's constructor owes."""

from __future__ import annotations

from ..driver import Driver
from ..outcome import expect
from ..problem import STEPS, same_bits


def kind(driver: Driver) -> None:
    """It makes an optimizer of the framework's kind."""
    wanted, fits = driver.kind()
    expect(fits, wanted, "something else")


def negative_rate(driver: Driver) -> None:
    """A negative learning rate is refused."""
    driver.refuses({driver.rate(): -1.0})


def nan_rate(driver: Driver) -> None:
    """A learning rate that is NaN is refused."""
    driver.refuses({driver.rate(): float("nan")})


def text_rate(driver: Driver) -> None:
    """A learning rate that is no number is refused."""
    driver.refuses({driver.rate(): "fast"})


def unknown_argument(driver: Driver) -> None:
    """An argument that it does not know is refused."""
    driver.refuses({"no_such_argument": 1.0})


def rebuilt(driver: Driver) -> None:
    """What it says of itself makes the same optimizer again."""
    changes = {driver.rate(): driver.subject.rate_value / 2} if driver.subject.rate else {}
    run, again = driver.start(changes), driver.rebuilt(changes)
    for each in (run, again):
        each.advance(STEPS)
    expect(same_bits(again.params(), run.params()), "the same bits after six steps", "another walk")


CHECKS = (kind, negative_rate, nan_rate, text_rate, unknown_argument, rebuilt)
