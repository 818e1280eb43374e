"""Whether the Trainer or DeepSpeed makes the optimizer, and what ours needs besides what the Trainer gives.

The Trainer calls a class with parameters and keywords, but without itself, the model or the loss. So the class that we
give looks for the Trainer among its callers, and adds what is missing: the arguments as they are now, the names of
parameters, the parameters of a loss. Configurations in which DeepSpeed trains with its own optimizer are refused.
"""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from scirs2_adapters.adapters.torch.state.protocols import Group
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.program.recorded import needs_whole

from .argument_names import Keywords, OptimizerRequest
from .callbacks import ClearGradients, EvaluatedWeights, replace_callback
from .state import Params, grouped, name_parameters
from .targets import target_ranks

Optimizer = torch.optim.Optimizer
#: The method of a Trainer that answers with a class and keywords.
Hook = Callable[[TrainingArguments, torch.nn.Module | None], tuple[type[Optimizer], Keywords]]
#: The keys under which some hooks of the Trainer hand over parameters. The Trainer takes the last one that is set.
GROUPS = ("params", "model", "optimizer_dict")
HOOK = "get_optimizer_cls_and_kwargs"


def calling_trainer() -> tuple[Trainer | None, torch.nn.Module | None]:
    """The Trainer that is making its optimizer at this moment, and the model that it is for; None twice without one."""
    frame = sys._getframe(1)
    while frame is not None:
        trainer = frame.f_locals.get("self") if frame.f_code.co_name == "create_optimizer" else None
        if isinstance(trainer, Trainer):
            model = frame.f_locals.get("model")
            return trainer, trainer.model if model is None else model
        frame = frame.f_back  # type: ignore[assignment]
    return None, None


def built_by(cls: type[Optimizer], build: Callable[[Params, Keywords], Optimizer]) -> type[Optimizer]:
    """A class that is called as `cls` is and calls `build`, which returns an instance of `cls`.

    It is a class because the Trainer makes no groups for anything else.
    """

    def new(_: type, params: Params, **keywords: object) -> Optimizer:
        return build(params, keywords)

    shown = {"__doc__": cls.__doc__, "__module__": cls.__module__, "__signature__": inspect.signature(cls)}
    return type(cls.__name__, (cls,), {"__new__": new, **shown})


def completing(wanted: OptimizerRequest, cls: type[Optimizer]) -> type[Optimizer]:
    """What a hook answers: the class, or one that adds to the optimizer what the Trainer does not pass on."""
    if calling_trainer() == (None, None) and not wanted.preset().routes and not wanted.by_names:
        return cls
    return built_by(cls, lambda params, keywords: complete(wanted, cls, params, keywords))


def complete(wanted: OptimizerRequest, cls: type[Optimizer], params: Params, keywords: Keywords) -> Optimizer:
    """The optimizer, in groups by the names of parameters where that is asked for, with the parameters of the Trainer's
    loss, and with names for a rule that asks for them.
    """
    trainer, model = calling_trainer()
    if wanted.by_names:
        params = _by_names(wanted, params, keywords, trainer, model)
    optimizer = cls(params, **keywords)
    if trainer is None or model is None:
        return optimizer
    listed = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for group in _groups_of_loss(trainer, model):
        if not listed & {id(p) for p in group["params"]}:
            optimizer.add_param_group(group)
    if wanted.preset().routes or wanted.by_names:  # by name; a checkpoint of other groups is loaded by name too
        name_parameters(optimizer, model)
    known = {id(p) for p in model.parameters()}
    outside = [p for group in optimizer.param_groups for p in group["params"] if id(p) not in known]
    replace_callback(trainer, ClearGradients, outside)
    replace_callback(trainer, EvaluatedWeights, hasattr(optimizer, "eval"))
    return optimizer


def _by_names(
    wanted: OptimizerRequest,
    params: Params,
    keywords: Keywords,
    trainer: Trainer | None,
    model: torch.nn.Module | None,
) -> list[Group]:
    """The groups that the request asks for."""
    decayed, ranks = (), None
    if trainer is not None and model is not None:
        decayed = trainer.get_decay_parameter_names(model)
        if wanted.named.targets:
            ranks = functools.partial(target_ranks, trainer.args, model, keywords["rank"])
    elif wanted.named.targets:
        worded = "must be made by a Trainer, whose model has the layers of `optim_target_modules`"
        way_out = f'In a loop, use scirs2_adapters.torch.{wanted.rule.__name__} with a group of `"rank": 0`.'
        raise bad_value(wanted.call, "name", worded, wanted.rule.name, way_out)
    return grouped([*wanted.patterns.values()], params, keywords["lr"], model, decayed, ranks)


