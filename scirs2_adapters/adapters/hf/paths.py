"""Who builds the optimizer, and from what: the Trainer from a class, ours from the model, or DeepSpeed in our place.

The Trainer passes no names of parameters to a class, but passes the model to a factory; so a rule that routes
parameters by their names is given as a factory. DeepSpeed, in some configurations, trains with an optimizer of its own
whatever it is given, and these are refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from scirs2_adapters.core import get
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.program import needs_whole

from .state import name_parameters

Optimizer = torch.optim.Optimizer
#: Where some of the Trainer's hooks hand over parameters of their own choice. The Trainer takes the last of them.
GROUPS = ("params", "model", "optimizer_dict")


def served(name: str, cls: type[Optimizer], given: dict[str, Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The class, or a factory of it where the optimizer must learn the names of its parameters."""
    if not routes_by_name(name, given):
        return cls, given

    def build(model: torch.nn.Module, /, **hyper: Any) -> Optimizer:
        chosen = [hyper.pop(word) for word in GROUPS if word in hyper]
        made = cls(chosen[-1] if chosen else split(model, hyper["weight_decay"]), **hyper)
        name_parameters(made, model)
        return made

    def factory(params: Any = None, **hyper: Any) -> Any:
        """As the Trainer calls it, without arguments; as a class otherwise, for those who know no factories."""
        return build if params is None else cls(params, **hyper)

    return factory, given


def routes_by_name(name: str, given: Mapping[str, Any]) -> bool:
    """Whether the rule may step a parameter otherwise because of its name."""
    return get(name).build({"base": given["base"]} if "base" in given else {}).routes


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
