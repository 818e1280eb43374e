"""The memory that Keras' optimizers write, in our terms.

Their files hold variables by position and at most a name. The order is not written down here: Keras' class is built
once more over tiny variables and read, so that the order is that of the installed version.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from scirs2_adapters.core.registry import get, names
from scirs2_adapters.core.rule import Rule, innermost

from ..argument_names import KERAS, spelling
from ..ops import Tensor, as_numpy
from .keras_types import KerasOptimizer, KerasVariable, path_of
from .memory import KEPT, RuleState, Saved, StateKey, Values, keys_in, overwritten, paths_of, refusal, state_keys

#: What a store says of what it holds.
Attributes = Mapping[str, np.ndarray] | None
#: The attributes of Keras' classes that hold what a slot of ours remembers.
ATTRIBUTES = {
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
    "accumulator": ("_accumulators",),
    "linear": ("_linears",),
    "z": ("_momentums",),
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


def rate_in_buffer(optimizer: RuleState) -> bool:
    """Whether momentum buffers of ours hold steps already multiplied by the learning rate."""
    rule = innermost(optimizer.rule)
    return bool(rule.lr_in_buffer) and "inside" in rule.roles()[1]


def counterpart(rule: Rule) -> str | None:
    """The name of Keras' class of this optimizer, if some version has one."""
    return spelling(type(rule)) if "keras" in type(rule).matches else None


def _is_there(name: str) -> bool:
    """Whether this version of Keras has such a class."""
    return hasattr(keras.optimizers, name)


def _built(optimizer: RuleState, name: str) -> KerasOptimizer:
    """Keras' class with the arguments that decide what it remembers, built on variables of one element."""
    cls, rule = getattr(keras.optimizers, name), optimizer.rule
    structural = {k: getattr(rule, k) for k, f in rule.fields.items() if f.structural or f.static}
    known = cls(name="layout").get_config()
    arguments = {k: getattr(optimizer, k) for k in ("use_ema", "gradient_accumulation_steps")}
    for word, value in KERAS.to_framework(structural, rule.fields).items():
        if word in known:
            arguments[word] = float(value) if type(value) is int else value
    like = cls(name="layout", **arguments)
    like.build([_stand_in(v) for v in optimizer._trainable_variables])
    return like


def _stand_in(variable: KerasVariable) -> KerasVariable:
    """A variable of this rank and name, of one element."""
    like = keras.Variable(np.zeros((1,) * len(variable.shape), "float32"), name="layout")
    like._path = path_of(variable)
    like.overwrite_with_gradient = overwritten(variable)
    return like


def _order(optimizer: RuleState, name: str) -> list[StateKey]:
    """What the variables of Keras' class are, in order; the slots are its attributes."""
    if not _is_there(name):
        raise refusal(optimizer, f"this version of Keras has no `{name}`, which the file is of")
    try:
        return _keys(_built(optimizer, name))
    except KeyError as error:
        raise refusal(optimizer, f"this version of Keras keeps memory in its `{name}` that is not known") from error


def _keys(like: KerasOptimizer) -> list[StateKey]:
    names = itertools.chain.from_iterable(ATTRIBUTES.values())
    return keys_in(like, {name: getattr(like, name) for name in names if hasattr(like, name)})


def _renamed(optimizer: RuleState, order: Sequence[StateKey]) -> dict[StateKey, StateKey]:
    """Our state keys, and those of Keras' class that hold the same."""
    renamed = {key: key for key in order if key.slot in ("iteration", "learning_rate", *KEPT.values())}
    for key in state_keys(optimizer):
        for attribute in ATTRIBUTES.get(key.slot, ()):
            for there in (StateKey(attribute, key.owner), StateKey(attribute)):
                if there in order:
                    renamed.setdefault(key, there)
    return renamed


def order_of(name: str, arguments: Mapping[str, object], ranks: Sequence[int]) -> list[StateKey]:
    """What the variables of Keras' class with these arguments are, on model variables of so many axes."""
    like = getattr(keras.optimizers, name)(name="layout", **arguments)
    like.build([keras.Variable(np.zeros((1,) * rank, "float32"), name=f"layout_{i}") for i, rank in enumerate(ranks)])
    return _keys(like)


def would_take(optimizer: RuleState) -> bool:
    """Whether Keras' class would take our variables by position for something else, or may do so in a later version."""
    name = counterpart(optimizer.rule)
    if name is None or not optimizer.built:
        return False
    if not _is_there(name):
        return True
    order, ours = _order(optimizer, name), state_keys(optimizer)
    if len(order) != len(ours):
        return False
    renamed = _renamed(optimizer, order)
    scaled = any(e.slot == "momentum_buffer" for e in ours) and name in BUFFERS
    return scaled or [renamed.get(e) for e in ours] != order


