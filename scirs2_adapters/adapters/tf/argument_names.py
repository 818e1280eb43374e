"""How Keras spells the core's arguments: names, order, classes, and what a config may hold.

Order is part of Keras' interface: `keras.optimizers.AdamW(1e-3, 0.004)` gives a weight decay. So the first arguments of
Keras' class of that name are taken by position here, up to the first that we lack, and all others by name only.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from scirs2_adapters.core.argument_names import ArgumentNames
from scirs2_adapters.core.argument_names import signature as core_signature
from scirs2_adapters.core.errors import bad_type
from scirs2_adapters.core.fields import Field, Value
from scirs2_adapters.core.rule import Rule


class KerasNames(ArgumentNames):
    """Keras' words, which are the same in all its classes but Muon: its `epsilon` is AdamW's."""

    def words(self, fields: Mapping[str, Field]) -> dict[str, tuple[str, int | None]]:
        words = super().words(fields)
        return words | {"eps": ("ns_epsilon", None)} if "adamw_eps" in fields else words


KERAS = KerasNames(
    names={
        "beta1": "beta_1", "beta2": "beta_2", "beta3": "beta_3", "beta2_decay": "beta_2_decay", "decay_rate": "rho",
        "eps": "epsilon", "eps1": "epsilon_1", "eps2": "epsilon_2", "eps_root": "epsilon_root",
        "adamw_beta1": "adam_beta_1", "adamw_beta2": "adam_beta_2", "adamw_eps": "epsilon",
        "adamw_weight_decay": "adam_weight_decay", "adamw_ratio": "adam_lr_ratio",
    }
)  # fmt: skip

#: The arguments that every Keras optimizer takes, in Keras' order; they are left to the base class.
BASE = {
    "clipnorm": None, "clipvalue": None, "global_clipnorm": None,
    "use_ema": False, "ema_momentum": 0.99, "ema_overwrite_frequency": None,
    "loss_scale_factor": None, "gradient_accumulation_steps": None, "name": None,
}  # fmt: skip
#: What every optimizer of ours takes besides.
OURS = {"kernel": "auto", "match": None, "skip_nonfinite": False, "state_dtype": None, "rounding": "nearest"}


#: Words that Muon had in configs before it had Keras'.
_OLDER = {
    "epsilon": "ns_epsilon", "adamw_epsilon": "epsilon", "adamw_beta_1": "adam_beta_1", "adamw_beta_2": "adam_beta_2",
    "adamw_weight_decay": "adam_weight_decay", "adamw_ratio": "adam_lr_ratio",
}  # fmt: skip
#: Keras' words for the members of `ns_coefficients`.
_MEMBERS = ("muon_a", "muon_b", "muon_c")


def newer(config: Mapping[str, Value]) -> dict[str, Value]:
    """A config in the words of now."""
    return {_OLDER.get(k, k): v for k, v in config.items()} if "adamw_epsilon" in config else dict(config)


def in_our_words(rule: type[Rule], arguments: Mapping[str, Value], match: str | None) -> dict[str, Value]:
    """The arguments with those of Keras' Muon that mean something else, or more, than one argument of ours."""
    words = dict(arguments)
    if rule.name != "muon":
        return words
    if not words.keys().isdisjoint(_MEMBERS):
        first: Value = words.get("ns_coefficients", rule.fields["ns_coefficients"].default)
        words["ns_coefficients"] = tuple(words.pop(k, old) for k, old in zip(_MEMBERS, first, strict=True))
    if "rms_rate" in words and "adjust" not in words:
        words["adjust"] = "none" if words["rms_rate"] is None else "match_rms_adamw"
        if words["rms_rate"] is None:
            del words["rms_rate"]
    if match == "keras" and words.get("adam_weight_decay", 0) is None:
        words["adam_weight_decay"] = 0.0
    if words.get("exclude_layers", ()) is None:
        words["exclude_layers"] = ()
    return words


def spelling(rule: type[Rule]) -> str:
    """The class' name as Keras writes it where Keras has the optimizer (`Lamb`), else the rule's own."""
    names = {name.casefold(): name for name in dir(keras.optimizers)}
    return names.get(rule.__name__.casefold(), rule.__name__)


def signature(rule: type[Rule]) -> inspect.Signature:
    """The constructor of the Keras class."""
    fields, base = rule.fields_with(), getattr(rule, "default_base", None)
    members = zip(_MEMBERS, fields["ns_coefficients"].default, strict=True) if rule.name == "muon" else ()
    options = {**BASE, **OURS, **dict(members)}
    accepted = {**KERAS.parameters(fields), **options}
    order = list(itertools.takewhile(accepted.__contains__, _positional(spelling(rule)))) or ["learning_rate"]
    return core_signature(fields, KERAS, order=order, options=options, base=base)


def _positional(name: str) -> list[str]:
    """The arguments of Keras' class of this name, in order; none where Keras has no such class."""
    cls = getattr(keras.optimizers, name, None)
    parameters = inspect.signature(cls.__init__).parameters if cls else {}
    return [k for k, p in parameters.items() if k != "self" and p.kind is not p.VAR_KEYWORD]


def plain(value: object) -> object:
    """A value as JSON has it: numpy numbers become Python's, tuples lists."""
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(v) for v in value]
    return value.item() if hasattr(value, "item") else value


def as_rule_takes(call: str, name: str, value: object) -> object:
    """An argument as a rule takes it: an array or tensor of one number becomes a Python number, a longer one or a list
    a tuple.

    A variable is refused, because what is assigned to it later would not be seen. A tensor without a value is refused.
    """
    if isinstance(value, (str, bytes, Mapping, type)):
        return value
    if isinstance(value, Sequence):
        return tuple(as_rule_takes(call, name, v) for v in value)
    if not (hasattr(value, "dtype") and hasattr(value, "shape")):
        return value
    if hasattr(value, "assign"):
        way = f"Give a number, and assign `optimizer.{name}` to change it."
        raise bad_type(call, name, "must be a number and no variable", value, way)
    try:
        if math.prod(value.shape) == 1 and hasattr(value, "item"):
            return value.item()
        array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    except Exception as error:
        raise bad_type(call, name, "must be a number whose value is known", value) from error
    return array.item() if array.size == 1 else tuple(array.tolist())


def is_function(call: str, value: object) -> bool:
    """Whether a learning rate is a schedule, or a function that Keras can call without arguments. What else can be
    called, such as a layer or a class, is refused here and not in the first step.
    """
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return True
    if not callable(value):
        return False
    if isinstance(value, (type, keras.Layer)) or _needs_arguments(value):
        worded = "must be a number, a LearningRateSchedule, or a function without arguments"
        way_out = "A function of the step is a LearningRateSchedule's `__call__`."
        raise bad_type(call, "learning_rate", worded, value, way_out)
    return True


def _needs_arguments(function: Callable[..., object]) -> bool:
    """Whether a function cannot be called without arguments, as far as Python knows."""
    try:
        inspect.signature(function).bind()
    except TypeError:
        return True
    except ValueError:  # one of C, which has no signature
        return False
    return False
