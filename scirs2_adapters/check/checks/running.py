"""What is around a step: threads, compilers, and memory that is given back."""

from __future__ import annotations

import copy
import gc
import weakref
from dataclasses import replace

import numpy as np

from ..driver import Driver, Run
from ..outcome import expect
from ..problem import STEPS, Arrays, distance, same_bits

#: Enough for frameworks to divide their work: torch does from 32,768 numbers on.
_LARGE = 100_000


def threads(driver: Driver) -> None:
    """One thread and two give the same bits."""
    rng = np.random.default_rng(5)
    params = [rng.standard_normal(_LARGE), rng.standard_normal((256, 160))]
    grads = [rng.standard_normal(p.shape) for p in params]
    ends: list[Arrays] = []
    before = driver.set_threads(1)
    try:
        for count in (1, 2):
            driver.set_threads(count)
            run = driver.arrays(replace(driver.problem, params=params, names=("long", "wide")))
            for _ in range(2):
                run.step(grads)
            ends.append(run.params())
    finally:
        driver.set_threads(before)
    expect(same_bits(*ends), "the same bits", "others")


def repeated(driver: Driver) -> None:
    """Two walks from the same state end at the same bits."""
    first = driver.start()
    first.advance(STEPS // 2)
    saved, ends = first.saved(), []
    for _ in range(2):
        run = driver.start()
        run.restore(copy.deepcopy(saved))
        run.advance(STEPS)
        ends.append(run.params())
    expect(same_bits(*ends), "the same bits", "others")


def compiled(driver: Driver) -> None:
    """Compiled steps walk as those that are not."""
    run, compiled_run = driver.start(), driver.compiled()
    for each in (run, compiled_run):
        each.advance(STEPS)
    expect(distance(compiled_run.params(), run.params()) < 1e-5, "the same walk to 1e-5", "another walk")


def compiled_once(driver: Driver) -> None:
    """Steps are compiled once, and not again because a dtype or a structure has changed."""
    run = driver.compiled()
    run.advance(3)
    times = driver.times_compiled(run)
    expect(times == 1, "one compilation for three steps", f"{times}")


def dropped(driver: Driver) -> None:
    """An optimizer that is dropped is freed."""
    reference = _dropped(driver.start())
    gc.collect()
    expect(reference() is None, "the optimizer freed", "something holds it")


def _dropped(run: Run) -> weakref.ref[object]:
    run.advance(2)
    return weakref.ref(run.optimizer_object())


CHECKS = (threads, repeated, compiled, compiled_once, dropped)