def read(optimizer: RuleState, positions: Sequence[np.ndarray], attributes: Attributes) -> Saved | None:
    """A file without names as Keras' class wrote it; None where it is rather one of ours from before names."""
    name = counterpart(optimizer.rule)
    _check_writer(optimizer, attributes)
    if name is None or _older(optimizer, positions, attributes):
        return None
    order, rate = _order(optimizer, name), StateKey("learning_rate")
    if len(order) - len(positions) == 1 and rate in order:  # written under a schedule, which is no variable
        order.remove(rate)
    elif len(positions) - len(order) == 1 and rate not in order:
        order.insert(1, rate)
    if len(order) != len(positions):
        if len(state_keys(optimizer)) == len(positions):
            return None
        known = f"Keras' `{name}` with these arguments has {len(order)}"
        raise refusal(optimizer, f"it has {len(positions)} variables, and {known}")
    there, renamed = dict(zip(order, positions, strict=True)), _renamed(optimizer, order)
    _check_all_used(optimizer, there, renamed)
    values = {key: there[old] for key, old in renamed.items()}
    count = optimizer.gradient_accumulation_steps or 1
    return Saved(values, paths_of(optimizer), {"keras_class": name, "accumulation": count})


def writer(attributes: Attributes) -> str:
    """The name in a file: Keras makes it of the class' name, with a number behind."""
    name = str((attributes or {}).get("name", ""))
    return name.rstrip("0123456789").rstrip("_").replace("_", "").casefold()


def _check_writer(optimizer: RuleState, attributes: Attributes) -> None:
    """Refuse what another optimizer wrote, where the file has that one's name; Adam's memory is AdamW's."""
    said, rule = writer(attributes), type(optimizer.rule)
    known = {n.casefold() for n in dir(keras.optimizers)} | set(names())
    if said not in known or said == rule.name:
        return
    other = get(said) if said in names() else None
    if other is None or not (issubclass(other, rule) or issubclass(rule, other)):
        raise refusal(optimizer, f"it was written by `{(attributes or {})['name']}`, and this is `{rule.name}`")


def _older(optimizer: RuleState, positions: Sequence[np.ndarray], attributes: Attributes) -> bool:
    """Whether a file is ours by all signs: this optimizer is made of the config of one of ours of the file's name."""
    same = optimizer.from_own_config and str((attributes or {}).get("name", "")) == optimizer.name
    new = same and not int(as_numpy(optimizer._iterations))
    return new and len(positions) == len(state_keys(optimizer))


def _check_all_used(optimizer: RuleState, there: Values, renamed: Mapping[StateKey, StateKey]) -> None:
    """Refuse where Keras remembers something that has no place here."""
    used = set(renamed.values())
    for key in renamed:
        used |= {StateKey(attribute, key.owner) for attribute in DERIVED.get(key.slot, ())}
    paths = paths_of(optimizer)
    for key, value in there.items():
        factored_there = key.slot in DERIVED["variance"] and np.ndim(value)
        if key not in used or (factored_there and StateKey("row_var", key.owner) not in renamed):
            of = "" if key.owner is None else f" of {paths[key.owner]}"
            raise refusal(optimizer, f"Keras' `{key.slot}`{of} has no place in this optimizer's memory")


def in_our_meaning(optimizer: RuleState, saved: Saved, values: Values) -> dict[StateKey, np.ndarray]:
    """The values as this optimizer would have written them."""
    new, slots = dict(values), {e.slot for e in values}
    if "momentum_buffer" in slots:
        factor = _factor(optimizer, saved)
        new |= {e: np.asarray(v) * factor for e, v in values.items() if e.slot == "momentum_buffer" and factor != 1.0}
    rule = innermost(optimizer.rule)
    corrected = saved.facts.get("largest_corrected", False)
    if "max_exp_avg_sq" in slots and corrected != bool(getattr(rule, "max_corrected", False)):
        why = "its largest mean of squares is of raw means and here of corrected ones, or the reverse"
        raise refusal(optimizer, why)
    count, k = saved.facts.get("accumulation", 1), optimizer.gradient_accumulation_steps or 1
    if count != k:
        at = int(values[StateKey("iteration")])
        if at % count:
            raise refusal(optimizer, f"it was saved between two steps, after {at % count} of {count} gradients")
        new[StateKey("iteration")] = np.asarray(at // count * k)
    return new


def _factor(optimizer: RuleState, saved: Saved) -> float:
    """What a momentum buffer has to be multiplied by."""
    name = saved.facts.get("keras_class")
    there = BUFFERS.get(name, Buffer()) if name else Buffer(rate=saved.facts["rate_in_buffer"])
    factor = there.sign * (1 - getattr(optimizer.rule, "momentum", 0.0) if name in AVERAGED else 1.0)
    here = rate_in_buffer(optimizer)
    if here == there.rate:
        return factor
    rate = _rate(optimizer, saved)
    if not here and rate == 0:
        why = "its momentum is multiplied by the learning rate, which is 0, and cannot be divided by it"
        raise refusal(optimizer, why)
    return factor * rate if here else factor / rate


def _rate(optimizer: RuleState, saved: Saved) -> float:
    """The learning rate of the next step."""
    rate: Tensor = saved.values.get(StateKey("learning_rate"))
    if rate is None:
        rate = optimizer._learning_rate
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            rate = rate(int(saved.values[StateKey("iteration")]))
        elif callable(rate):
            rate = rate()
    return float(as_numpy(rate))
