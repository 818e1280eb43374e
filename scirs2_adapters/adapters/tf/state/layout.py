"""What each variable of an optimizer is: a slot of which model variable. Names that files carry are made of this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from scirs2_adapters.core.errors import ArgumentValueError


class Entry(NamedTuple):
    """One variable of an optimizer: its `slot`, and the place of the model variable that it belongs to, if to one."""

    slot: str
    owner: int | None = None


@dataclass(frozen=True)
class Saved:
    """What a file holds: values by what they are, and the names of the model variables that owners stand for.

    `facts` is what is known of the optimizer that wrote it, as far as it decides what a value means.
    """

    values: Mapping[Entry, Any]
    paths: Sequence[str]
    facts: Mapping[str, Any]


#: What the base class keeps for each model variable: its attribute -> the name in files.
KEPT = {"_model_variables_moving_average": "average", "_accumulated_gradients": "gradient_accumulator"}
#: What an optimizer may have or not without being another: a schedule has no variable, a count begins at 0.
OPTIONAL = ("learning_rate", "skipped_steps")


def entries(optimizer: Any, held: Mapping[str, Any]) -> list[Entry]:
    """What the variables of a Keras optimizer are, in order. `held` maps a slot to its variable, or to a list with one,
    or None, for each model variable.
    """
    base = {"iteration": optimizer._iterations, "learning_rate": optimizer._learning_rate}
    lists = {name: getattr(optimizer, attribute, None) or [] for attribute, name in KEPT.items()}
    known: dict[int, Entry] = {}
    for slot, value in {**base, **lists, **held}.items():
        many = isinstance(value, (list, tuple))
        known |= {id(v): Entry(slot, i if many else None) for i, v in enumerate(value if many else [value])}
    return [known[id(v)] for v in optimizer.variables]


def own_entries(optimizer: Any) -> list[Entry]:
    """What the variables of an optimizer of ours are."""
    memory = optimizer.memory
    held: dict[str, Any] = {"skipped_steps": optimizer.skipped_steps}
    if memory is not None:
        held |= memory.model
        slots = [m.slots if m else {} for m in memory.members]
        held |= {name: [s.get(name) for s in slots] for name in {k: None for s in slots for k in s}}
    return entries(optimizer, held)


def path_of(variable: Any) -> str:
    """The name of a model variable."""
    return str(getattr(variable, "path", None) or getattr(variable, "name", ""))


def paths_of(optimizer: Any) -> list[str]:
    """The names of the model variables, in order."""
    return [path_of(v) for v in optimizer._trainable_variables]


def named(entry: Entry, paths: Sequence[str]) -> str:
    """An entry in words."""
    return entry.slot if entry.owner is None else f"{entry.slot} of {paths[entry.owner]}"


def refusal(optimizer: Any, why: str) -> ArgumentValueError:
    """The error for a file that cannot be taken, to be raised before anything changes."""
    return ArgumentValueError(
        f"`{type(optimizer).__name__}` cannot take the saved state of an optimizer: {why}. Nothing of this optimizer "
        "was changed. To take a model's weights alone use `load_weights(..., skip_mismatch=True)` or "
        "`load_model(..., compile=False)`."
    )
