"""Which variant of an optimizer makes, of one run's state and gradient, the step that the other run has made."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.core.matrix import OUTPUTS_FIRST
from scirs2_adapters.core.portable.file import Array
from scirs2_adapters.core.portable.recording import GRAD, NORM, PARAM
from scirs2_adapters.core.portable.state import OPTIONAL, ParameterState, State, numbers_in
from scirs2_adapters.core.registry import get, names
from scirs2_adapters.core.rule import Rule

from .fitting import fitted
from .measure import gap, rounding
from .reading import Step
from .variants import Variant, changed, variants


class Around(NamedTuple):
    """A step of a run: what there was before it, what it has led to, and the learning rates of it and its neighbours,
    by how far away these are, and by group.
    """

    before: Step
    after: Step
    rates: Mapping[int, Sequence[object]]


def rule_of(state: State) -> Rule | None:
    """The rule with the hyperparameters that were recorded, if they are known."""
    if state.rule not in names() or "learning_rate" not in state.config:
        return None
    config = {k: tuple(x) if isinstance(x, list) else x for k, x in state.config.items()}
    try:
        return get(state.rule)(**config)
    except (TypeError, ValueError):
        return None


def candidates(rule: Rule, others: Mapping[str, object]) -> Iterator[tuple[Variant, ...]]:
    """No change, each one, and each two together."""
    each = variants(rule, others)
    yield ()
    yield from itertools.combinations(each, 1)
    yield from itertools.combinations(each, 2)


def explanations(known: Around, other: Around, tolerance: float) -> list[str] | None:
    """What the other run does otherwise, in words: all that explain its step with as few changes as can be, the closest
    first. "" stands for no change at all. None where nothing can be tried, and an empty list where nothing fits.
    """
    rules = [rule_of(state) for state in known.after.groups]
    first, tried, fewest, best = rules[0], 0, 2, dict[str, float]()
    if first is None or any(rule is None for rule in rules):
        return None
    recorded = other.after.groups[0].config if rule_of(other.after.groups[0]) else _rate(other)
    for together in candidates(first, recorded):
        if len(together) > fewest:
            break
        times = _times(known, other, [rule for rule in rules if rule], together, tolerance)
        tried += times is not None
        if times is not None and times <= 1:
            fewest = len(together)
            best.setdefault(" and ".join(one.says for one in together), times)
    if tried and not best:
        kept = [rule for rule in rules if rule]
        fits = fitted(first, lambda together: _misses(known, other, kept, together, tolerance))
        return [" and ".join(one.says for one in together) for together in fits]
    return sorted(best, key=lambda said: round(best[said], 3)) if tried else None


def _rate(run: Around) -> dict[str, object]:
    """The learning rate alone, which is called the same everywhere."""
    config = run.after.groups[0].config
    return {"learning_rate": config["learning_rate"]} if "learning_rate" in config else {}


def _times(
    known: Around, other: Around, rules: Sequence[Rule], together: Sequence[Variant], tolerance: float
) -> float | None:
    """The largest difference from the other run's step, by what is allowed; None where it cannot be told."""
    misses = _misses(known, other, rules, together, tolerance)
    return max(misses.values()) if misses else None


def _misses(
    known: Around, other: Around, rules: Sequence[Rule], together: Sequence[Variant], tolerance: float
) -> dict[str, float] | None:
    """How far what is made so is from the other run's step, slot by slot."""
    worst: dict[str, float] = {}
    for group, (rule, state) in enumerate(zip(rules, known.after.groups, strict=True)):
        try:
            rated = rule.replace_unchecked({"learning_rate": _asked(known, group, together)})
            made = stepped(changed(rated, together), known, state, together)
        except (TypeError, ValueError, ArithmeticError, KeyError):
            return None
        for name, slots in made.items():
            for slot, times in _missed(known, other, name, slots, tolerance):
                worst[slot] = max(times, worst.get(slot, 0.0))
    return worst or None


