"""torch's words for the core's: argument names and their order, what groups hold, and the wording of its errors.

Where torch has the optimizer, the arguments that torch takes by position are taken by position here, in torch's order.
Each error ends with torch's sentence, because callers and tests match it: "Invalid learning rate: -1".
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

import numpy as np
import torch

from scirs2_adapters.core.argument_names import ArgumentNames, Values, merge_arguments, signature
from scirs2_adapters.core.errors import ArgumentValueError, bad_value
from scirs2_adapters.core.fields import Value
from scirs2_adapters.core.rule import Rule

TORCH = ArgumentNames(
    names={
        "learning_rate": "lr",
        "rho": "alpha",
        "radius": "rho",
        "decay_rate": "rho",
        "clip_threshold": "d",
        "adjust": "adjust_lr_fn",
        "adamw_learning_rate": "adamw_lr",
    },
    tuples={
        "betas": ("beta1", "beta2", "beta3"),
        "eps": ("eps1", "eps2"),
        "nus": ("nu1", "nu2"),
        "etas": ("eta_minus", "eta_plus"),
        "step_sizes": ("min_step_size", "max_step_size"),
        "adamw_betas": ("adamw_beta1", "adamw_beta2"),
    },
)

#: For each key of a group its field, or the fields of the tuple that stands there.
Places = Mapping[str, str | tuple[str, ...]]
#: What torch's classes take besides hyperparameters, and ours take all of.
FLAGS: dict[str, Value] = {"foreach": None, "fused": None, "capturable": False, "differentiable": False}
#: What ours take besides.
OURS: dict[str, Value] = {
    "max_grad_norm": None,
    "skip_nonfinite": False,
    "state_dtype": None,
    "rounding": "nearest",
    "offload": False,
    "kernel": "auto",
    "match": None,
}
#: Options that stay with the process: a checkpoint does not change them, so that a resumed run may skip bad steps.
STAYS = ("kernel", "skip_nonfinite", "offload")
#: Arguments for which torch writes None where the core has the name of the default.
NONE_IS_DEFAULT = ("adjust_lr_fn",)
#: Keys that torch's groups have and that are no arguments of ours: the class says them.
CONSTANTS: dict[str, dict[str, Value]] = {
    "Adam": {"decoupled_weight_decay": False},
    "AdamW": {"decoupled_weight_decay": True},
}

#: Those whose `step` is a Python integer in torch's state dicts, and not a tensor.
WHOLE_STEPS = ("SparseAdam",)

#: torch's sentences by argument; those of one optimizer stand under its name.
SENTENCES: dict[str, str] = {
    "lr": "Invalid learning rate: {}",
    "betas[0]": "Invalid beta parameter at index 0: {}",
    "betas[1]": "Invalid beta parameter at index 1: {}",
    "eps": "Invalid epsilon value: {}",
    "weight_decay": "Invalid weight_decay value: {}",
    "momentum": "Invalid momentum value: {}",
    "alpha": "Invalid alpha value: {}",
    "etas[0]": "Invalid eta values: {whole[0]}, {whole[1]}",
    "etas[1]": "Invalid eta values: {whole[0]}, {whole[1]}",
    "rho": "Invalid rho value: {}",
    "momentum_decay": "Invalid momentum_decay value: {}",
    "lr_decay": "Invalid lr_decay value: {}",
    "initial_accumulator_value": "Invalid initial_accumulator_value value: {}",
    "SGD.nesterov": "Nesterov momentum requires a momentum and zero dampening",
    "Adafactor.lr": "Learning rate should be >= 0 but is: {}",
    "Adafactor.eps[0]": "epsilon1 should be >= 0 but is: {}",
    "Adafactor.eps[1]": "epsilon2 should be >= 0 but is: {}",
    "Adafactor.beta2_decay": "beta2_decay should be <= 0 but is: {}",
    "Adafactor.d": "Clipping threshold d should be >= 1 but is: {}",
    "Adafactor.weight_decay": "weight_decay should be >= 0 but is: {}",
    "Muon.lr": "Learning rate should be >= 0 but is: {}",
    "Muon.momentum": "momentum should be >= 0 but is: {}",
    "Muon.weight_decay": "weight decay should be >= 0 but is: {}",
    "Muon.adjust_lr_fn": "Adjust learning rate function {} is not supported",
}


def native_class(rule: type[Rule]) -> type[torch.optim.Optimizer]:
    """torch's class of this name, or the base of all."""
    native = getattr(torch.optim, rule.__name__, None)
    return native if isinstance(native, type) else torch.optim.Optimizer


def constructor_signature(rule: type[Rule]) -> inspect.Signature:
    """The constructor of the class."""
    params = inspect.Parameter("params", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation="ParamsT")
    native = [p.name for p in native_parameters(rule) if p.kind is p.POSITIONAL_OR_KEYWORD]
    order = native or ["base", *TORCH.parameters(rule.fields)]
    base = getattr(rule, "default_base", None)
    return signature(
        rule.fields_with(), TORCH, order=["params", *order], options=_options(rule), first={"params": params}, base=base
    )


def _options(rule: type[Rule]) -> dict[str, Value]:
    """What the class takes besides hyperparameters, with defaults; a search takes nothing else."""
    return {} if rule.needs_closure and not hasattr(rule, "default_base") else {**FLAGS, **OURS}


