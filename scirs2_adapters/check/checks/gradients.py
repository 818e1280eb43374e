"""What a step makes of gradients: of those that are missing, of zeros, and of the memory that they lie in."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np

from ..driver import Driver
from ..outcome import expect
from ..problem import MOVES, Arrays, same_bits


def finite(params: Arrays) -> bool:
    """Whether all numbers are."""
    return all(bool(np.isfinite(p).all()) for p in params)


def missing(driver: Driver) -> None:
    """A parameter without a gradient stays as it is, and others move."""
    run = driver.arrays()
    before = run.params()
    for _ in range(MOVES):
        run.step([g if i else None for i, g in enumerate(driver.problem.gradients(before, 0))])
    after = run.params()
    expect(np.array_equal(before[0], after[0]), "the parameter without a gradient unchanged", "a change")
    expect(not np.array_equal(before[1], after[1]), "the others moved", "no change")


def zeros(driver: Driver) -> None:
    """Gradients of zero leave parameters finite."""
    run = driver.arrays()
    for _ in range(3):
        run.step([np.zeros_like(p) for p in driver.problem.params])
    expect(finite(run.params()), "finite parameters", "NaN or infinity")


def asleep(driver: Driver) -> None:
    """A parameter whose gradients begin later than those of others is stepped from then on."""
    run = driver.arrays()
    grads = driver.problem.gradients(driver.problem.params, 0)
    for _ in range(2):
        run.step([g if i else None for i, g in enumerate(grads)])
    before = run.params()
    for _ in range(MOVES):
        run.step(grads)
    expect(finite(run.params()), "finite parameters", "NaN or infinity")
    expect(not np.array_equal(run.params()[0], before[0]), "a parameter that moves", "no change")


def unchanged(driver: Driver) -> None:
    """A step leaves gradients as they were."""
    run = driver.arrays()
    for step in range(2):
        grads = run.native(driver.problem.gradients(driver.problem.params, step))
        before = [run.numbers(g) for g in grads]
        run.apply(grads)
        expect(same_bits([run.numbers(g) for g in grads], before), "gradients unchanged", "other numbers in them")


def not_held(driver: Driver) -> None:
    """After a step, nothing holds the gradients."""
    run = driver.arrays()
    grads = list(run.native(driver.problem.gradients(driver.problem.params, 0)))
    references = [weakref.ref(g) for g in grads]
    run.apply(grads)
    run.forget()
    grads.clear()
    gc.collect()
    alive = sum(reference() is not None for reference in references)
    expect(alive == 0, "all gradients freed", f"{alive} of {len(references)} held")


def shapes(driver: Driver) -> None:
    """Parameters that are one number, or hold none, are stepped."""
    params = [np.array(0.5), np.zeros((0, 3)), np.full((1,), 0.5), np.full((1, 1, 2, 2, 1), 0.5)]
    names = ("number", "nothing", "single", "deep")
    run = driver.arrays(replace(driver.problem, params=params, names=names))
    for _ in range(MOVES):
        run.step([np.ones_like(p) for p in params])
    after = run.params()
    expect([p.shape for p in after] == [p.shape for p in params], "shapes kept", "others")
    expect(finite(after), "finite parameters", "NaN or infinity")
    moved = [bool((a != b).all()) for a, b in zip(after, params, strict=True)]
    expect(all(moved), "each parameter moved", "some did not")


CHECKS = (missing, zeros, asleep, unchanged, not_held, shapes)
