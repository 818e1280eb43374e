"""What the Trainer is given: an optimizer class and its keywords.

The class is the torch room's. Where a rule routes parameters by their names, `optim` gives a factory instead, because
the Trainer passes no names to a class but passes the model to a factory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import TrainingArguments

from ...core import Rule, Wrapper, get
from ...core.errors import bad_type
from .. import torch as room
from .dialect import settle
from .state import name_parameters

Optimizer = torch.optim.Optimizer
#: Where some of the Trainer's hooks hand over parameters of their own choice; one of them at most, in this order.
GROUPS = ("params", "model", "optimizer_dict")


def optim(name: str, args: TrainingArguments, **hyper: Any) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The pair that `Trainer(optimizer_cls_and_kwargs=...)` takes, in a fresh dict.

    The learning rate and the weight decay are those of `args`, and for Adam and AdamW the betas and epsilon too;
    `hyper` holds all others, in torch's words, with `state_dtype`, `kernel` and `match`.

    Example:
        Trainer(model, args, train_dataset=data, optimizer_cls_and_kwargs=optim("lion", args))
    """
    return served(name, *pair("optim", name, args, hyper))


def native(name: str) -> type[Optimizer]:
    """The torch room's class of this optimizer."""
    return getattr(room, get(name).__name__)


def pair(call: str, name: str, args: Any, hyper: Mapping[str, Any]) -> tuple[type[Optimizer], dict[str, Any]]:
    """The class and all keywords, or the error that the user should see before training begins."""
    from .paths import refuse_replacement

    if not isinstance(args, TrainingArguments):
        raise bad_type(call, "args", "must be the `TrainingArguments` of the run", args)
    cls = native(name)
    refuse_replacement(call, args)
    given = settle(call, get(name), hyper, args)
    try_out(cls, given)
    return cls, given


def try_out(cls: type[Optimizer], given: Mapping[str, Any]) -> Optimizer:
    """Build the optimizer once over nothing, so that a bad value is refused here and not when training starts."""
    return cls([torch.empty(0)], **given)


def served(name: str, cls: type[Optimizer], given: dict[str, Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The class, or a factory of it where the optimizer must learn the names of its parameters."""
    if not routes_by_name(name, given):
        return cls, given

    def build(model: torch.nn.Module, /, **hyper: Any) -> Optimizer:
        chosen = [hyper.pop(word) for word in GROUPS if word in hyper]
        made = cls(chosen[0] if chosen else split(model, hyper["weight_decay"]), **hyper)
        name_parameters(made, model)
        return made

    def factory(params: Any = None, **hyper: Any) -> Any:
        """As the Trainer calls it, without arguments; as a class otherwise, for those who know no factories."""
        return build if params is None else cls(params, **hyper)

    return factory, given


def routes_by_name(name: str, given: Mapping[str, Any]) -> bool:
    """Whether the rule may step a parameter otherwise because of its name."""
    rule = get(name).build({"base": given["base"]} if "base" in given else {})
    while isinstance(rule, Wrapper):
        rule = rule.base
    return type(rule).route is not Rule.route


def split(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The two groups of the Trainer, with decay and without."""
    from transformers import Trainer

    # The method makes no use of its instance, and a factory is not told of the Trainer that calls it.
    decayed = set(Trainer.get_decay_parameter_names(None, model))
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [
        {"params": [p for name, p in trained if (name in decayed) is with_decay], "weight_decay": decay}
        for with_decay, decay in ((True, weight_decay), (False, 0.0))
    ]
