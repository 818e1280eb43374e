"""Two recordings, step by step, up to the first quantity that differs by more than rounding."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scirs2_adapters.core.errors import bad_type, bad_value
from scirs2_adapters.core.portable.layouts import layout_of
from scirs2_adapters.core.portable.recording import GRAD, NORM, PARAM
from scirs2_adapters.core.portable.state import OPTIONAL

from .explain import Around, explanations
from .gradients import Pair, relation
from .measure import Gap, gap, norm, rounding, tolerance_of
from .reading import Run, Step

_CALL = "scirs2 drift"


@dataclass(frozen=True)
class Drift:
    """The result of a comparison.

    `step` is the first step that differs, from 1 (0 is the start), or None if none does; `quantity` says in what:
    "dtype", "parameters", "param", "grad", "steps", "learning_rate" or a slot; `parameter` is where it does most;
    `part` is the norm of the difference by that of A's. `explanations` are in words, the closest first.
    """

    steps: int
    step: int | None = None
    quantity: str = ""
    parameter: str = ""
    part: float = 0.0
    what: str = ""
    explanations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if self.step is None:
            lines = [f"{self.steps} steps, and no difference but rounding"]
        else:
            at = f"step {self.step}" if self.step else "the start"
            lines = [f"First difference: {self.quantity} of {self.parameter} at {at}, {self.what}"]
            lines += [f"  B {said}." for said in self.explanations]
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


@np.errstate(all="ignore")  # runs diverge, and infinities are compared, too
def compare(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    names: Mapping[str, str] | None = None,
    layout: str | None = None,
    tolerance: float | None = None,
) -> Drift:
    """Find the first difference of two recordings, and which known difference of optimizers explains it.

    Arguments:
      a, b: folders that `scirs2_adapters.record` wrote.
      names: what parameters of b are called in a, where they are called otherwise.
      layout: how kernels lie where a recording does not say: "torch" (outputs first), "keras" or "flax".
      tolerance: the part of a norm that is rounding; by dtype if None: 1e-9 in float64, 1e-4 in float32.

    Raises for folders that are no recordings, hold no step, were damaged, or are of models with other parameters.
    """
    if tolerance is not None and not (isinstance(tolerance, (int, float)) and 0 < tolerance < 1):
        raise bad_type(_CALL, "tolerance", "must be a number in (0, 1)", tolerance)
    first, second = Run(_CALL, "A", Path(a)), Run(_CALL, "B", Path(b))
    second.like(first, names or {}, layout_of(_CALL, layout))
    last = min(first.steps, second.steps)
    notes = _notes(first, second)
    before = (first.step(0), second.step(0))
    difference = _start(*before, tolerance)
    for number in range(1, 0 if difference else last + 1):
        now = (first.step(number), second.step(number))
        difference = _between(before, now, tolerance)
        if difference is not None:
            return _explained(difference, first, second, (before, now), tolerance, last, notes)
        before = now
    if difference is None and not last:
        run = first if not first.steps else second
        worded, way_out = "must be a recording with a step after the start", "Step the optimizer that `record` returns."
        raise bad_value(_CALL, run.argument, worded, str(run.folder), way_out)
    step, quantity, parameter, part, what = (None, "", "", 0.0, "") if difference is None else (0, *difference)
    return Drift(last, step, quantity, parameter, part, what, [], notes)


def _notes(first: Run, second: Run) -> list[str]:
    """What else is to be said of two runs."""
    one, other = (run.step(0).groups[0].full_name for run in (first, second))
    notes = [f"A has {first.steps} steps and B {second.steps}: those that both have are compared."]
    notes = notes * (first.steps != second.steps)
    return notes + [f"A is a run of {one}, and B of {other}."] * (one != other and bool(one and other))


#: Quantity, parameter, part of the norm, in words.
Difference = tuple[str, str, float, str]
Both = tuple[Step, Step]


def _start(a: Step, b: Step, tolerance: float | None) -> Difference | None:
    """Where the runs begin otherwise."""
    for name, p in a.parameters.items():
        other = b.parameters[name]
        if p.dtype != other.dtype:
            return "dtype", name, 1.0, f"{p.dtype} and {other.dtype}"
    return _most(PARAM, _gaps((a, b), (a, b), PARAM, tolerance, start=True), "it")


def _between(before: Both, now: Both, tolerance: float | None) -> Difference | None:
    """The first quantity in which a step differs, in the order in which a step is made."""
    names = [step.parameters.keys() for step in now]
    for extra, whose in ((names[0] - names[1], "A"), (names[1] - names[0], "B")):
        if extra:
            return "parameters", min(extra), 1.0, f"which only {whose} has"
    if difference := _most(GRAD, _gaps(before, now, GRAD, tolerance)):
        return difference
    for state in now[0].groups:
        for name in state.parameters:
            other = now[1].group_of(name)
            here, there = (_number(config.get("learning_rate")) for config in (state.config, other.config))
            if abs(here - there) > 1e-6 * abs(here):
                return "learning_rate", name, abs(here - there) / abs(here or 1.0), f"{here:g} and {there:g}"
    return _memory(before, now, tolerance)


def _number(x: object) -> float:
    """A learning rate; NaN, which differs from nothing, where there is none."""
    return float(x) if isinstance(x, (int, float)) else float("nan")


def _memory(before: Both, now: Both, tolerance: float | None) -> Difference | None:
    """Where counts, dtypes, slots or parameters differ."""
    slots = list(dict.fromkeys(slot for p in now[0].parameters.values() for slot in p.slots))
    slots = [s for s in slots if s not in (GRAD, PARAM, *OPTIONAL) and not s.endswith(NORM)]
    differences = [_most(slot, _gaps(before, now, slot, tolerance)) for slot in slots]
    differences.append(_most(PARAM, _gaps(before, now, PARAM, tolerance)))
    for name, p in now[0].parameters.items():
        other = now[1].parameters[name]
        if (p.steps or 0) != (other.steps or 0) and None not in (p.steps, other.steps) and any(differences):
            return "steps", name, 1.0, f"{p.steps} and {other.steps} steps were taken"
        for slot in slots:
            if slot in other.slots and slot in p.slots and p.slots[slot].dtype != other.slots[slot].dtype:
                return "dtype", f"{name}/{slot}", 1.0, f"{p.slots[slot].dtype} and {other.slots[slot].dtype}"
    return next(filter(None, differences), None)


def _gaps(
    before: Both, now: Both, slot: str, tolerance: float | None, *, start: bool = False
) -> Iterator[tuple[str, Gap]]:
    """How far each parameter's slot is from that of the other run, beyond how far it was before this step."""
    for name, p in now[0].parameters.items():
        other = now[1].parameters[name]
        for part in (slot, slot + NORM):
            if part in p.slots and part in other.slots:
                a, b = (step.numbers(name, part) for step in now)
                assert a is not None
                assert b is not None
                if a.shape != b.shape:
                    yield name, Gap(np.inf, np.inf, np.inf)
                    continue
                dtypes = (p.slots[slot].dtype, other.slots[slot].dtype)
                allowed = max(tolerance_of(dtypes, tolerance), 1e-6 * (part != slot))
                was = [step.numbers(name, part) for step in before]
                if slot == PARAM and part == slot and not start and was[0] is not None and was[1] is not None:
                    yield name, gap(a - was[0], b - was[1], allowed, rounding(a, p.dtype))
                    continue
                carried = 0.0 if start or slot == GRAD else _apart(before, name, part)
                yield name, gap(a, b, 1e-3 * allowed if start else allowed, carried)


