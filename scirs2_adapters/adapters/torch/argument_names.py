"""torch's words for the core's: argument names and their order, what groups hold, and the wording of its errors.

Where torch has the optimizer, the arguments that it takes by position are taken by position here, in its order, and
its own sentence ends each error, because callers and tests match it: "Invalid learning rate: -1".
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from scirs2_adapters.core.argument_names import ArgumentNames, by_name
from scirs2_adapters.core.errors import ArgumentValueError, bad_value
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
        "betas": ("beta1", "beta2"),
        "eps": ("eps1", "eps2"),
        "etas": ("eta_minus", "eta_plus"),
        "step_sizes": ("min_step_size", "max_step_size"),
        "adamw_betas": ("adamw_beta1", "adamw_beta2"),
    },
)

#: What torch's classes take besides hyperparameters, and ours take all of.
FLAGS: dict[str, Any] = {"foreach": None, "fused": None, "capturable": False, "differentiable": False}
#: What ours take besides.
OURS: dict[str, Any] = {
    "max_grad_norm": None,
    "skip_nonfinite": False,
    "state_dtype": None,
    "kernel": "auto",
    "match": None,
}
#: What stays with the process: a checkpoint does not bring it. A run that resumes so as to skip bad steps must do so.
STAYS = ("kernel", "skip_nonfinite")
#: Arguments for which torch writes None where the core has the name of the default.
NONE_IS_DEFAULT = ("adjust_lr_fn",)
#: Keys that torch's groups have and that are no arguments of ours: the class says them.
CONSTANTS: dict[str, dict[str, Any]] = {
    "Adam": {"decoupled_weight_decay": False},
    "AdamW": {"decoupled_weight_decay": True},
}

#: Those whose `step` is a Python integer in torch's state dicts, and not a tensor.
WHOLE_STEPS = ("SparseAdam",)

#: What torch's constructor refuses and the formula does not: whether a rule is refused, the argument, the requirement.
REFUSED: dict[str, tuple[Callable[[Any], bool], str, str]] = {
    "SGD": (
        lambda rule: rule.nesterov and (rule.momentum == 0 or rule.dampening != 0),
        "nesterov",
        "must be False where momentum is 0 or dampening is not",
    ),
}

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
    """torch's own class of this name, or the base of all."""
    found = getattr(torch.optim, rule.__name__, None)
    return found if isinstance(found, type) else torch.optim.Optimizer


def signature(rule: type[Rule]) -> inspect.Signature:
    """The constructor of the class."""
    word = inspect.Parameter
    own, positional = word.KEYWORD_ONLY, word.POSITIONAL_OR_KEYWORD
    given = {"params": word("params", positional, annotation="ParamsT")}
    fields = rule.fields_with()
    wraps = fields.keys() != rule.fields.keys()
    if wraps:
        given["base"] = word("base", own, default=getattr(rule, "default_base", None), annotation="str | Rule")
    given |= TORCH.parameters(fields)
    given |= {k: word(k, own, default=v) for k, v in {**FLAGS, **OURS}.items()}
    ordered = ["params", *([k for k in _order(rule) if k in given] or ["base", *TORCH.parameters(rule.fields)])]
    first = [given[k].replace(kind=positional) for k in ordered if k in given]
    rest = [p.replace(kind=own) for k, p in given.items() if k not in ordered]
    return inspect.Signature(first + rest + ([word("base_hyper", word.VAR_KEYWORD)] if wraps else []))


def _order(rule: type[Rule]) -> list[str]:
    """What torch's own class takes by position, in order."""
    theirs = native_class(rule)
    if theirs is torch.optim.Optimizer:
        return []
    parameters = list(inspect.signature(theirs.__init__).parameters.values())[2:]
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]


def given_by_name(call: str, known: inspect.Signature, args: Sequence[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments after `params`, by name."""
    found = by_name(call, known, args, given, before=("params",))
    found = {k: v for k, v in found.items() if v is not None or k not in NONE_IS_DEFAULT}
    usual = {k: p.default for k, p in known.parameters.items()}
    return plain_group(found, usual)


def build(rule: type[Rule], given: Mapping[str, Any], match: str | None) -> Rule:
    """The rule of these arguments, or the error in our words and torch's."""
    name = rule.__name__
    for word in ("lr", "betas[0]", "betas[1]"):
        value = _member(given, word)
        if isinstance(value, torch.Tensor) and value.numel() != 1:
            shape = tuple(value.shape)
            raise ArgumentValueError(
                f"`{name}({word}=...)` must have 1 element. Received: a tensor of shape {shape}. "
                f"Tensor {word} must be 1-element"
            )
    search = rule.needs_closure and not hasattr(rule, "default_base")  # which takes its hyperparameters alone
    with both_words(name, given):
        return TORCH.rule(rule, given, match=match, call=name, also=() if search else (*FLAGS, *OURS))


def refuse(rule: Rule) -> None:
    """What torch refuses of the arguments together; a group may have it all the same, as in torch."""
    name = type(rule).__name__
    if name in REFUSED:
        refused, argument, requirement = REFUSED[name]
        with both_words(name):
            if refused(rule):
                raise bad_value(name, argument, requirement, getattr(rule, argument))


@contextlib.contextmanager
def both_words(name: str, given: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Ends an error about an argument with torch's own sentence for it."""
    try:
        yield
    except ArgumentValueError as error:
        sentence = SENTENCES.get(f"{name}.{error.argument}", SENTENCES.get(error.argument))
        if sentence is None:
            raise
        whole = (given or {}).get(error.argument.partition("[")[0])
        raise type(error)(f"{error} {sentence.format(error.received, whole=whole)}") from None


def _member(given: Mapping[str, Any], word: str) -> Any:
    host, _, place = word.partition("[")
    value = given.get(host)
    return value[int(place[:-1])] if place and isinstance(value, (tuple, list)) and len(value) == 2 else value


#: Keys of a group that are lists parallel to each other, and no values.
LISTS = ("params", "param_names")


def plain(value: Any, like: Any = None) -> Any:
    """A value without numpy. Where `like`, the value it replaces, is a tuple, any sequence of numbers becomes one."""
    if isinstance(value, (np.generic, np.ndarray)) and value.ndim < 2:
        value = value.tolist()
    if not isinstance(like, tuple):
        return value
    if isinstance(value, torch.Tensor) and value.ndim == 1 and readable(value):
        value = value.tolist()
    return tuple(map(plain, value)) if isinstance(value, Sequence) and not isinstance(value, str) else value


def plain_group(group: Mapping[str, Any], likes: Mapping[str, Any]) -> dict[str, Any]:
    """A group with such values; `likes` are those of a group that is known to be right."""
    return {k: v if k in LISTS else plain(v, likes.get(k)) for k, v in group.items()}


def readable(value: torch.Tensor) -> bool:
    """Whether a tensor's numbers are here to be read, and nobody differentiates through them."""
    return value.device.type == "cpu" and type(value) is torch.Tensor and not value.requires_grad