def _asked(known: Around, group: int, together: Iterable[Variant]) -> object:
    """The learning rate of the step that the variants mean."""
    return known.rates[next((one.rate for one in together if one.rate), 0)][group]


def _missed(
    known: Around, other: Around, name: str, slots: Mapping[str, np.ndarray], tolerance: float
) -> Iterator[tuple[str, float]]:
    """How far a step of a parameter that was made so is from the other run's."""
    start, p = known.before.numbers(name, PARAM), other.before.parameters[name]
    theirs = other.after.parameters[name]
    before, after = numbers_in(p, PARAM), numbers_in(theirs, PARAM)
    assert start is not None
    yield PARAM, gap(after - before, slots[PARAM] - start, tolerance, rounding(after, theirs.dtype)).times
    for slot in theirs.slots:
        if slot not in (PARAM, GRAD, *OPTIONAL) and not slot.endswith(NORM):
            yield slot, _apart(theirs, slot, slots.get(slot), tolerance)


def _apart(p: ParameterState, slot: str, made: np.ndarray | None, tolerance: float) -> float:
    there = numbers_in(p, slot)
    if made is None or there.shape != made.shape:
        return math.inf
    return gap(there, made, tolerance, rounding(there, p.slots[slot].dtype)).times


def stepped(rule: Rule, known: Around, state: State, together: Sequence[Variant]) -> dict[str, dict[str, np.ndarray]]:
    """What a step by this rule makes of the parameters of a group, by numpy in the dtype of their arithmetic; without
    those of which only the whole array could tell.
    """
    held = known.before.parameters
    given = {n: p for n, p in state.parameters.items() if GRAD in p.slots and n in held}
    params = {n: numbers_in(held[n], PARAM).astype(_arithmetic(held[n])) for n in given}
    if not params:
        return {}
    host = HostOptimizer(rule, params, kernel="traced", layout=state.layout or OUTPUTS_FIRST)
    if any(_sampled(held[n]) and not _by_element(host, n) for n in given):
        kept = [n for n in given if not _sampled(held[n]) or _by_element(host, n)]
        if rule.model_slots() or not kept:
            return {}
        params = {n: params[n] for n in kept}
        host = HostOptimizer(rule, params, kernel="traced", layout=state.layout or OUTPUTS_FIRST)
    shift, fresh = sum(one.shift for one in together), any(one.fresh for one in together)
    host.model |= {k: x for k, x in known.before.group_of(next(iter(params))).numbers.items() if k in host.model}
    for name in params:
        host.steps[name] = max(0, _count(known, name) + shift)
        slots = {slot: numbers_in(held[name], slot) for slot in held[name].slots}
        first = host.fresh(name)
        fits = {k: x for k, x in first.items() if not fresh and k in slots and slots[k].shape == x.shape}
        host.state[name] = first | {k: np.array(slots[k], first[k].dtype) for k in fits}
    host.step({n: numbers_in(given[n], GRAD).astype(p.dtype) for n, p in params.items()})
    return {n: {slot: x.astype(np.float64) for slot, x in {PARAM: params[n], **host.state[n]}.items()} for n in params}


def _arithmetic(p: ParameterState) -> str:
    return "float64" if p.slots[PARAM].dtype == "float64" else "float32"


def _count(known: Around, name: str) -> int:
    """The steps that a parameter has taken before; where nobody counts, whether it was the first is what matters."""
    p = known.before.parameters[name]
    if p.steps is not None:
        return p.steps
    return known.before.number if {*p.slots} - {PARAM, GRAD} else 0


def _sampled(p: ParameterState) -> bool:
    x: Array = p.slots[PARAM]
    return p.shape is not None and not p.complex and x.shape != p.shape


def _by_element(host: HostOptimizer, name: str) -> bool:
    """Whether each number is stepped without regard to the others."""
    entry = host._entries[name]
    return entry.program.levels == 0 and not entry.rule.per_parameter
