"""What `match` means besides the row of a rule: what a framework does alike in all its optimizers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .fields import Value


@dataclass(frozen=True)
class OptaxState:
    """The class in which optax keeps an optimizer's memory, as data: its name, and for each of its fields the slot in
    it, or "count". `decays` says whether weight decay, which has a separate place in the state, stands "before" or
    "after" it; `unless` names arguments that ask for memory optax has no place for.
    """

    name: str
    fields: Mapping[str, str]
    decays: str = ""
    unless: tuple[str, ...] = ()


#: Values and traits; `eps` is a field, which not every rule has.
CONVENTIONS: dict[str, dict[str, Value]] = {
    "torch": {},
    "optax": {"max_corrected": True, "moduli": True},
    "keras": {"eps": 1e-7, "decay": "decoupled", "lr_in_buffer": True},
}
