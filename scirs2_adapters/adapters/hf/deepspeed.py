"""Who builds the optimizer, and from what: the Trainer from a class, or DeepSpeed in our place.

The Trainer tells a class that it calls neither which Trainer it is, nor the model, nor the loss. So the class is one
that looks for the Trainer among the callers, and adds what an optimizer cannot do without: the arguments as they are
now, names of parameters, the parameters of a loss. DeepSpeed, in some configurations, trains with an optimizer of its
own whatever it is given, and these are refused.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from scirs2_adapters.core import Rule
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.program.recorded import needs_whole

from .state import name_parameters

Optimizer = torch.optim.Optimizer
Groups = list[dict[str, Any]]
#: Where some of the Trainer's hooks hand over parameters of their own choice. The Trainer takes the last of them.
GROUPS = ("params", "model", "optimizer_dict")
HOOK = "get_optimizer_cls_and_kwargs"


def building() -> tuple[Any, Any]:
    """The Trainer that is making its optimizer at this moment, and the model it does so for; None twice without one."""
    frame = sys._getframe(1)
    while frame is not None:
        trainer = frame.f_locals.get("self") if frame.f_code.co_name == "create_optimizer" else None
        if isinstance(trainer, Trainer):
            model = frame.f_locals.get("model")
            return trainer, trainer.model if model is None else model
        frame = frame.f_back  # type: ignore[assignment]
    return None, None


def built_by(cls: type[Optimizer], build: Callable[[Any, dict[str, Any]], Optimizer]) -> type[Optimizer]:
    """A class that is called as `cls` is and calls `build`, which returns an instance of `cls`.

    It is a class because the Trainer makes no groups for anything else.
    """

    def new(_: type, params: Any, **given: Any) -> Optimizer:
        return build(params, given)

    shown = {"__doc__": cls.__doc__, "__module__": cls.__module__, "__signature__": inspect.signature(cls)}
    return type(cls.__name__, (cls,), {"__new__": new, **shown})


def served(rule: Rule, cls: type[Optimizer]) -> type[Optimizer]:
    """What a hook answers: the class, or one that adds to the optimizer what the Trainer does not hand over."""
    if building() == (None, None) and not routes_by_name(rule):
        return cls
    return built_by(cls, lambda params, given: complete(rule, cls(params, **given)))


def complete(rule: Rule, made: Optimizer) -> Optimizer:
    """The optimizer with the parameters of the Trainer's loss, and with names for a rule that asks for them."""
    trainer, model = building()
    if trainer is None:
        return made
    listed = {id(p) for group in made.param_groups for p in group["params"]}
    for group in _groups_of_loss(trainer, model):
        if not listed & {id(p) for p in group["params"]}:
            made.add_param_group(group)
    if routes_by_name(rule):
        name_parameters(made, model)
    _clear_gradients(trainer, model, made)
    return made


def routes_by_name(rule: Rule) -> bool:
    """Whether the rule may step a parameter otherwise because of its name."""
    return rule.routes


def chosen_by(hook: Callable[..., tuple[Any, dict[str, Any]]], args: Any, model: Any) -> dict[str, Any]:
    """The parameters that a Trainer's hook chooses; the Trainer's own chooses for its own optimizers, and not ours."""
    own = {} if hook is getattr(Trainer, HOOK) else hook(args, model)[1]
    return {word: own[word] for word in GROUPS if word in own}


def _loss(trainer: Any) -> torch.nn.Module | None:
    """The module behind `compute_loss_func`, if there is one."""
    function = trainer.compute_loss_func
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    function = getattr(function, "__self__", function)
    return function if isinstance(function, torch.nn.Module) else None


