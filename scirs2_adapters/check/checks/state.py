"""State that is saved, restored and copied."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

from ..driver import Driver, Run
from ..outcome import expect
from ..problem import STEPS, Arrays, same_bits

_BITS = "the same bits as without a stop"


def _whole(driver: Driver) -> Arrays:
    """The end of a walk without a stop."""
    run = driver.start()
    run.advance(STEPS)
    return run.params()


def _halfway(driver: Driver) -> Run:
    run = driver.start()
    run.advance(STEPS // 2)
    return run


def _resumed(driver: Driver, saved: object) -> Run:
    """A new optimizer that goes on from there."""
    run = driver.start()
    run.restore(saved)
    return run


def resume(driver: Driver) -> None:
    """A walk that is saved in the middle and goes on in a new optimizer ends at the same bits."""
    run = _resumed(driver, _halfway(driver).saved())
    run.advance(STEPS - STEPS // 2)
    expect(same_bits(run.params(), _whole(driver)), _BITS, "another end")


def resume_again(driver: Driver) -> None:
    """A state that was restored can be saved and restored once more."""
    run = _resumed(driver, _resumed(driver, _halfway(driver).saved()).saved())
    run.advance(STEPS - STEPS // 2)
    expect(same_bits(run.params(), _whole(driver)), _BITS, "another end")


def shared(driver: Driver) -> None:
    """Two optimizers that restore one saved state do not share memory."""
    saved = _halfway(driver).saved()
    first, second = _resumed(driver, saved), _resumed(driver, saved)
    first.advance(STEPS - STEPS // 2)
    second.advance(STEPS - STEPS // 2)
    expect(same_bits(second.params(), _whole(driver)), "a walk that the other one does not change", "another end")


def _copied(driver: Driver, copier: Callable[[object], object]) -> None:
    """A copy goes on like the original, which it does not change."""
    run, other = _halfway(driver), driver.start()
    other.adopt(copier(run.owned()))
    other.at = run.at
    other.advance(STEPS - STEPS // 2)
    expect(same_bits(other.params(), _whole(driver)), "a copy that goes on like the original", "another end")
    run.advance(STEPS - STEPS // 2)
    expect(same_bits(run.params(), _whole(driver)), "an original that its copy does not change", "another end")


def deepcopy(driver: Driver) -> None:
    """A deep copy goes on like the original."""
    _copied(driver, copy.deepcopy)


def pickled(driver: Driver) -> None:
    """A pickle goes on like the original."""
    _copied(driver, lambda owned: pickle.loads(pickle.dumps(owned)))


CHECKS = (resume, resume_again, shared, deepcopy, pickled)
