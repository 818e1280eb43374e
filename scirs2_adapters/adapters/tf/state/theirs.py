"""The memory that Keras' own optimizers write, in our terms.

Their files hold variables by position and at most a name. Where each variable stands is not written down here: Keras'
class is built beside ours, of tiny variables, and looked at, so that its order is that of the installed version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from scirs2_adapters.core.registry import get, names
from scirs2_adapters.core.rule import Rule

from ..argument_names import KERAS, spelling
from .layout import KEPT, Entry, Saved, entries, own_entries, path_of, paths_of, refusal

#: Where Keras' classes hold what a slot of ours remembers.
HELD = {
    "exp_avg": ("_momentums", "_m", "momentums"),
    "exp_avg_sq": ("_velocities", "adam_velocities"),
    "max_exp_avg_sq": ("_velocity_hats",),
    "exp_inf": ("_u",),
    "momentum_buffer": ("momentums", "_momentums"),
    "square_avg": ("_velocities", "_accumulated_grads"),
    "grad_avg": ("_average_gradients",),
    "acc_delta": ("_accumulated_delta_vars",),
    "sum": ("_accumulators",),
    "mu_product": ("_u_product",),
    "row_var": ("_r",),
    "col_var": ("_c",),
    "variance": ("_v",),
}
#: What follows from the others where a variable is factored, and what stands for nothing where it is not.
DERIVED = {"row_var": ("_v",), "variance": ("_r", "_c")}


@dataclass(frozen=True)
class Buffer:
    """What a momentum buffer of Keras holds: a sum, of steps already multiplied by the learning rate or not."""

    sign: float = 1.0
    rate: bool = False


BUFFERS = {"SGD": Buffer(-1.0, rate=True), "RMSprop": Buffer(rate=True), "Muon": Buffer()}
AVERAGED = ("Muon",)


def rate_in_buffer(optimizer: Any) -> bool:
    """Whether momentum buffers of ours hold steps already multiplied by the learning rate."""
    rule = getattr(optimizer.rule, "base", optimizer.rule)
    return bool(rule.lr_in_buffer) and "inside" in rule._signature()[1]


def counterpart(rule: Rule) -> str | None:
    """The name of Keras' own class of this optimizer, if it has one."""
    return spelling(type(rule)) if "keras" in type(rule).matches else None


def _built(optimizer: Any, name: str) -> Any:
    """Keras' own class with the arguments that decide what it remembers, built on variables of one element."""
    cls, rule = getattr(keras.optimizers, name), optimizer.rule
    structural = {k: getattr(rule, k) for k, f in rule.fields.items() if f.structural}
    given = {k: float(v) if type(v) is int else v for k, v in KERAS.to_framework(structural, rule.fields).items()}
    known = cls(name="layout").get_config()
    base = {k: getattr(optimizer, k) for k in ("use_ema", "gradient_accumulation_steps")}
    made = cls(name="layout", **{k: v for k, v in given.items() if k in known}, **base)
    made.build([_stand_in(v) for v in optimizer._trainable_variables])
    return made


def _stand_in(variable: Any) -> Any:
    """A variable of this rank and name."""
    made = keras.Variable(np.zeros((1,) * len(variable.shape), "float32"), name="layout")
    made._path = path_of(variable)
    made.overwrite_with_gradient = getattr(variable, "overwrite_with_gradient", False)
    return made


def _order(optimizer: Any, name: str) -> list[Entry]:
    """What the variables of Keras' own class are, in order; the slots are its attributes."""
    made = _built(optimizer, name)
    attributes = {a: getattr(made, a) for some in HELD.values() for a in some if hasattr(made, a)}
    try:
        return entries(made, attributes)
    except KeyError as error:
        raise refusal(optimizer, f"this version of Keras keeps memory in its `{name}` that is not known") from error


def _renamed(optimizer: Any, order: Sequence[Entry]) -> dict[Entry, Entry]:
    """Our entries, and those of Keras that hold the same."""
    found = {e: e for e in order if e.slot in ("iteration", "learning_rate", *KEPT.values())}
    for entry in own_entries(optimizer):
        for attribute in HELD.get(entry.slot, ()):
            for there in (Entry(attribute, entry.owner), Entry(attribute)):
                if there in order:
                    found.setdefault(entry, there)
    return found


def would_take(optimizer: Any) -> bool:
    """Whether Keras' own class would take our variables by position for something else."""
    name = counterpart(optimizer.rule)
    if name is None or not optimizer.built:
        return False
    order, ours = _order(optimizer, name), own_entries(optimizer)
    if len(order) != len(ours):
        return False
    renamed = _renamed(optimizer, order)
    scaled = any(e.slot == "momentum_buffer" for e in ours) and name in BUFFERS
    return scaled or [renamed.get(e) for e in ours] != order


