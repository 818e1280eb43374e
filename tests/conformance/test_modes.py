"""What every rule can be asked for, around every rule, and wrappers in wrappers, against their slow twins."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import scirs2_adapters
from scirs2_adapters.core import Rule, Wrapper
from scirs2_adapters.core.errors import ArgumentValueError
from tests.reference import reference

from .cells import PATHS, TOLERANCES, Cell, gap
from .drivers import driver, drivers
from .drivers.core import Optimizer
from .options import Hyper, bases_of, decaying, looks, sums
from .problem import problem
from .walk import values, walk

RULES = {name: scirs2_adapters.get(name) for name in scirs2_adapters.names()}
PLAIN = [name for name, rule in RULES.items() if not issubclass(rule, Wrapper)]
WRAPPERS = [name for name, rule in RULES.items() if issubclass(rule, Wrapper)]
ORACLE = "core", "traced"


def fit(outer: str, inner: str) -> bool:
    """A wrapper that evaluates an average is the outermost. One that looks at matrices and one that sums over the model
    do not go together.
    """
    pair = [RULES[name] for name in (outer, inner)]
    return outer != inner and pair[1].evaluation is None and not (any(map(looks, pair)) and any(map(sums, pair)))


PAIRS = [pair for pair in itertools.product(WRAPPERS, WRAPPERS) if fit(*pair)]


def modes(rule: type[Rule]) -> Hyper:
    """All at once, as far as the rule has them."""
    beside = rule().decay in ("decoupled", "absolute")
    return {"cautious": True, "cautious_decay": beside, "peak_rate": 2.0}


def check(name: str, hyper: Hyper, twin_hyper: Hyper) -> None:
    task = problem("float64")
    ours = values(walk(Optimizer(name, hyper, "traced", task), task))
    theirs = values(reference(name)(task.params, task.grads, hyper=twin_hyper))
    assert ours.keys() == theirs.keys()
    for key, right in theirs.items():
        size = np.max(np.abs(right), initial=0.0)
        assert np.max(np.abs(ours[key] - right), initial=0.0) <= 10 * TOLERANCES["float64"] * size, key


@pytest.mark.parametrize("name", PLAIN)
def test_every_rule_has_every_mode(name: str) -> None:
    hyper = decaying(name) | modes(RULES[name])
    check(name, hyper, hyper)


@pytest.mark.parametrize("pair", PAIRS, ids="".join)
def test_wrappers_go_into_one_another(pair: tuple[str, str]) -> None:
    """The twin of the outer one calls that of the inner one, around the same base."""
    outer, inner = pair
    base = "adamw" if "adamw" in bases_of(RULES[inner]) else bases_of(RULES[inner])[0]
    rule = RULES[outer](f"{inner}({base})", **decaying(base))
    assert rule.label == f"{outer}({inner}({base}))"
    assert {s.name for s in rule.all_slots()} > {s.name for s in RULES[base]().all_slots()} or not _slots(outer, inner)
    assert type(rule)(**rule.get_config()) == rule


CELLS = [(a, path) for a in drivers() for path in PATHS if gap(Cell("adamw", a, path, "float64")) is None]


@pytest.mark.parametrize(("adapter", "path"), CELLS)
@pytest.mark.parametrize(
    ("name", "hyper"),
    [
        ("lion", modes(RULES["lion"])),
        ("cautious", {"base": "lion", "cautious_decay": True}),
        ("weightema", {"base": "mars(lookahead(lion))", "ema_decay": 0.9, "sync_period": 2}),
        ("schedulefree", {"base": "cliprms(lion)", "max_rms": 0.5, "r": 1.0}),
    ],
    ids=["lion", "cautious", "weightema", "schedulefree"],
)
def test_every_adapter_takes_them_as_arguments_and_as_text(adapter: str, path: str, name: str, hyper: Hyper) -> None:
    task, hyper = problem("float64"), {**decaying("lion"), **hyper}
    ours, core = (values(walk(driver(a).Optimizer(name, hyper, p, task), task)) for a, p in ((adapter, path), ORACLE))
    assert ours.keys() == core.keys()
    for key, right in core.items():
        size = np.max(np.abs(right), initial=0.0)
        assert np.max(np.abs(ours[key] - right), initial=0.0) <= TOLERANCES["float64"] * size, key


def _slots(*names: str) -> set[str]:
    return {s.name for name in names for s in RULES[name]()._own_slots()}


@pytest.mark.parametrize("name", WRAPPERS)
def test_no_wrapper_goes_around_itself_or_an_average(name: str) -> None:
    for base in (name, "schedulefreeadamw", "weightema"):
        if base in ("schedulefreeadamw", "weightema") or RULES[name].fields:
            with pytest.raises(ArgumentValueError, match=r"base|cautious_decay"):
                RULES[name](base)
