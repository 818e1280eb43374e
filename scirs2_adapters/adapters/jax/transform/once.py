"""What an optimizer says of itself once, however often its state is made."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from scirs2_adapters.core import routing
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import Leaf

_said: weakref.WeakSet[Any] = weakref.WeakSet()


def say(update: Any, rule: Rule, leaves: Sequence[Leaf]) -> None:
    """Says which leaves another rule steps."""
    if update not in _said:
        _said.add(update)
        routing.say(update.call, [(rule, leaf) for leaf in leaves])
