"""What `match` means beside a rule's own row: the habits of a framework."""

from typing import Any

#: What a framework does alike in all its optimizers; a rule's `matches` row holds what is special to one.
CONVENTIONS: dict[str, dict[str, Any]] = {
    "torch": {},
    "optax": {"max_corrected": True, "moduli": True},
    "keras": {"eps": 1e-7, "decay": "decoupled", "lr_in_buffer": True},
}
FIELD_CONVENTIONS = ("eps",)