def _parameters_of_loss(trainer: Any, model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters to train that the loss has and the model has not."""
    loss, known = _loss(trainer), {id(p) for p in model.parameters()}
    named = () if loss is None else loss.named_parameters()
    return {name: p for name, p in named if p.requires_grad and id(p) not in known}


def _groups_of_loss(trainer: Any, model: torch.nn.Module) -> Iterator[dict[str, Any]]:
    """The loss' parameters with decay and without, as the Trainer splits those of a model."""
    trained = _parameters_of_loss(trainer, model)
    if not trained:
        return
    if trainer.args.world_size > 1:
        worded = "must have no parameters of its own in a run of several processes, as none averages their gradients"
        raise bad_value(
            type(trainer).__name__, "compute_loss_func", worded, sorted(trained), "Make them a part of the model."
        )
    decayed = set(trainer.get_decay_parameter_names(_loss(trainer)))
    for with_decay, decay in ((True, trainer.args.weight_decay), (False, 0.0)):
        params = [p for name, p in trained.items() if (name in decayed) is with_decay]
        if params:
            yield {"params": params, "weight_decay": decay}


class _ClearGradients(TrainerCallback):
    """Clears, after each step, the gradients that the Trainer does not: it clears those of the model alone."""

    def __init__(self, params: list[torch.Tensor]) -> None:
        self.params = params

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for p in self.params:
            p.grad = None


def _clear_gradients(trainer: Any, model: torch.nn.Module, made: Optimizer) -> None:
    known = {id(p) for p in model.parameters()}
    outside = [p for group in made.param_groups for p in group["params"] if id(p) not in known]
    trainer.pop_callback(_ClearGradients)
    if outside:
        trainer.add_callback(_ClearGradients(outside))


def refuse_replacement(call: str, args: Any) -> None:
    """Refuse a DeepSpeed configuration that trains with an optimizer of DeepSpeed's own in place of ours."""
    config = _deepspeed(args)
    if "optimizer" in config:
        wanted = "must bring a DeepSpeed configuration without `optimizer`, which is trained with in place of any other"
        raise bad_value(call, "args", wanted, config["optimizer"], "Remove `optimizer` from it.")
    zero = config.get("zero_optimization") or {}
    offload = (zero.get("offload_optimizer") or {}).get("device") or "none"
    if (offload != "none" or zero.get("cpu_offload")) and config.get("zero_force_ds_cpu_optimizer", True) is not False:
        raise bad_value(
            call,
            "args",
            "must set `zero_force_ds_cpu_optimizer` to false in the DeepSpeed configuration, as with "
            "`zero_optimization.offload_optimizer` any other optimizer is replaced by DeepSpeedCPUAdam",
            config.get("zero_force_ds_cpu_optimizer"),
            'Add `"zero_force_ds_cpu_optimizer": false`.',
        )


def refuse_flat(call: str, args: Any, made: Optimizer) -> None:
    """Refuse ZeRO for an optimizer whose formula is of whole parameters: it would be given flat pieces of them."""
    stage = (_deepspeed(args).get("zero_optimization") or {}).get("stage", 0)
    if stage in (0, "0"):
        return
    rules, groups = [rule for rule, _ in made._routed()], made.param_groups  # type: ignore[attr-defined]
    why = "its formula is of whole parameters" if any(map(needs_whole, rules)) else ""
    if why := why or ("max_grad_norm is of all gradients" if any(g["max_grad_norm"] for g in groups) else ""):
        worded = f"must not ask DeepSpeed for ZeRO with {type(made).__name__}, which is given flat pieces then: {why}"
        way_out = 'Use "zero_optimization": {"stage": 0}, FSDP version 2, or an optimizer such as adamw.'
        raise bad_value(call, "args", worded, f"stage {stage}", way_out)


def _deepspeed(args: Any) -> Mapping[str, Any]:
    """The DeepSpeed configuration of a run, from where the arguments or the launcher keep it; empty without one."""
    held = getattr(getattr(args, "hf_deepspeed_config", None), "config", None)
    held = held or getattr(getattr(args, "deepspeed_plugin", None), "deepspeed_config", None)
    held = held or getattr(args, "deepspeed", None) or {}
    if isinstance(held, str):
        held = json.loads(Path(held).read_text()) if Path(held).is_file() else {}
    return held if isinstance(held, Mapping) else {}
