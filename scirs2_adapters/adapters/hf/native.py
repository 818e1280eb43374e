"""Our optimizers in the Trainer, by three doors: a pair of class and keywords, a subclass of a Trainer, a name.

`with_optimizer` overrides the hook that also serves FSDP, `model_init`, hyperparameter search and trainers that take no
`optimizer_cls_and_kwargs`. `register` adds names to the closed list behind `TrainingArguments(optim=...)`. That list is
private to transformers, which takes in no optimizers of others: its parts are looked up and checked when `register` is
called, before anything is changed.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import TrainingArguments

from scirs2_adapters.adapters import torch as room
from scirs2_adapters.core import get, names
from scirs2_adapters.core.errors import MissingExtraError, bad_type, bad_value

from .dialect import FROM_ARGS, read, settle
from .paths import GROUPS, Optimizer, refuse_flat, refuse_replacement, routes_by_name, served
from .state import name_parameters

PREFIX = "scirs2_"
_HOOK = "get_optimizer_cls_and_kwargs"


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
    rule = get(name)
    if rule.evaluates:
        worded = "must be an optimizer that needs no closure, for the Trainer gives none"
        raise bad_value("optim", "name", worded, name, f"Train with scirs2_adapters.torch.{rule.__name__} in a loop.")
    return getattr(room, rule.__name__)


def pair(call: str, name: str, args: Any, hyper: Mapping[str, Any]) -> tuple[type[Optimizer], dict[str, Any]]:
    """The class and all keywords, or the error that the user should see before training begins."""
    if not isinstance(args, TrainingArguments):
        raise bad_type(call, "args", "must be the `TrainingArguments` of the run", args)
    cls = native(name)
    refuse_replacement(call, args)
    given = settle(call, get(name), hyper, args)
    refuse_flat(call, args, try_out(cls, given))
    return cls, given


def try_out(cls: type[Optimizer], given: Mapping[str, Any]) -> Optimizer:
    """Build the optimizer once over nothing, so that a bad value is refused here and not when training starts."""
    return cls([torch.empty(0)], **given)


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
        given = self.optimizer
        made = trainer.create_optimizer(self, *([] if model is None else [model]))
        if made is not given and isinstance(made, cls):
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
