"""The memory of an optimizer, as registered Keras variables in an order that never changes, and what each of them is:
a slot of which model variable. The names in files are made of this.

Keras saves optimizers by position and notices no more than a change of the count, so the order is an interface: first
what the base class has (iteration, learning rate, averages, accumulators), then the numbers of the whole model, then
for each model variable its slots as the rule lists them, and the companions of those that have one. Which rule steps a
variable is settled here too, because in a step on TensorFlow a variable has lost the name that this depends on.
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypedDict

import keras
import numpy as np
from keras import ops

from scirs2_adapters.core.errors import ArgumentValueError, bad_type
from scirs2_adapters.core.formats import blocks, companion
from scirs2_adapters.core.groups import sums
from scirs2_adapters.core.matrix import INPUTS_FIRST
from scirs2_adapters.core.rounding import ROUNDING_ERROR, ROUNDING_SEED
from scirs2_adapters.core.routing import say
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import EPSILON, Extent, Leaf, Slot
from scirs2_adapters.core.step.options import StateDtype, param_storage, slot_dtype, with_error
from scirs2_adapters.core.step.plan import ParamEntry, param_entry

from ..ops import Tensor
from . import coded
from .keras_types import KerasOptimizer, KerasVariable, path_of


class RuleState(KerasOptimizer, Protocol):
    """What state, dispatch and executors read of our optimizers."""

    rule: Rule
    kernel: str
    state_dtype: StateDtype
    rounding: str
    from_own_config: bool
    skip_nonfinite: bool
    skipped_steps: KerasVariable
    #: Whether a step was compiled.
    _traced: bool
    _exclusions: object

    @property
    def slots(self) -> Memory | None: ...
    @property
    def constant_rate(self) -> tuple[float, float] | None: ...


@dataclass(frozen=True, eq=False)
class VariableEntry(ParamEntry):
    """A model variable with its slots, and the companions of those that have one. `compute` is the dtype of the
    arithmetic; `storages` says how the variable, "p", and each slot are stored.

    `late` names the copies of the variable that are made in its first step: TensorFlow may build model and optimizer
    while it records that step, when the variable has no value yet.
    """

    variable: KerasVariable
    compute: str
    slots: dict[str, KerasVariable]
    storages: dict[str, str]
    late: tuple[str, ...]

    @property
    def coded(self) -> bool:
        """Whether anything of it is stored in codes or rounded otherwise than to the nearest."""
        return any(companion(name, storage) for name, storage in self.storages.items())


class Memory:
    """What an optimizer remembers: `entries` in the order of the model's variables, `model` by name.

    A variable that Keras overwrites with its gradient (float8 scales) has no entry. `together` says that formulas sum
    over all. `again` belongs to a path that remembers its steps: it returns whether it has repeated an earlier step.
    """

    def __init__(self, optimizer: RuleState, variables: Sequence[KerasVariable]) -> None:
        self.again: Callable[..., bool] | None = None
        rule = optimizer.rule
        leaves = [None if overwritten(v) else leaf_of(optimizer, v) for v in variables]
        widest = "float64" if any(leaf and leaf.dtype == "float64" for leaf in leaves) else "float32"
        self.together = sums(rule)
        self.model = {s.name: _model_variable(optimizer, s, variables[0], widest) for s in rule.model_slots()}
        members, wide = enumerate(zip(variables, leaves, strict=True)), widest if self.together else ""
        self.entries = [_entry(optimizer, i, v, leaf, wide) if leaf else None for i, (v, leaf) in members]
        say(type(optimizer).__name__, self.routed(rule))

    def routed(self, rule: Rule) -> list[tuple[Rule, Leaf]]:
        """Every variable that is stepped, as a rule sees it."""
        return [(rule, entry.leaf) for entry in self.entries if entry]

    @property
    def variables(self) -> list[KerasVariable]:
        """All variables of the memory, in order."""
        slots = [variable for entry in self.entries if entry for variable in entry.slots.values()]
        return [*self.model.values(), *slots]


def _entry(optimizer: RuleState, index: int, variable: KerasVariable, leaf: Leaf, widest: str) -> VariableEntry:
    rule, compute = optimizer.rule.route(leaf), widest or ("float64" if leaf.dtype == "float64" else "float32")
    stored = [s for s in rule.slots(leaf) if s.extent is not Extent.MODEL]
    storages = {"p": param_storage(leaf, optimizer.rounding, optimizer.state_dtype), "g": leaf.dtype}
    storages |= {s.name: slot_dtype(s, leaf, optimizer.state_dtype) for s in stored}
    slots = _variables(optimizer, rule, stored, variable, leaf, storages)
    late = tuple(s.name for s in stored if s.initial == "parameter" and not _has_value(variable))
    entry = param_entry(index, optimizer.rule, leaf.holding(slots))
    return VariableEntry(**vars(entry), variable=variable, compute=compute, slots=slots, storages=storages, late=late)


def overwritten(variable: KerasVariable) -> bool:
    """Whether Keras overwrites a variable with its gradient, in place of a step."""
    return bool(getattr(variable, "overwrite_with_gradient", False))


def leaf_of(optimizer: RuleState, variable: KerasVariable) -> Leaf:
    """A variable as a rule sees it."""
    dtype, name = keras.backend.standardize_dtype(variable.dtype), path_of(variable)
    if dtype not in EPSILON:
        raise bad_type(f"{type(optimizer).__name__}.build", name, f"must be of dtype {', '.join(EPSILON)}", dtype)
    return with_error(Leaf(tuple(variable.shape), dtype, name, INPUTS_FIRST), optimizer.rounding, optimizer.state_dtype)


def _model_variable(optimizer: RuleState, slot: Slot, first: KerasVariable, widest: str) -> KerasVariable:
    initializer = functools.partial(_full, float(slot.initial_value(optimizer.rule)))
    with _colocated(optimizer, first):
        return optimizer.add_variable((), initializer, slot_dtype(slot, Leaf((), widest), None), name=slot.name)


def _full(number: float, shape: Sequence[int], dtype: str | None = None) -> Tensor:
    """An initializer: one number everywhere, in new memory. Keras' constant would pass through float32."""
    return ops.ones(shape, dtype=dtype) * ops.convert_to_tensor(number, dtype=dtype)


