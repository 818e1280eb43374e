"""Our factories under optax's names, and stand-ins for optax's modules that have them.

A rule runs as typed, `adamw(...)`; where `match="optax"` changes its formula or its defaults it runs a second time so.
Both are promises: the first one of a good optimizer in optax's clothes, the second one of optax's own.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import optax
from optax import contrib

import scirs2_adapters
from scirs2_adapters import jax as adapter
from scirs2_adapters.adapters.jax.argument_names import factory_name
from scirs2_adapters.core import Wrapper
from scirs2_adapters.core.registry import with_value

Factory = Callable[..., optax.GradientTransformationExtraArgs]

#: What optax has under a name of its own and we as an argument: optax's name -> (rule, arguments).
UNDER_ANOTHER_NAME: dict[str, tuple[str, dict[str, Any]]] = {
    "nadamw": ("adamw", {"nesterov": True}),
}
#: The optimizers that we have, by optax's spelling where it has them.
LISTED = tuple(map(factory_name, scirs2_adapters.names()))
#: And those that are given the loss, which the suites over lists of optimizers do not give.
NAMES = (*LISTED, *map(factory_name, with_value()), *UNDER_ANOTHER_NAME)


def meant(name: str) -> tuple[str, dict[str, Any]]:
    """The rule that we have for one of NAMES, and its arguments."""
    return UNDER_ANOTHER_NAME.get(name, (name, {}))


def ours(name: str, match: str | None) -> Factory:
    """Our factory for a name of optax's."""
    rule, arguments = meant(name)
    arguments = arguments | ({"match": match} if match in scirs2_adapters.get(rule).matches else {})
    made = getattr(adapter, rule)
    return functools.partial(made, **arguments) if arguments else made


def matches(name: str) -> tuple[str | None, ...]:
    """How a rule runs: as typed, and as optax's where that is another formula or has other defaults."""
    rule, arguments = meant(name)
    return (None, "optax") if arguments or scirs2_adapters.get(rule).matches.get("optax") else (None,)


def factories() -> dict[tuple[str, str | None], Factory]:
    """Every factory of ours as it runs, those that optax has not among them."""
    return {(name, match): ours(name, match) for name in LISTED for match in matches(name)}


def optaxs() -> dict[tuple[str, str | None], Factory]:
    """optax's own factories of the same names; its wrappers are none, and make nothing without a transformation."""
    rules = [name for name in LISTED if not issubclass(scirs2_adapters.get(name), Wrapper)]
    makers = {name: getattr(optax, name, None) or getattr(contrib, name, None) for name in rules}
    return {(name, None): make for name, make in makers.items() if make is not None}


class Ours:
    """A module of optax's with our factories where we have the name."""

    def __init__(self, theirs: ModuleType, match: str | None) -> None:
        self.theirs, self.match = theirs, match

    def __getattr__(self, name: str) -> Any:
        theirs = getattr(self.theirs, name)
        return without_defaults(ours(name, self.match), theirs) if name in NAMES and callable(theirs) else theirs


def without_defaults(made: Factory, theirs: Factory) -> Factory:
    """Our factory, which leaves out an argument that it does not know where that is given optax's own default."""
    known = inspect.signature(made).parameters
    unknown = {k: p.default for k, p in inspect.signature(theirs).parameters.items() if k not in known}
    if not unknown:
        return made

    @functools.wraps(made)
    def make(*args: Any, **keywords: Any) -> optax.GradientTransformationExtraArgs:
        return made(*args, **{k: v for k, v in keywords.items() if k not in unknown or v is not unknown[k]})

    return make
