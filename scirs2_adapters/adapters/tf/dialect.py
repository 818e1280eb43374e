"""Keras' words for the core's: argument names, their order, class spelling, and what a config may hold.

Order is part of Keras' interface: `keras.optimizers.AdamW(1e-3, 0.004)` gives a weight decay. So the arguments that
Keras' own class of the name takes by position are taken by position here, as far as we have them all, and everything
else by name only.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Mapping
from typing import Any

import keras

from scirs2_adapters.core.dialect import Dialect
from scirs2_adapters.core.rule import Rule

KERAS = Dialect(
    names={
        "beta1": "beta_1",
        "beta2": "beta_2",
        "beta3": "beta_3",
        "eps": "epsilon",
        "eps1": "epsilon_1",
        "eps2": "epsilon_2",
        "eps_root": "epsilon_root",
        "beta2_decay": "beta_2_decay",
        "decay_rate": "rho",
        "adamw_beta1": "adamw_beta_1",
        "adamw_beta2": "adamw_beta_2",
        "adamw_eps": "adamw_epsilon",
    }
)

#: What every Keras optimizer takes besides its own, in Keras' order, and is left to the base class.
BASE = {
    "clipnorm": None,
    "clipvalue": None,
    "global_clipnorm": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
    "name": None,
}
#: What every optimizer of ours takes besides.
OURS = {"kernel": "auto", "match": None, "state_dtype": None}


def spelling(rule: type[Rule]) -> str:
    """The class' name as Keras writes it where Keras has the optimizer (`Lamb`), else the rule's own."""
    theirs = {name.casefold(): name for name in dir(keras.optimizers)}
    return theirs.get(rule.__name__.casefold(), rule.__name__)


def signature(rule: type[Rule]) -> inspect.Signature:
    """The constructor of the Keras class."""
    word, given = inspect.Parameter, {}
    fields = rule.fields_with()
    if fields.keys() != rule.fields.keys():  # a wrapper
        given["base"] = word(
            "base", word.KEYWORD_ONLY, default=getattr(rule, "default_base", None), annotation="str | Rule"
        )
    given |= KERAS.parameters(fields)
    given |= {k: word(k, word.KEYWORD_ONLY, default=default) for k, default in {**BASE, **OURS}.items()}
    ordered = list(itertools.takewhile(given.__contains__, _positional(spelling(rule)))) or ["learning_rate"]
    rest = [k for k in given if k not in ordered]
    return inspect.Signature(
        [given[k].replace(kind=word.POSITIONAL_OR_KEYWORD) for k in ordered]
        + [given[k].replace(kind=word.KEYWORD_ONLY) for k in rest]
        + ([word("base_hyper", word.VAR_KEYWORD)] if "base" in given else [])
    )


def _positional(name: str) -> list[str]:
    """The arguments of Keras' own class of this name, in order; none where Keras has no such class."""
    theirs = getattr(keras.optimizers, name, None)
    if theirs is None:
        return []
    return [
        k
        for k, p in inspect.signature(theirs.__init__).parameters.items()
        if k != "self" and p.kind is not p.VAR_KEYWORD
    ]


def plain(value: Any) -> Any:
    """A value as JSON has it: numpy numbers become Python's, tuples lists."""
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(v) for v in value]
    return value.item() if hasattr(value, "item") else value


def tuples(value: Any) -> Any:
    """The way back: lists, as a config holds them, become the tuples that a rule compares and hashes."""
    return tuple(value) if isinstance(value, (tuple, list)) else value