def _variables(
    optimizer: RuleState, rule: Rule, stored: list[Slot], variable: KerasVariable, leaf: Leaf, storages: dict[str, str]
) -> dict[str, KerasVariable]:
    """The slots of a model variable, then all companions, that of the variable first."""
    forms, others = dict[str, coded.Form](), dict[str, coded.Form]()
    if (other := companion("p", storages["p"])) is not None:
        others[other] = coded.rounding(storages["p"], leaf.shape, optimizer._get_variable_index(variable))
    for slot in stored:
        name, storage = slot.name, storages[slot.name]
        first = scales = _numbers(rule, slot, variable)
        if (other := companion(name, storage)) is not None:
            first, scales = coded.initializers(first, leaf.shape, storage, slot.initial != "parameter")
            others[other] = ((blocks(math.prod(leaf.shape)),), scales, "float32")
        forms[name] = (slot.shape(leaf.shape), first, storage)
    return {name: _beside(optimizer, variable, leaf, name, form) for name, form in (forms | others).items()}


def _numbers(rule: Rule, slot: Slot, variable: KerasVariable) -> coded.Initializer:
    """What makes the numbers of a slot before the first step."""
    if slot.initial == "parameter":
        return functools.partial(_copy, variable) if _has_value(variable) else "zeros"
    return "zeros" if slot.initial is None else functools.partial(_full, float(slot.initial_value(rule)))


def _beside(optimizer: RuleState, variable: KerasVariable, leaf: Leaf, slot: str, form: coded.Form) -> KerasVariable:
    """A variable of the optimizer that lies where this model variable does."""
    name, layout = re.sub("[/:]", "_", leaf.name), getattr(variable, "_layout", None)
    shape, initializer, dtype = form
    with _colocated(optimizer, variable):
        layout = layout if shape == leaf.shape else None
        return optimizer.add_variable(shape, initializer, dtype, layout=layout, name=f"{name}_{slot}")


