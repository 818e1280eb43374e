"""What `test_matches.py` compares, derived from `rule.matches`: hyperparameters, and the walk of a rule."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

import scirs2_adapters
from scirs2_adapters.core import HostOptimizer, Rule, with_closure
from scirs2_adapters.core.argument_names import ArgumentNames
from scirs2_adapters.core.registry import with_value
from tests.conformance.options import other

Hyper = dict[str, Any]
#: Parameters after each step.
Walk = list[list[np.ndarray]]

STEPS = 8
#: From this step on the learning rate is halved: what a buffer holds of it shows then.
HALVED = 4
#: Values that show, and that the frameworks take.
CHOSEN = {"weight_decay": 0.1, "eps": 0.01, "eps1": 0.01, "eps2": 0.01, "clip_threshold": 1.1}
#: The first one is nothing but zeros at first. The longest axes of the last one are not its last ones.
SHAPES = ((2,), (4, 3), (3, 6), (5,), (), (4, 2, 3))


def parameters() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [np.zeros(SHAPES[0]), *(np.asarray(rng.normal(size=shape)) for shape in SHAPES[1:])]


def gradients() -> list[list[np.ndarray]]:
    rng = np.random.default_rng(4)
    return [[np.asarray(rng.normal(0.5, size=shape)) for shape in SHAPES] for _ in range(STEPS)]


def losses() -> list[float]:
    """The loss of each step, for optimizers that depend on it; the last ones are small."""
    return (40.0 * 0.5 ** np.arange(STEPS)).tolist()


def matched(framework: str) -> list[type[Rule]]:
    """Every rule with a row for this framework; those that evaluate the model are compared in tests of their own."""
    rules = map(scirs2_adapters.get, (*scirs2_adapters.names(), *with_value()))
    return [rule for rule in rules if framework in rule.matches and rule.name not in with_closure()]


#: Hyperparameters that a framework means otherwise.
DIFFERENT: dict[tuple[str, str], dict[str, str]] = {
    ("adafactor", "optax"): {"decay_offset": "optax's counts from 0, and takes 0 to the power where it is reached"},
    ("adafactor", "keras"): {"eps1": "Keras' is added to squares; the match keeps it a bound of the root, as it began"},
}


def variants(
    rule: type[Rule], framework: str, words: Mapping[str, str], function: Callable[..., Any]
) -> Iterator[Hyper]:
    """No hyperparameter, all that shapes memory, and every other by itself, as far as the framework has them. `words`
    are its names for the fields.
    """
    taken = inspect.signature(function).parameters.keys()
    taken -= {words[k] for k in DIFFERENT.get((rule.name, framework), ())}
    shared = {k: f for k, f in rule.fields.items() if words[k] in taken and k not in ("maximize", "learning_rate")}
    structural = {k: other(f) for k, f in shared.items() if f.structural}
    momentum = {k: v for k, v in structural.items() if k == "momentum"}
    yield {}
    yield from ([momentum] if momentum else [])
    yield from ([structural] if structural not in ({}, momentum) else [])
    for key, field in shared.items():
        if key not in structural:
            yield momentum | {key: CHOSEN.get(key, other(field))}


def arguments(rule: Rule, hyper: Hyper, names: ArgumentNames) -> Hyper:
    """The hyperparameters under the framework's names; those that share a tuple come with its other members."""
    config = {k: getattr(rule, k) for k in rule.fields}
    spelled = names.spelled(rule.fields)
    said = {spelled[k] for k in hyper}
    return {k: v for k, v in names.to_framework(config, rule.fields).items() if k in said}


def walk(rule: Rule) -> Walk:
    """The rule's walk in float64, by numpy."""
    params, path = parameters(), []
    optimizer = HostOptimizer(rule, params, kernel="traced")
    for t, (grads, loss) in enumerate(zip(gradients(), losses(), strict=True)):
        if t == HALVED:
            optimizer.replace(learning_rate=rule.learning_rate / 2)
        optimizer.step(grads, value=loss)
        path.append([p.copy() for p in params])
    return path


def gap(ours: Walk, theirs: Walk) -> float:
    """The largest distance at any step, relative to the way that the other one has gone until then."""
    start, worst = parameters(), 0.0
    for mine, other_one in zip(ours, theirs, strict=True):
        for p, q, origin in zip(mine, other_one, start, strict=True):
            way = np.linalg.norm(np.ravel(q - origin))
            worst = max(worst, float(np.linalg.norm(np.ravel(p - q)) / max(way, 1e-300)))
    return worst