def read(optimizer: Any, positions: Sequence[Any], attributes: Any) -> Saved | None:
    """A file without names as Keras' own class wrote it; None where it is rather one of ours from before names."""
    name = counterpart(optimizer.rule)
    _check_writer(optimizer, attributes)
    if name is None or _older(optimizer, positions, attributes):
        return None
    order, rate = _order(optimizer, name), Entry("learning_rate")
    if len(order) - len(positions) == 1 and rate in order:  # written under a schedule, which is no variable
        order.remove(rate)
    elif len(positions) - len(order) == 1 and rate not in order:
        order.insert(1, rate)
    if len(order) != len(positions):
        if len(own_entries(optimizer)) == len(positions):
            return None
        raise refusal(
            optimizer, f"it has {len(positions)} variables, and Keras' `{name}` with these arguments has {len(order)}"
        )
    there, renamed = dict(zip(order, positions, strict=True)), _renamed(optimizer, order)
    _check_all_used(optimizer, there, renamed)
    facts = {"theirs": name, "accumulation": optimizer.gradient_accumulation_steps or 1}
    return Saved({e: there[k] for e, k in renamed.items()}, paths_of(optimizer), facts)


def _writer(attributes: Any) -> str:
    """The name in a file: Keras makes it of the class' name, with a number behind."""
    name = str((attributes or {}).get("name", ""))
    return name.rstrip("0123456789").rstrip("_").replace("_", "").casefold()


def _check_writer(optimizer: Any, attributes: Any) -> None:
    """Refuse what another optimizer wrote, where the file has that one's name; Adam's memory is AdamW's."""
    writer, rule = _writer(attributes), type(optimizer.rule)
    known = {n.casefold() for n in dir(keras.optimizers)} | set(names())
    if writer not in known or writer == rule.name:
        return
    other = get(writer) if writer in names() else None
    if other is None or not (issubclass(other, rule) or issubclass(rule, other)):
        raise refusal(optimizer, f"it was written by `{attributes['name']}`, and this is `{rule.name}`")


def _older(optimizer: Any, positions: Sequence[Any], attributes: Any) -> bool:
    """Whether a file is ours by all signs: this optimizer is made of the config of one of ours of the file's name."""
    same = optimizer.from_own_config and str((attributes or {}).get("name", "")) == optimizer.name
    return (
        same and not int(ops.convert_to_numpy(optimizer._iterations)) and len(positions) == len(own_entries(optimizer))
    )


def _check_all_used(optimizer: Any, there: Mapping[Entry, Any], renamed: Mapping[Entry, Entry]) -> None:
    """Refuse where Keras remembers something that has no place here."""
    used = set(renamed.values())
    for entry in renamed:
        used |= {Entry(attribute, entry.owner) for attribute in DERIVED.get(entry.slot, ())}
    paths = paths_of(optimizer)
    for entry, value in there.items():
        whole = entry.slot in DERIVED["variance"] and np.ndim(value) and Entry("row_var", entry.owner) not in renamed
        if entry not in used or whole:
            of = "" if entry.owner is None else f" of {paths[entry.owner]}"
            raise refusal(optimizer, f"Keras' `{entry.slot}`{of} has no place in this optimizer's memory")


def in_our_meaning(optimizer: Any, saved: Saved, values: Mapping[Entry, Any]) -> dict[Entry, Any]:
    """The values as this optimizer would have written them."""
    new, slots = dict(values), {e.slot for e in values}
    if "momentum_buffer" in slots:
        factor = _factor(optimizer, saved)
        new |= {e: np.asarray(v) * factor for e, v in values.items() if e.slot == "momentum_buffer" and factor != 1.0}
    rule = getattr(optimizer.rule, "base", optimizer.rule)
    corrected = saved.facts.get("largest_corrected", False)
    if "max_exp_avg_sq" in slots and corrected != bool(getattr(rule, "max_corrected", False)):
        raise refusal(
            optimizer, "its largest mean of squares is of raw means and here of corrected ones, or the reverse"
        )
    count, k = saved.facts.get("accumulation", 1), optimizer.gradient_accumulation_steps or 1
    if count != k:
        at = int(values[Entry("iteration")])
        if at % count:
            raise refusal(optimizer, f"it was saved between two steps, after {at % count} of {count} gradients")
        new[Entry("iteration")] = at // count * k
    return new


def _factor(optimizer: Any, saved: Saved) -> float:
    """What a momentum buffer has to be multiplied by."""
    name = saved.facts.get("theirs")
    there = BUFFERS.get(name, Buffer()) if name else Buffer(rate=saved.facts["rate_in_buffer"])
    factor = there.sign * (1 - optimizer.rule.momentum if name in AVERAGED else 1.0)
    here = rate_in_buffer(optimizer)
    if here == there.rate:
        return factor
    rate = _rate(optimizer, saved)
    if not here and rate == 0:
        raise refusal(
            optimizer, "its momentum is multiplied by the learning rate, which is 0, and cannot be divided by it"
        )
    return factor * rate if here else factor / rate


def _rate(optimizer: Any, saved: Saved) -> float:
    """The learning rate of the next step."""
    found = saved.values.get(Entry("learning_rate"))
    if found is None:
        found = optimizer._learning_rate
        if isinstance(found, keras.optimizers.schedules.LearningRateSchedule):
            found = found(int(saved.values[Entry("iteration")]))
        elif callable(found):
            found = found()
    return float(ops.convert_to_numpy(found))
