"""What each variable of an optimizer is: a slot of which model variable. The names in files are made of this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import numpy as np

from scirs2_adapters.core.errors import ArgumentValueError

from ..ops import Tensor
from .keras_types import KerasOptimizer, path_of
from .memory import RuleState


class StateKey(NamedTuple):
    """One variable of an optimizer: its `slot`, and the place of the model variable that it belongs to, if to one."""

    slot: str
    owner: int | None = None


Values = Mapping[StateKey, np.ndarray]


class Facts(TypedDict, total=False):
    """What is known of the optimizer that wrote a file, as far as it decides what a value means.

    `keras_class` is the name of the class where Keras' own class wrote it. `paths` and `entries`, the state keys as
    pairs, are in files of ours alone.
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


@dataclass(frozen=True)
class Saved:
    """What a file holds: values by what they are, and the names of the model variables that owners stand for."""

    values: Values
    paths: Sequence[str]
    facts: Facts


#: What the base class keeps for each model variable: its attribute -> the name in files.
KEPT = {"_model_variables_moving_average": "average", "_accumulated_gradients": "gradient_accumulator"}
#: What an optimizer may have or not without being another: a schedule has no variable, a count begins at 0.
OPTIONAL = ("learning_rate", "skipped_steps")


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
    memory = optimizer.memory
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