def _apart(before: Both, name: str, slot: str) -> float:
    a, b = (step.numbers(name, slot) if name in step.parameters else None for step in before)
    return norm(a - b) if a is not None and b is not None and a.shape == b.shape else 0.0


def _most(quantity: str, gaps: Iterator[tuple[str, Gap]], of: str = "") -> Difference | None:
    """The largest difference, if it is more than rounding."""
    name, most = max(gaps, key=lambda pair: pair[1].times, default=("", Gap(0.0, 0.0, 0.0)))
    if most.times <= 1:
        return None
    of = of or ("the step" if quantity == PARAM else "it")
    return quantity, name, most.part, f"by up to {most.largest:.3g}, which is {most.part:.3g} of {of}"


def _explained(
    difference: Difference, first: Run, second: Run, steps: tuple[Both, Both], tolerance: float | None, last: int,
    notes: Sequence[str],
) -> Drift:  # fmt: skip
    """The difference with what explains it."""
    quantity, name, part, what = difference
    before, now = steps
    dtypes = tuple(p.dtype for step in now for p in step.parameters.values())
    allowed, said, also = tolerance_of(dtypes, tolerance), list[str](), list(notes)
    if quantity == GRAD:
        said = _of_gradients(first, before, now, allowed)
        also.append(_carried(before))
    elif quantity not in ("dtype", "parameters"):
        tried = _of_steps((first, second), before, now, allowed)
        if tried is None:
            also.append("Neither optimizer is one whose formula is known here, with its hyperparameters.")
        else:
            same = "steps as A's formula does: " + (
                "its learning rate does not matter here" if quantity == "learning_rate" else "something else moves A"
            )
            said = [words or same for words in tried]
            if not tried:
                also.append("No known difference makes this step.")
    return Drift(last, now[0].number, quantity, name, part, what, said, [note for note in also if note])


