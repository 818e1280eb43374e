"""The state of a Keras optimizer, out and in. Model variables go by their paths."""

from __future__ import annotations

import functools

import keras
import numpy as np

from scirs2_adapters.core.cpu import storage
from scirs2_adapters.core.errors import bad_type, bad_value
from scirs2_adapters.core.matrix import INPUTS_FIRST
from scirs2_adapters.core.portable.counts import one_count
from scirs2_adapters.core.portable.file import Array
from scirs2_adapters.core.portable.fit import Asked, Report, fitted
from scirs2_adapters.core.portable.state import ParameterState, State, described
from scirs2_adapters.core.rule import Rule

from .ops import as_numpy
from .optimizer.rules import RuleOptimizer
from .state.keras_types import KerasVariable
from .state.memory import Memory, outside_graphs, paths_of


def read(optimizer: keras.optimizers.Optimizer, call: str = "state.save") -> State:
    """The state of an optimizer that was built; its variables are read one by one, when they are asked for."""
    optimizer = inside(optimizer)
    memory = _memory(call, optimizer)
    steps, parameters = _steps(call, optimizer), {}
    for name, entry in zip(_paths(call, optimizer), memory.entries, strict=True):
        if entry is not None:
            slots = {slot: array_of(variable) for slot, variable in entry.slots.items()}
            parameters[name] = ParameterState(slots, steps, entry.leaf.shape, entry.leaf.dtype)
    numbers = {name: float(as_numpy(v)) for name, v in memory.model.items()}
    return described(
        _rule(optimizer), parameters, numbers=numbers, step_count=steps, layout=INPUTS_FIRST,
        skipped_steps=0 if optimizer._skipped is None else int(as_numpy(optimizer._skipped)),
        source={"framework": "keras", "keras": keras.__version__, "backend": keras.backend.backend()},
    )  # fmt: skip


def load(optimizer: keras.optimizers.Optimizer, saved: State, asked: Asked) -> Report:
    """Put a state into the variables of an optimizer that was built."""
    optimizer = inside(optimizer)
    memory, here = _memory(asked.call, optimizer), read(optimizer, asked.call)
    state, report = fitted(asked, saved, here, _rule(optimizer))
    steps = one_count(asked, state, here.step_count, report)
    changes: list[tuple[KerasVariable, np.ndarray]] = []
    for name, entry in zip(_paths(asked.call, optimizer), memory.entries, strict=True):
        if entry is not None and name in state.parameters:
            changes += [(entry.slots[slot], _numbers(x)) for slot, x in state.parameters[name].slots.items()]
    changes += [(memory.model[name], np.asarray(x)) for name, x in state.numbers.items()]
    changes.append((optimizer._iterations, np.asarray(steps * (optimizer.gradient_accumulation_steps or 1))))
    if optimizer._skipped is not None:
        changes.append((optimizer._skipped, np.asarray(state.skipped_steps)))
    with outside_graphs():
        for variable, value in changes:
            variable.assign(np.reshape(value, variable.shape))
    return report


def inside(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer that Keras' scaling of the loss holds."""
    return optimizer.inner_optimizer if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) else optimizer


def _memory(call: str, optimizer: keras.optimizers.Optimizer) -> Memory:
    if not isinstance(optimizer, RuleOptimizer):
        worded = "must be a Keras optimizer of scirs2; one of Keras' own saves with its model, and ours reads that file"
        raise bad_type(call, "optimizer", worded, optimizer)
    if optimizer.slots is None:
        way_out = "Call `optimizer.build(model.trainable_variables)` first."
        raise bad_value(call, "optimizer", "must be built", "no variables", way_out)
    return optimizer.slots


def _rule(optimizer: RuleOptimizer) -> Rule:
    """The rule at the learning rate of now."""
    rate = optimizer.rule.learning_rate if optimizer._rate is None else optimizer._rate
    return optimizer.rule.replace_unchecked({"learning_rate": rate, "weight_decay": optimizer.weight_decay or 0.0})


def _paths(call: str, optimizer: RuleOptimizer) -> list[str]:
    paths = paths_of(optimizer)
    if len(set(paths)) < len(paths):
        worded = "must step variables whose paths differ"
        raise bad_value(call, "optimizer", worded, next(p for p in paths if paths.count(p) > 1))
    return paths


def _steps(call: str, optimizer: RuleOptimizer) -> int:
    at, count = int(as_numpy(optimizer._iterations)), optimizer.gradient_accumulation_steps or 1
    if at % count:
        way_out = "Save after a step."
        raise bad_value(call, "optimizer", "must be between steps", f"{at % count} of {count} gradients", way_out)
    return at // count


def array_of(variable: KerasVariable) -> Array:
    """A variable, which is read when its numbers are asked for."""
    dtype = keras.backend.standardize_dtype(variable.dtype)
    return Array(dtype, tuple(variable.shape), functools.partial(_read, variable))


def _read(variable: KerasVariable) -> np.ndarray:
    with outside_graphs():
        numbers = as_numpy(variable)
    return numbers_of(numbers, keras.backend.standardize_dtype(variable.dtype))


def numbers_of(numbers: np.ndarray, dtype: str = "") -> np.ndarray:
    """Numbers as the core carries them: bfloat16 as uint16."""
    if (dtype or numbers.dtype.name) != "bfloat16":
        return numbers
    return numbers.view(np.uint16) if numbers.dtype.name == "bfloat16" else storage.store(numbers, "bfloat16")


def _numbers(x: Array) -> np.ndarray:
    """What a variable is assigned; of bfloat16 the float32 numbers, which it holds exactly."""
    return storage.load(x.read(), x.dtype) if x.dtype == "bfloat16" else x.read()
