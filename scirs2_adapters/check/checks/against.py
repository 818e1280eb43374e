"""The walk of an optimizer beside that of a rule of ours in float64, step by step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from scirs2_adapters.core import HostOptimizer, Rule

from ..driver import Driver
from ..outcome import expect
from ..problem import Array, Arrays, Problem

#: Of the length of the way. Frameworks keep constants in float32, even where parameters are in float64.
TOLERANCE = 1e-4
_STEPS = 12
#: name -> shape and size of the gradients. Faint ones show where eps stands.
_LEAVES = {"tall": ((6, 3), 1.0), "vector": ((7,), 1.0), "faint": ((5,), 1e-7), "strong": ((4,), 30.0)}

Steps = list[Arrays]


def walked() -> tuple[Problem, Steps]:
    """First parameters, and gradients for each step that do not depend on where the walk is. They are in the order in
    which JAX sorts them, for rules that tell parameters by their places.
    """
    rng, order, grads = np.random.default_rng(7), sorted(_LEAVES), Steps()
    params = {k: _single(rng.standard_normal(shape) / 10) for k, (shape, _) in _LEAVES.items()}
    for _ in range(_STEPS):
        by_name = {k: _single(size * (rng.standard_normal(shape) + 0.5)) for k, (shape, size) in _LEAVES.items()}
        grads.append([by_name[k] for k in order])
    return Problem(tuple(order), [params[k] for k in order], ()), grads


def _single(x: Array) -> Array:
    """Rounded to float32, for frameworks that cannot do without."""
    return x.astype(np.float32).astype(np.float64)


def reference(rule: Rule, layout: str) -> Steps:
    """Where the rule is after each step, by its formula in float64."""
    start, grads = walked()
    params = {k: p.copy() for k, p in zip(start.names, start.params, strict=True)}
    optimizer, places = HostOptimizer(rule, params, kernel="traced", layout=layout), []
    for step in grads:
        optimizer.step(dict(zip(start.names, step, strict=True)))
        places.append([p.copy() for p in params.values()])
    return places


def gap(places: Steps, wanted: Steps) -> tuple[float, str]:
    """The largest distance from the wanted places relative to the way there, and the parameter where it is."""
    start, _ = walked()
    gaps = []
    for i, name in enumerate(start.names):
        way = sum(float(np.linalg.norm(b[i] - a[i])) for a, b in zip([start.params, *wanted[:-1]], wanted, strict=True))
        far = max(float(np.linalg.norm(p[i] - q[i])) for p, q in zip(places, wanted, strict=True))
        # a way that float32 cannot resolve shows nothing
        gaps.append((far / max(way, 1e-2 * float(np.linalg.norm(start.params[i]))), name))
    return max(gaps)


def walk(driver: Driver) -> Steps:
    """Where the optimizer is after each step."""
    start, grads = walked()
    run, places = driver.arrays(start, "float64"), []
    for step in grads:
        run.step(step)
        places.append(run.params())
    return places


def same_walk(driver: Driver, rules: Mapping[str, Rule]) -> None:
    """Its walk is that of the rule in float64.

    `rules` are the rule and its forms by `match`, the one that is asked for first.
    """
    places = walk(driver)
    gaps = {name: gap(places, reference(rule, driver.layout)) for name, rule in rules.items()}
    (asked, (far, where)), *others = gaps.items()
    near = [name for name, (other, _) in others if other <= TOLERANCE]
    hint = f"; it walks with {', '.join(near)}" if near else ""
    came = f"{far:.0e} of the way at the gradients called {where}{hint}"
    expect(far <= TOLERANCE, f"{asked} within {TOLERANCE:.0e} of the way", came)
