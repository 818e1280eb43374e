"""JAX: our `step`, and plain `update` with `apply_updates`, by the kernel and by the traced formula that accelerators
run, against optax; all under `jit`, parameters and state donated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

from scirs2_adapters import jax as ours

from .row import Model, Row, measure, models


@dataclass(frozen=True)
class Subject:
    """An optimizer of ours, optax's, and the bytes that a step moves for one parameter."""

    name: str
    ours: Callable[..., Any]
    optax: optax.GradientTransformation
    bytes: int


SUBJECTS = (
    Subject("AdamW", partial(ours.adamw, 1e-6), optax.adamw(1e-6), 28),
    Subject("SGD with momentum", partial(ours.sgd, 1e-6, momentum=0.9), optax.sgd(1e-6, momentum=0.9), 20),
    Subject("Lion", partial(ours.lion, 1e-6), optax.lion(1e-6), 20),
)


def rows(quick: bool) -> Iterator[Row]:
    """Each optimizer on four models."""
    large = [] if quick else [Model("1 tensor, 50 M", (50_000_000,))]
    for subject in SUBJECTS[:1] if quick else SUBJECTS:
        for model in [*models(quick), *large]:
            yield from _three_ways(subject, model)


def _three_ways(subject: Subject, model: Model) -> Iterator[Row]:
    mine, formula, theirs = subject.ours(), subject.ours(kernel="traced"), subject.optax
    grads = _arrays(model, 1)
    baseline = {"optax under jit": _stepper(model, theirs, grads, _plain(theirs))}
    traffic = subject.bytes * model.numbers
    fused = _stepper(model, mine, grads, lambda g, s, p: ours.step(mine, g, s, p))
    yield from measure("jax", f"{subject.name} step(), {model.name}", fused, baseline, model.rounds, traffic)
    del fused
    plain = _stepper(model, mine, grads, _plain(mine))
    yield from measure("jax", f"{subject.name} update + apply_updates, {model.name}", plain, baseline, model.rounds)
    del plain
    traced = _stepper(model, formula, grads, _plain(formula))
    yield from measure("jax", f"{subject.name} traced, {model.name}", traced, baseline, model.rounds)


def _plain(tx: Any) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    def step(grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def _stepper(model: Model, tx: Any, grads: Any, step: Callable[..., tuple[Any, Any]]) -> Callable[[], object]:
    fast = jax.jit(lambda params, state, grads: step(grads, state, params), donate_argnums=(0, 1))
    params = _arrays(model, 0)
    donated = [params, tx.init(params)]

    def one() -> None:
        donated[:] = jax.block_until_ready(fast(*donated, grads))

    return one


def _arrays(model: Model, seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [jax.device_put(rng.standard_normal(n, dtype=np.float32)) for n in model.sizes]