def native_parameters(rule: type[Rule]) -> list[inspect.Parameter]:
    """What torch's class of this name takes after `params`; nothing where torch has none."""
    native = native_class(rule)
    is_base = native is torch.optim.Optimizer
    return [] if is_base else list(inspect.signature(native.__init__).parameters.values())[2:]


def arguments_by_name(call: str, known: inspect.Signature, args: Sequence[Value], keywords: Values) -> dict[str, Value]:
    """All arguments after `params`, by name and without numpy."""
    arguments = merge_arguments(call, known, args, keywords, ("params",), NONE_IS_DEFAULT)
    for word, value in arguments.items():
        if type(value) not in PLAIN:
            arguments[word] = plain(value, getattr(known.parameters.get(word), "default", None))
    return arguments


def _places(rule: type[Rule], base: str | type | None) -> Places:
    """The fields that each key of a group holds, remembered for each class and base."""
    fields = rule.fields_with(base)
    tuples = TORCH.tuples_of(fields)
    return {key: field if place is None else tuples[key] for field, key, place in TORCH.places(fields)}


places = cast("Callable[[type[Rule], str | type | None], Places]", functools.cache(_places))


def group_values(rule: Rule) -> dict[str, Value]:
    """A rule's hyperparameters as a group holds them."""
    base = getattr(rule, "base", None)
    values: dict[str, Value] = {} if base is None else {"base": base.label}
    for key, fields in places(type(rule), base and _named(base)).items():
        if isinstance(fields, str):
            values[key] = getattr(rule, fields)
        else:
            values[key] = tuple([getattr(rule, name) for name in fields])
    return values


def _named(base: Rule) -> str | type:
    """The base as `fields_with` takes it."""
    return base.label if hasattr(base, "base") else type(base)


def build(rule: type[Rule], arguments: Values, match: str | None) -> Rule:
    """The rule of these arguments, or the error in our words and torch's."""
    name = rule.__name__
    for word, value in tensors(arguments):
        if value.numel() != 1:
            raise ArgumentValueError(
                f"`{name}({word}=...)` must have 1 element. Received: a tensor of shape {tuple(value.shape)}. "
                f"Tensor {word} must be 1-element"
            )
    with both_words(name, arguments):
        return TORCH.rule(rule, arguments, match=match, call=name, also=_options(rule))


def tensors(arguments: Values) -> list[tuple[str, torch.Tensor]]:
    """Those of `lr` and the `betas` that are tensors, each as torch names it."""
    betas = arguments.get("betas")
    numbers = [("lr", arguments.get("lr"))]
    if isinstance(betas, (tuple, list)):
        numbers += [(f"betas[{i}]", beta) for i, beta in enumerate(betas)]
    return [(word, value) for word, value in numbers if isinstance(value, torch.Tensor)]


def refuse(rule: Rule) -> None:
    """What torch's constructor refuses and the formula does not; a group may have it all the same, as in torch."""
    hyper = vars(rule)
    if type(rule).__name__ == "SGD" and hyper["nesterov"] and (hyper["momentum"] == 0 or hyper["dampening"] != 0):
        with both_words("SGD"):
            worded = "must be False where momentum is 0 or dampening is not"
            raise bad_value("SGD", "nesterov", worded, hyper["nesterov"])


@contextlib.contextmanager
def both_words(name: str, arguments: Values | None = None) -> Iterator[None]:
    """Ends an error about an argument with torch's sentence for it."""
    try:
        yield
    except ArgumentValueError as error:
        sentence = SENTENCES.get(f"{name}.{error.argument}", SENTENCES.get(error.argument))
        if sentence is None:
            raise
        whole = (arguments or {}).get(error.argument.partition("[")[0])
        raise type(error)(f"{error} {sentence.format(error.received, whole=whole)}") from None


#: Keys of a group that are lists parallel to each other, and no values.
LISTS = ("params", "param_names")
#: Types of values that are plain already, whatever they replace, and that cannot be changed in place.
PLAIN = frozenset({float, int, bool, str, type(None)})


def plain(value: Value, like: object = None) -> Value:
    """A value without numpy. Where `like`, the value it replaces, is a tuple, any sequence of as many numbers becomes
    one; another value stays as it was typed, for the error.
    """
    is_array = isinstance(value, (np.generic, np.ndarray)) and value.ndim < 2
    if isinstance(like, tuple):
        is_array = is_array or (isinstance(value, torch.Tensor) and value.ndim == 1 and readable(value))
    members = value.tolist() if is_array else value
    if not isinstance(like, tuple):
        return members
    if not isinstance(members, Sequence) or isinstance(members, str) or len(members) != (len(like) or len(members)):
        return value
    return tuple(map(plain, members))


def plain_group(group: Values, likes: Values) -> dict[str, Value]:
    """A group with such values; `likes` are those of a group that is known to be right."""
    kept = {key for key, value in group.items() if key in LISTS or type(value) in PLAIN}
    return {key: value if key in kept else plain(value, likes.get(key)) for key, value in group.items()}


def readable(value: torch.Tensor) -> bool:
    """Whether a tensor's numbers can be read here, and are not part of a graph for derivatives."""
    return value.device.type == "cpu" and type(value) is torch.Tensor and not value.requires_grad
