"""The ways into the Trainer that reach further than a pair, and the one configuration in which no way works.

`with_optimizer` overrides the hook that also serves FSDP, `model_init`, hyperparameter search and trainers that take no
`optimizer_cls_and_kwargs`. `register` adds names to the closed list behind `TrainingArguments(optim=...)`. That list is
private to transformers, which takes no optimizers of others in it: the parts are looked up and checked when it is
called, before anything is changed.
"""

from __future__ import annotations

import functools
import inspect
import json
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ...core import get, names
from ...core.errors import MissingExtraError, bad_type, bad_value
from .dialect import FROM_ARGS, read
from .native import GROUPS, native, pair, routes_by_name, served, try_out
from .state import name_parameters

PREFIX = "scirs2_"
_HOOK = "get_optimizer_cls_and_kwargs"


def with_optimizer(trainer: type, name: str, **hyper: Any) -> type:
    """A subclass of a Trainer class that trains with this optimizer, whatever `TrainingArguments(optim=...)` says.

    An optimizer given to the Trainer itself, by `optimizers=` or `optimizer_cls_and_kwargs=`, is kept.

    Example:
        trainer = with_optimizer(Trainer, "lion", betas=(0.95, 0.98))(model, args, train_dataset=data)
    """
    _check_trainer(trainer)
    try_out(native(name), {k: v for k, v in hyper.items() if k not in ("lr", *FROM_ARGS)})
    members = {
        _HOOK: _hook(trainer, name, hyper),
        "__doc__": trainer.__doc__,
        "__module__": trainer.__module__,
        "__qualname__": trainer.__qualname__,
    }
    if routes_by_name(name, hyper):
        members["create_optimizer"] = _naming(trainer, native(name))
    return types.new_class(trainer.__name__, (trainer,), exec_body=lambda namespace: namespace.update(members))


def _check_trainer(trainer: Any) -> None:
    from transformers import Trainer

    if not (isinstance(trainer, type) and issubclass(trainer, Trainer)):
        raise bad_type("with_optimizer", "trainer", "must be `transformers.Trainer` or a subclass of it", trainer)


def _hook(trainer: Any, name: str, hyper: Mapping[str, Any]) -> Any:
    """The hook, static where the base's is: the base's own answer first, for the parameters that it may choose."""

    def answer(base: Callable[..., tuple[Any, dict[str, Any]]], args: Any, model: Any) -> tuple[Any, dict[str, Any]]:
        cls, given = pair("with_optimizer", name, args, hyper)
        _, own = base(args, model)
        return cls, given | {word: own[word] for word in GROUPS if word in own}

    def static(args: Any, model: Any = None) -> tuple[Any, dict[str, Any]]:
        return answer(getattr(trainer, _HOOK), args, model)

    def method(self: Any, args: Any, model: Any = None) -> tuple[Any, dict[str, Any]]:
        return answer(functools.partial(getattr(trainer, _HOOK), self), args, model)

    is_static = isinstance(inspect.getattr_static(trainer, _HOOK), staticmethod)
    chosen = functools.wraps(getattr(trainer, _HOOK))(static if is_static else method)
    return staticmethod(chosen) if is_static else chosen


def _naming(trainer: Any, cls: type[torch.optim.Optimizer]) -> Callable[..., Any]:
    """`create_optimizer` that lets an optimizer of ours know the names of its parameters."""

    @functools.wraps(trainer.create_optimizer)
    def create_optimizer(self: Any, model: Any = None) -> Any:
        made = trainer.create_optimizer(self, *([] if model is None else [model]))
        if isinstance(made, cls):  # and not an optimizer that the user handed to the Trainer
            name_parameters(made, self.model if model is None else model)
        return made

    return create_optimizer


def register() -> None:
    """Make every optimizer available as `TrainingArguments(optim="scirs2_<name>")`, from Python, JSON or a shell.

    Hyperparameters go into `optim_args="beta1=0.95,beta2=0.98"`. It can be called again, and must be called in each
    process before its arguments are read.
    """
    words, handlers = _private_parts()
    for name in names():
        word = PREFIX + name
        if word not in words._value2member_map_:
            _add_member(words, word)
        handlers.setdefault(words(word), functools.partial(_handle, name))


def _private_parts() -> tuple[Any, Any]:
    """The list of names and the table of handlers, or an error that tells the other ways."""
    try:
        from transformers.trainer_optimizer import _OPTIMIZER_HANDLERS
        from transformers.training_args import OptimizerNames

        enum = [getattr(OptimizerNames, f"_{part}_") for part in ("member_map", "value2member_map", "member_names")]
        handlers = {OptimizerNames(key): value for key, value in _OPTIMIZER_HANDLERS.items()}
        if [type(part) for part in enum] != [dict, dict, list] or not handlers:
            raise TypeError("another type")
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        import transformers

        raise MissingExtraError(
            f"`register()` reaches into parts of transformers that have moved in version {transformers.__version__} "
            f"({error}). Use `Trainer(optimizer_cls_and_kwargs=optim(name, args))` or `with_optimizer(Trainer, name)`."
        ) from error
    return OptimizerNames, _OPTIMIZER_HANDLERS


def _add_member(words: Any, word: str) -> None:
    """One more member of a closed enumeration, made as its own class statement would have made it."""
    key = word.upper()
    member = str.__new__(words, word)
    member._name_, member._value_, member.__objclass__ = key, word, words
    member._sort_order_ = len(words._member_names_)
    words._member_names_.append(key)
    words._member_map_[key] = words._value2member_map_[word] = member
    type.__setattr__(words, key, member)


def _handle(name: str, context: Any) -> tuple[Any, dict[str, Any]]:
    """What the Trainer's table of handlers calls for one of our names."""
    call = PREFIX + name
    hyper = read(call, get(name), native(name), context.optim_args or {}, context.args)
    return served(name, *pair(call, name, context.args, hyper))


def refuse_replacement(call: str, args: Any) -> None:
    """Refuse a DeepSpeed configuration that trains with an optimizer of DeepSpeed's own in place of ours."""
    config = _deepspeed(args)
    if "optimizer" in config:
        way_out = "Remove it from the DeepSpeed configuration."
        raise bad_value(call, "optimizer", "must not stand in DeepSpeed's own section", config["optimizer"], way_out)
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


def _deepspeed(args: Any) -> Mapping[str, Any]:
    """The DeepSpeed configuration of a run, from where the arguments or the launcher keep it; empty without one."""
    held = getattr(getattr(args, "hf_deepspeed_config", None), "config", None)
    held = held or getattr(getattr(args, "deepspeed_plugin", None), "deepspeed_config", None)
    held = held or getattr(args, "deepspeed", None) or {}
    if isinstance(held, str):
        held = json.loads(Path(held).read_text()) if Path(held).is_file() else {}
    return held if isinstance(held, Mapping) else {}