def raw(variable: KerasVariable) -> Tensor:
    """The framework's variable behind a Keras variable."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def _colocated(optimizer: KerasOptimizer, variable: KerasVariable) -> contextlib.AbstractContextManager[object]:
    """Where slots are made: under a TensorFlow strategy beside their variable, and mirrored if it is."""
    strategy = getattr(optimizer, "_distribution_strategy", None)
    return strategy.extended.colocate_vars_with(raw(variable)) if strategy else contextlib.nullcontext()


def _has_value(variable: KerasVariable) -> bool:
    """Whether a variable can be read now."""
    if keras.backend.backend() != "tensorflow":
        return True
    with outside_graphs():
        return bool(raw(variable).is_initialized())


def _copy(variable: KerasVariable, shape: Sequence[int], dtype: str | None = None) -> Tensor:
    """An initializer: a copy of the variable as it is now."""
    del shape
    with outside_graphs():
        return ops.copy(ops.cast(ops.stop_gradient(ops.convert_to_tensor(variable)), dtype))


def outside_graphs() -> contextlib.AbstractContextManager[object]:
    """Where values are read now: TensorFlow may build an optimizer while it records a step."""
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow

    return tensorflow.init_scope()


class StateKey(NamedTuple):
    """One variable of an optimizer: its `slot`, and the place of the model variable that it belongs to, if to one."""

    slot: str
    owner: int | None = None


Values = Mapping[StateKey, np.ndarray]


class Facts(TypedDict, total=False):
    """What is known of the optimizer that wrote a file, as far as it decides what a value means.

    `keras_class` is the name of the class where Keras' class wrote it. `paths` and `entries`, the state keys as
    pairs, are in files of ours alone; `dtypes`, of the model variables, where there are rounding errors.
    """

    version: int
    rule: str
    match: str | None
    rate_in_buffer: bool
    largest_corrected: bool
    accumulation: int
    keras_class: str
    paths: list[str]
    entries: list[tuple[str, int | None]]
    dtypes: list[str]


@dataclass(frozen=True)
class Saved:
    """What a file holds: values by what they are, and the names of the model variables that owners stand for."""

    values: Values
    paths: Sequence[str]
    facts: Facts


#: What the base class keeps for each model variable: its attribute -> the name in files.
KEPT = {"_model_variables_moving_average": "average", "_accumulated_gradients": "gradient_accumulator"}
#: What an optimizer may have or not without being another: a schedule has no variable, a count and errors begin at 0.
OPTIONAL = ("learning_rate", "skipped_steps", ROUNDING_ERROR, ROUNDING_SEED)


def keys_in(optimizer: KerasOptimizer, slots: Mapping[str, Tensor]) -> list[StateKey]:
    """What the variables of a Keras optimizer are, in order. `slots` maps a slot to its variable, or to a list with a
    variable or None for each model variable.
    """
    base = {"iteration": optimizer._iterations, "learning_rate": optimizer._learning_rate}
    lists = {name: getattr(optimizer, attribute, None) or [] for attribute, name in KEPT.items()}
    known: dict[int, StateKey] = {}
    for slot, value in {**base, **lists, **slots}.items():
        if isinstance(value, (list, tuple)):
            known |= {id(variable): StateKey(slot, owner) for owner, variable in enumerate(value)}
        else:
            known[id(value)] = StateKey(slot)
    return [known[id(v)] for v in optimizer.variables]


def state_keys(optimizer: RuleState) -> list[StateKey]:
    """What the variables of an optimizer of ours are."""
    memory = optimizer.slots
    slots: dict[str, Tensor] = {"skipped_steps": optimizer.skipped_steps}
    if memory is not None:
        slots |= memory.model
        for owner, entry in enumerate(memory.entries):
            for name, variable in (entry.slots if entry else {}).items():
                slots.setdefault(name, [None] * len(memory.entries))[owner] = variable
    return keys_in(optimizer, slots)


def paths_of(optimizer: KerasOptimizer) -> list[str]:
    """The names of the model variables, in order."""
    return [path_of(v) for v in optimizer._trainable_variables]


def named(key: StateKey, paths: Sequence[str]) -> str:
    """A state key in words."""
    return key.slot if key.owner is None else f"{key.slot} of {paths[key.owner]}"


def refusal(optimizer: KerasOptimizer, why: str) -> ArgumentValueError:
    """The error for a file that cannot be taken, to be raised before anything changes."""
    return ArgumentValueError(
        f"`{type(optimizer).__name__}` cannot take the saved state of an optimizer: {why}. Nothing of this optimizer "
        "was changed. To take a model's weights alone use `load_weights(..., skip_mismatch=True)` or "
        "`load_model(..., compile=False)`."
    )
