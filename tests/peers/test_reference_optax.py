"""Twins beside optax over a hundred steps, in float64: parameters and state, of rules whose steps follow from all steps
before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import optax
import pytest

from tests.reference import reference

from .problem import WALK, Record

STEPS = 100
#: optax's SM3 takes no parameter without axes.
SHAPES = ((4, 3), (5,), (2, 3, 4), (3, 1, 2, 2))
#: As far as rounding goes in so many steps, of numbers that follow from each other.
NEAR = 1e-10
BASES: Mapping[str, tuple[dict[str, Any], optax.GradientTransformation]] = {
    "sgd": ({}, optax.sgd(1.0)),
    "adamw": ({"weight_decay": 0.01}, optax.adamw(1.0, weight_decay=0.01)),
    "lion": ({"weight_decay": 0.01}, optax.lion(1.0, weight_decay=0.01)),
}
OURS = {"mechanic_decay": 0.1, "mechanic_eps": 1e-6, "s_init": 1e-3, "num_betas": 3}
THEIRS = {"weight_decay": 0.1, "eps": 1e-6, "s_init": 1e-3, "num_betas": 3}
#: From the parameters and the state of optax's to the arrays that a twin has too, by name.
Named = Callable[[list, Any], Mapping[str, Any]]


def start() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.normal(size=shape) for shape in SHAPES]


def gradients() -> list[list[np.ndarray]]:
    """Noise around a drift; some elements have no gradient for a while."""
    rng = np.random.default_rng(2)
    steps = [[rng.normal(0.3, size=shape) for shape in SHAPES] for _ in range(STEPS)]
    for step in steps[:5]:
        step[0][1] = 0.0
    return steps


def optaxs(transform: optax.GradientTransformation, named: Named) -> Iterator[Mapping[str, Any]]:
    params = [jax.numpy.asarray(p) for p in start()]
    state, update = transform.init(params), jax.jit(transform.update)
    for grads in gradients():
        updates, state = update([jax.numpy.asarray(g) for g in grads], state, params)
        params = optax.apply_updates(params, updates)
        yield {f"{i}/p": p for i, p in enumerate(params)} | dict(named(params, state))


def twins(name: str, hyper: dict[str, Any]) -> Iterator[dict[str, np.ndarray]]:
    for xs, state in zip(*reference(name)(start(), gradients(), hyper=hyper), strict=True):
        slots = {f"{i}/{k}": x for i, leaf in enumerate(state["leaves"]) for k, x in leaf.items()}
        yield {f"{i}/p": x for i, x in enumerate(xs)} | slots | state["model"]


def compared(name: str, hyper: dict[str, Any], transform: optax.GradientTransformation, named: Named) -> float:
    """The largest gap of anything that both have, at any step, relative to the largest number there."""
    worst = 0.0
    for ours, theirs in zip(twins(name, hyper), optaxs(transform, named), strict=True):
        assert theirs.keys() <= ours.keys()
        for key, right in theirs.items():
            size = np.max(np.abs(right)) or 1.0
            worst = max(worst, float(np.max(np.abs(ours[key] - np.asarray(right))) / size))
    assert worst <= NEAR
    return worst


def test_sm3_and_its_state_agree_with_optax(record_property: Record) -> None:
    def named(params: list, state: Any) -> dict[str, Any]:
        lists = {f"{i}/{'accumulator' if len(s) > 1 else 'sum'}": np.concatenate(s) for i, s in enumerate(state[0].mu)}
        return lists | {f"{i}/exp_avg": x for i, x in enumerate(state[0].nu)}

    with jax.enable_x64(True):
        seen = compared("sm3", {"learning_rate": 0.05}, optax.sm3(0.05), named)
    record_property(WALK, ("sm3", "optax.sm3", seen))


@pytest.mark.parametrize(("ours", "theirs"), [({}, {}), (OURS, THEIRS)], ids=["defaults", "options"])
@pytest.mark.parametrize("base", BASES)
def test_mechanize_and_its_numbers_agree_with_optax(
    base: str, ours: dict[str, Any], theirs: dict[str, Any], record_property: Record
) -> None:
    def named(params: list, state: Any) -> dict[str, Any]:
        lists = {f"mechanic_{n}": getattr(state, n) for n in "rmvs"}
        return {f"{key}_{i + 1}": x for key, numbers in lists.items() for i, x in enumerate(numbers)}

    hyper = {"base": base, "learning_rate": 1.0, **BASES[base][0], **ours}
    with jax.enable_x64(True):
        seen = compared("mechanize", hyper, optax.contrib.mechanize(BASES[base][1], **theirs), named)
    record_property(WALK, ("mechanize", "optax.contrib.mechanize", seen))
