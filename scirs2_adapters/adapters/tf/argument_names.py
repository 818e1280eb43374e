"""Keras' words for the core's: argument names, their order, class spelling, and what a config may hold.

Order is part of Keras' interface: `keras.optimizers.AdamW(1e-3, 0.004)` gives a weight decay. So the arguments that
Keras' own class of the name takes by position are taken by position here, as far as we have them all, and everything
else by name only.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from scirs2_adapters.core.argument_names import ArgumentNames
from scirs2_adapters.core.errors import bad_type
from scirs2_adapters.core.rule import Rule

KERAS = ArgumentNames(
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
OURS = {"kernel": "auto", "match": None, "skip_nonfinite": False, "state_dtype": None}


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


def given(call: str, name: str, value: Any) -> Any:
    """An argument as a rule takes it: one number in an array or tensor of any framework becomes Python's, a longer
    array or a list becomes a tuple.

    A variable is refused, because what is assigned to it later would not be seen; and a tensor without a value.
    """
    if isinstance(value, (str, bytes, Mapping, type)):
        return value
    if isinstance(value, Sequence):
        return tuple(given(call, name, v) for v in value)
    if not (hasattr(value, "dtype") and hasattr(value, "shape")):
        return value
    if hasattr(value, "assign"):
        way = f"Give a number, and assign `optimizer.{name}` to change it."
        raise bad_type(call, name, "must be a number and no variable", value, way)
    try:
        if math.prod(value.shape) == 1 and hasattr(value, "item"):
            return value.item()
        known = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    except Exception as error:
        raise bad_type(call, name, "must be a number whose value is known", value) from error
    return known.item() if known.size == 1 else tuple(known.tolist())


def is_function(call: str, value: Any) -> bool:
    """Whether a learning rate is a schedule, or a function without arguments as Keras calls it. What can be called but
    is neither, as a layer or a class, is refused here and not in the first step.
    """
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return True
    if not callable(value):
        return False
    if isinstance(value, (type, keras.Layer)) or _asks(value):
        worded = "must be a number, a LearningRateSchedule, or a function without arguments"
        raise bad_type(
            call, "learning_rate", worded, value, "A function of the step is a LearningRateSchedule's `__call__`."
        )
    return True


def _asks(function: Any) -> bool:
    """Whether a function cannot be called without arguments, as far as Python knows."""
    try:
        inspect.signature(function).bind()
    except TypeError:
        return True
    except ValueError:  # one of C, which has no signature
        return False
    return False
