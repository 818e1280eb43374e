"""What a `HostOptimizer` remembers, out and in by name.

A slot is known by the names of its parameter and of itself, a dict by its version, its rule and whose formula it was.
Unknown slots are kept as they are; a missing slot begins as at a first step.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.lib.array_utils import byte_bounds

from .errors import bad_type, bad_value
from .fields import Field
from .memory import OPERATIONS, Span, Stored, completed, occupied, report
from .memory import Memory as Report
from .numpy_arrays import Parameters, check_writeable
from .program.recorded import first_coefficients, record
from .rule import Rule
from .slots import Leaf
from .step import reference as plain

#: Of the dicts that are written; those of version 0 had neither this, `match`, `skipped_steps` nor `step_count`.
FORMAT_VERSION = 1
COUNT = Field(0, "", "must be a whole number >= 0", lambda t: t >= 0, kind=int)
NUMBER = Field(0.0, "", "must be a number", lambda x: True)

#: The slots of one parameter by name; an unknown slot may be anything.
Slots = dict[str, Any]
Memory = dict[Hashable, Slots]
#: What `state_dict` returns.
Saved = dict[str, Any]


class Remembering(Protocol):
    """What has memory: a `HostOptimizer`."""

    rule: Rule
    params: Parameters
    steps: dict[Hashable, int]
    state: Memory
    model: dict[str, float]
    skipped_steps: int
    step_count: int

    def fresh(self, key: Hashable) -> dict[str, np.ndarray]:
        """The memory of a parameter before its first step."""

    def route(self, state: Mapping[Hashable, Iterable[str]]) -> None:
        """Decides which rule steps which array, by the slots that each has."""


def owned(state: Mapping[Hashable, Slots]) -> Memory:
    """A copy in new, writeable memory."""
    return {k: {n: _copied(x) for n, x in slots.items()} for k, slots in state.items()}


def fitting_slots(slots: Slots, fresh: Mapping[str, np.ndarray]) -> Slots:
    """The slots that have the form that is asked for now, and fresh ones in place of the others."""
    fits = {n: n in slots and (slots[n].shape, slots[n].dtype) == (x.shape, x.dtype) for n, x in fresh.items()}
    return {n: slots[n] if fits[n] else x for n, x in fresh.items()}


#: The slots of a parameter that have been checked: name, array and shape, and the arrays alone.
Checked = tuple[list[tuple[str, np.ndarray, tuple[int, ...]]], list[np.ndarray]]


def checked(call: str, key: Hashable, slots: Slots, fresh: Mapping[str, np.ndarray]) -> Checked:
    """The memory of a parameter in the order of `fresh`; what is not of the form of those is refused."""
    triples = []
    for name, first in fresh.items():
        x, place = slots.get(name), f"state[{key!r}][{name!r}]"
        if not isinstance(x, np.ndarray) or x.shape != first.shape or x.dtype != first.dtype:
            raise bad_value(call, place, f"must be an array of shape {first.shape} and dtype {first.dtype}", x)
        check_writeable(call, place, x)
        triples.append((name, x, x.shape))
    return triples, [x for _, x, _ in triples]


def weighed(
    params: Mapping[Hashable, np.ndarray],
    wanted: Mapping[Hashable, Iterable[Stored]],
    state: Mapping[Hashable, Slots],
    temporaries: int | None = 0,
) -> Report:
    """The report of these arrays, and of what is expected of the parameters that have no memory yet."""
    arrays: list[Stored] = []
    for key in {**wanted, **state}:
        arrays += completed(_stored(state.get(key, {})), wanted.get(key, ()))
    notes = () if temporaries is not None else (OPERATIONS,)
    numbers = sum(p.size for p in params.values())
    return report(occupied(map(_span, params.values())), numbers, 0, arrays, temporaries or 0, *notes)


def _stored(slots: Slots) -> list[Stored]:
    """The arrays of one parameter; bfloat16 is carried as uint16."""
    arrays = {name: x for name, x in slots.items() if isinstance(x, np.ndarray)}
    return [Stored(name, x.dtype.name.replace("uint16", "bfloat16"), x.nbytes) for name, x in arrays.items()]


def _span(x: np.ndarray) -> Span:
    return Span(0, *byte_bounds(x), x.nbytes)


def _copied(x: object) -> object:
    return np.array(x) if isinstance(x, np.ndarray) else copy.deepcopy(x)


def saved(optimizer: Remembering) -> Saved:
    return {
        "format_version": FORMAT_VERSION,
        "rule": optimizer.rule.name,
        "match": optimizer.rule.match,
        "steps": dict(optimizer.steps),
        "state": owned(optimizer.state),
        "model": dict(optimizer.model),
        "skipped_steps": optimizer.skipped_steps,
        "step_count": optimizer.step_count,
    }


def fitting(optimizer: Remembering, call: str, saved: Saved, strict: bool) -> Saved:
    """What this optimizer takes over from a dict, by attribute; a dict that does not fit is refused. The memory in it
    settles which rule steps which parameter.
    """
    _check_head(optimizer, call, saved)
    optimizer.route(_slots_of(optimizer.params, saved["state"]))
    try:
        return _fitted(optimizer, call, saved, strict)
    except (ValueError, TypeError):
        optimizer.route(_slots_of(optimizer.params, optimizer.state))
        raise


def _slots_of(keys: Iterable[Hashable], state: Mapping[Hashable, object]) -> dict[Hashable, tuple[str, ...]]:
    """The names of the slots that each parameter has in a state, which may be a foreign one."""
    entries = {k: state.get(k) for k in keys}
    return {k: tuple(entry) if isinstance(entry, Mapping) else () for k, entry in entries.items()}


def _fitted(optimizer: Remembering, call: str, saved: Saved, strict: bool) -> Saved:
    known, first = optimizer.params, {k: optimizer.fresh(k) for k in saved["state"] if k in optimizer.params}
    wrong = {k: faults for k in first if (faults := _misfits(first[k], saved["state"][k]))}
    if strict:
        _refuse_misfits(call, known, saved, wrong)
    state = {k: x | owned({k: saved["state"][k]})[k] for k, x in first.items() if k not in wrong}
    steps = {k: COUNT.check(call, f"saved['steps'][{k!r}]", t) for k, t in saved["steps"].items()}
    model = {n: NUMBER.check(call, f"saved['model'][{n!r}]", x) for n, x in saved["model"].items()}
    skipped = COUNT.check(call, "saved['skipped_steps']", saved.get("skipped_steps", 0))
    count = COUNT.check(call, "saved['step_count']", saved.get("step_count", max(steps.values(), default=0)))
    return {
        "state": state,
        "step_count": count,
        "steps": {k: 0 if k in wrong else steps.get(k, 0) for k in known},
        "model": {n: model.get(n, x) for n, x in optimizer.model.items()},
        "skipped_steps": skipped,
    }


def _check_head(optimizer: Remembering, call: str, saved: Saved) -> None:
    """Refuse an object that is no such dict, and a dict of another rule or of a formula with other memory."""
    parts = ("state", "steps", "model")
    if not isinstance(saved, Mapping) or not all(isinstance(saved.get(part), Mapping) for part in parts):
        raise bad_type(call, "saved", "must be what `state_dict` returned", saved)
    version = COUNT.check(call, "saved['format_version']", saved.get("format_version", 0))
    if version > FORMAT_VERSION:
        worded = f"must be at most {FORMAT_VERSION}, which is what this version of scirs2 knows"
        raise bad_value(call, "saved['format_version']", worded, version)
    rule = optimizer.rule
    if saved.get("rule") != rule.name:
        raise bad_value(call, "saved", f"must be of the optimizer {rule.name}", saved.get("rule"))
    match = saved.get("match", rule.match)
    if match != rule.match and not same_memory(rule, rule.replace(match=match)):
        worded = f"must be {rule.match!r}, as here: the memory of the two formulas differs in meaning"
        raise bad_value(call, "saved['match']", worded, match, f"Load it into an optimizer with match={match!r}.")


def same_memory(one: Rule, other: Rule) -> bool:
    """Whether both formulas have the same memory after a first gradient."""
    a, b = (_remembered(rule.replace(weight_decay=0.0)) for rule in (one, other))
    return all(a[n].shape == b[n].shape and np.allclose(a[n], b[n], rtol=1e-9) for n in a.keys() & b.keys())


def _remembered(rule: Rule) -> dict[str, np.ndarray]:
    p, leaf = np.ones((3, 2)), Leaf((3, 2), "float64")
    rule = rule.route(leaf)
    slots = {
        s.name: p if s.initial == "parameter" else np.full(s.shape(p.shape), s.initial_value(rule))
        for s in rule.slots(leaf)
    }
    arrays = {"p": p, "g": np.array([[0.5, -2.0], [3.0, 0.25], [-1.0, 4.0]]), **slots}
    (new,) = plain.step(record(rule, leaf), [arrays], [first_coefficients(rule, leaf)])
    return {n: np.asarray(new[n]) for n in slots}


def _misfits(first: Mapping[str, np.ndarray], slots: object) -> list[str]:
    """What is wrong with the saved slots of one parameter."""
    if not isinstance(slots, Mapping):
        return [f"must be a dict of arrays by slot, and is {type(slots).__name__}"]
    faults = []
    for name, x in first.items():
        array = slots.get(name, x)
        if not isinstance(array, np.ndarray) or array.shape != x.shape or array.dtype != x.dtype:
            received = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            faults.append(f"{name!r} must be {x.dtype} {x.shape}, and is {received}")
    return faults


def _refuse_misfits(call: str, known: Collection[Hashable], saved: Saved, wrong: Mapping[Hashable, list[str]]) -> None:
    """Refuse a dict of other parameters, and say which they are."""
    names = {*saved["steps"], *saved["state"]}
    extra, missing = [k for k in names if k not in known], [k for k in known if k not in names]
    faults = [f"saved only: {_listed(extra)}"] * bool(extra) + [f"here only: {_listed(missing)}"] * bool(missing)
    faults += [f"state[{key!r}]: {'; '.join(each)}" for key, each in wrong.items()]
    if faults:
        worded = "must be of parameters of these names, shapes and dtypes: " + "; ".join(faults)
        received = f"{len(names)} saved, {len(known)} here"
        raise bad_value(call, "saved", worded, received, "Use `strict=False` to take over what fits.")


def _listed(keys: list[Hashable]) -> str:
    shown = sorted(map(repr, keys))
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")
