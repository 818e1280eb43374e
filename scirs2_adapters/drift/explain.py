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


class Trial(NamedTuple):
    """One run's step from that run's state, made with changes and held beside the other run's step."""

    known: Around
    other: Around
    rules: Sequence[Rule]
    tolerance: float
    only: frozenset[str] = frozenset()

    def places(self, together: Sequence[Variant]) -> dict[tuple[str, str], float] | None:
        """How far what is made so is off, by parameter and slot, as a multiple of what is allowed; None where it
        cannot be told.
        """
        misses: dict[tuple[str, str], float] = {}
        for group, (rule, state) in enumerate(zip(self.rules, self.known.after.groups, strict=True)):
            try:
                rated = rule.replace_unchecked({"learning_rate": _asked(self.known, group, together)})
                results = stepped(changed(rated, together), self.known, state, together)
            except (TypeError, ValueError, ArithmeticError, KeyError):
                return None
            for name, slots in results.items():
                if not self.only or name in self.only:
                    for slot, times in _missed(self.known, self.other, name, slots, self.tolerance):
                        misses[name, slot] = times
        return misses or None

    def misses(self, together: Sequence[Variant]) -> dict[str, float] | None:
        """The largest of these by slot."""
        worst: dict[str, float] = {}
        for (_, slot), times in (self.places(together) or {}).items():
            worst[slot] = max(times, worst.get(slot, 0.0))
        return worst or None


def explanations(known: Around, other: Around, tolerance: float) -> list[str] | None:
    """What the other run does otherwise, in words: all that explain its step with as few changes as can be, the closest
    first. "" stands for no change at all. None where nothing can be tried, and an empty list where nothing fits. What
    is listed comes before what is searched for, and all parameters before those that differ.
    """
    rules = [rule_of(state) for state in known.after.groups]
    trial = Trial(known, other, [rule for rule in rules if rule], tolerance)
    if len(trial.rules) < len(rules) or (places := trial.places(())) is None:
        return None
    off = frozenset(name for (name, _), times in places.items() if times > 1)
    trials = [("", trial)]
    if off < {name for name, _ in places}:
        whose = f", for {', '.join(sorted(off)[:4])}{' and others' * (len(off) > 4)} alone"
        trials.append((whose, trial._replace(only=off)))
    for find in (_listed, _searched):
        for whose, each in trials:
            if said := find(each):
                return [words + whose for words in said]
    return []


def _listed(trial: Trial) -> list[str]:
    """The known changes that make the step."""
    fewest, best, agreeing = 2, dict[str, float](), set[str]()
    told = trial.other.after.groups[0].config
    for together in candidates(trial.rules[0], told if rule_of(trial.other.after.groups[0]) else _rate(trial.other)):
        if len(together) > fewest:
            break
        misses = trial.misses(together)
        if misses and max(misses.values()) <= 1:
            fewest, said = len(together), " and ".join(one.says for one in together)
            best.setdefault(said, max(misses.values()))
            agreeing |= {said} if _agrees(together, told) else set()
    kept = [said for said in best if said in agreeing] or best  # in the order of the candidates
    return sorted(kept, key=lambda said: round(best[said], 3))


def _agrees(together: Sequence[Variant], told: Mapping[str, object]) -> bool:
    """Whether the hyperparameters with these changes are those that the other run has recorded, where it has."""
    return all(told.get(name, value) == value for one in together for name, value in one.values.items())


def _searched(trial: Trial) -> list[str]:
    """The values of hyperparameters that make the step."""
    fits = fitted(trial.rules[0], trial.misses, _norm(trial.known))
    return list(dict.fromkeys(" and ".join(one.says for one in together) for together in fits))


def _norm(run: Around) -> float:
    """The norm of all gradients of a step."""
    norms = {n: run.after.numbers(n, GRAD + NORM) for n in run.after.parameters}
    held = [run.after.numbers(n, GRAD) if x is None else x for n, x in norms.items()]
    return math.hypot(*(float(np.linalg.norm(x)) for x in held if x is not None))


def _rate(run: Around) -> dict[str, object]:
    """The learning rate alone, which is called the same everywhere."""
    config = run.after.groups[0].config
    return {"learning_rate": config["learning_rate"]} if "learning_rate" in config else {}


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


def _apart(p: ParameterState, slot: str, computed: np.ndarray | None, tolerance: float) -> float:
    there = numbers_in(p, slot)
    if computed is None or there.shape != computed.shape:
        return math.inf
    return gap(there, computed, tolerance, rounding(there, p.slots[slot].dtype)).times


def stepped(rule: Rule, known: Around, state: State, together: Sequence[Variant]) -> dict[str, dict[str, np.ndarray]]:
    """What a step by this rule makes of the parameters of a group, by numpy in the dtype of their arithmetic; without
    those of which only the whole array could tell.
    """
    before = known.before.parameters
    stepping = {n: p for n, p in state.parameters.items() if GRAD in p.slots and n in before}
    params = {n: numbers_in(before[n], PARAM).astype(_arithmetic(before[n])) for n in stepping}
    if not params:
        return {}
    host = HostOptimizer(rule, params, kernel="traced", layout=state.layout or OUTPUTS_FIRST)
    if any(_sampled(before[n]) and not _by_element(host, n) for n in stepping):
        kept = [n for n in stepping if not _sampled(before[n]) or _by_element(host, n)]
        if rule.model_slots() or not kept:
            return {}
        params = {n: params[n] for n in kept}
        host = HostOptimizer(rule, params, kernel="traced", layout=state.layout or OUTPUTS_FIRST)
    shift, fresh = sum(one.shift for one in together), any(one.fresh for one in together)
    host.model |= {k: x for k, x in known.before.group_of(next(iter(params))).numbers.items() if k in host.model}
    for name in params:
        host.steps[name] = max(0, _count(known, name) + shift)
        slots = {slot: numbers_in(before[name], slot) for slot in before[name].slots}
        first = host.fresh(name)
        fits = {k: x for k, x in first.items() if not fresh and k in slots and slots[k].shape == x.shape}
        host.state[name] = first | {k: np.array(slots[k], first[k].dtype) for k in fits}
    scale = math.prod(one.scale for one in together)
    host.step({n: (scale * numbers_in(stepping[n], GRAD)).astype(p.dtype) for n, p in params.items()})
    return {n: {slot: x.astype(np.float64) for slot, x in {PARAM: params[n], **host.state[n]}.items()} for n in params}


def _arithmetic(p: ParameterState) -> str:
    return "float64" if p.slots[PARAM].dtype == "float64" else "float32"


def _count(known: Around, name: str) -> int:
    """The number of steps of a parameter before this one; if not counted, that of the recording, 0 without memory."""
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