def chosen_by(hook: Hook, args: TrainingArguments, model: torch.nn.Module | None) -> Keywords:
    """The parameters that a Trainer's hook chooses; none for the hook of transformers, which chooses for the optimizers
    of transformers.
    """
    answer = {} if hook is getattr(Trainer, HOOK) else hook(args, model)[1]
    return {word: answer[word] for word in GROUPS if word in answer}


def _loss(trainer: Trainer) -> torch.nn.Module | None:
    """The module behind `compute_loss_func`, if there is one."""
    function = trainer.compute_loss_func
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    function = getattr(function, "__self__", function)
    return function if isinstance(function, torch.nn.Module) else None


def _groups_of_loss(trainer: Trainer, model: torch.nn.Module) -> Iterator[Group]:
    """The parameters to train that the loss has and the model has not, with decay and without, as the Trainer splits
    those of a model.
    """
    loss, known = _loss(trainer), {id(p) for p in model.parameters()}
    named = () if loss is None else loss.named_parameters()
    trained = {name: p for name, p in named if p.requires_grad and id(p) not in known}
    if not trained:
        return
    if trainer.args.world_size > 1:
        worded = "must have no parameters of its own in a run of several processes, as none averages their gradients"
        way_out = "Make them a part of the model."
        raise bad_value(type(trainer).__name__, "compute_loss_func", worded, sorted(trained), way_out)
    decayed = set(trainer.get_decay_parameter_names(loss))
    for with_decay, decay in ((True, trainer.args.weight_decay), (False, 0.0)):
        params = [p for name, p in trained.items() if (name in decayed) is with_decay]
        if params:
            yield {"params": params, "weight_decay": decay}


def refuse_replacement(call: str, args: TrainingArguments) -> None:
    """Refuse a DeepSpeed configuration that trains with an optimizer of DeepSpeed's in place of ours."""
    config = _deepspeed(args)
    if "optimizer" in config:
        wanted = "must bring a DeepSpeed configuration without `optimizer`, which is trained with in place of any other"
        raise bad_value(call, "args", wanted, config["optimizer"], "Remove `optimizer` from it.")
    zero = config.get("zero_optimization") or {}
    offload = (zero.get("offload_optimizer") or {}).get("device") or "none"
    forced = config.get("zero_force_ds_cpu_optimizer")
    if (offload != "none" or zero.get("cpu_offload")) and forced is not False:
        wanted = (
            "must set `zero_force_ds_cpu_optimizer` to false in the DeepSpeed configuration, as with "
            "`zero_optimization.offload_optimizer` any other optimizer is replaced by DeepSpeedCPUAdam"
        )
        raise bad_value(call, "args", wanted, forced, 'Add `"zero_force_ds_cpu_optimizer": false`.')


def refuse_flat(call: str, args: TrainingArguments, optimizer: Optimizer) -> None:
    """Refuse ZeRO for an optimizer whose formula is of whole parameters: it would get flat pieces of them."""
    stage = (_deepspeed(args).get("zero_optimization") or {}).get("stage", 0)
    if stage in (0, "0"):
        return
    rules, groups = [rule for rule, _ in optimizer._routed()], optimizer.param_groups  # type: ignore[attr-defined]
    if any(map(needs_whole, rules)):
        why = "its formula is of whole parameters"
    elif any(group["max_grad_norm"] for group in groups):
        why = "max_grad_norm is of all gradients"
    else:
        return
    worded = f"must not ask DeepSpeed for ZeRO with {type(optimizer).__name__}, which is given flat pieces then: {why}"
    way_out = 'Use "zero_optimization": {"stage": 0}, FSDP version 2, or an optimizer such as adamw.'
    raise bad_value(call, "args", worded, f"stage {stage}", way_out)


def _deepspeed(args: TrainingArguments) -> Mapping[str, Any]:
    """The DeepSpeed configuration of a run, from where the arguments or the launcher keep it; empty without one."""
    config = getattr(getattr(args, "hf_deepspeed_config", None), "config", None)
    config = config or getattr(getattr(args, "deepspeed_plugin", None), "deepspeed_config", None)
    config = config or getattr(args, "deepspeed", None) or {}
    if isinstance(config, str):
        config = json.loads(Path(config).read_text()) if Path(config).is_file() else {}
    return config if isinstance(config, Mapping) else {}