def _of_steps(runs: tuple[Run, Run], before: Both, now: Both, allowed: float) -> list[str] | None:
    """What makes B's step from A's state; or where only B's formula is known, what makes A's of B's."""
    around = [
        Around(was, step, {d: _rates(run, step.number + d) for d in (-1, 0, 1)})
        for run, was, step in zip(runs, before, now, strict=True)
    ]
    tried = explanations(around[0], around[1], allowed)
    if tried is None:
        back = explanations(around[1], around[0], allowed)
        known = "is the one whose formula and hyperparameters are known; A"
        return None if back is None else [f"{known} {words}" for words in back if words]
    return tried


def _rates(run: Run, number: int) -> list[object]:
    """The learning rates of a step, or of the nearest one that there is."""
    number = min(max(number, 1), run.steps)
    return [state.config.get("learning_rate") for state in run.step(number).groups]


def _of_gradients(first: Run, before: Both, now: Both, allowed: float) -> list[str]:
    names = [n for n, p in now[0].parameters.items() if GRAD in p.slots and GRAD in now[1].parameters[n].slots]
    near = {d: now[0].number + d for d in (-1, 1) if 1 <= now[0].number + d <= first.steps}
    neighbours = {d: _row(first.step(k), names, GRAD) for d, k in near.items()}
    rows = [_row(step, names, GRAD) for step in now]
    said = relation(Pair(rows[0], rows[1], _row(before[0], names, PARAM), neighbours), allowed)
    return [f"has another gradient: {said}"] if said else []


def _row(step: Step, names: Sequence[str], slot: str) -> np.ndarray:
    """The numbers of a slot of all these parameters, one after another."""
    arrays = [step.numbers(name, slot) for name in names]
    return np.concatenate([np.zeros(0), *(x.reshape(-1) for x in arrays if x is not None)])


def _carried(before: Both) -> str:
    """How far the parameters were apart when the gradients were computed."""
    names = [n for n in before[0].parameters if n in before[1].parameters]
    rows = [_row(step, names, PARAM) for step in before]
    apart, size = norm(rows[0] - rows[1]), norm(rows[0])
    if not apart:
        return "The parameters were the same to the bit: data, loss, reduction or clipping differ."
    return f"The parameters were {apart / (size or 1.0):.2g} apart by then, as a part of their norm."
