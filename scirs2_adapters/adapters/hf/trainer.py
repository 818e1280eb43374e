"""Our optimizers in the Trainer, by three doors: a pair of class and keywords, a subclass of a Trainer, a name.

All three take what `TrainingArguments` hold from the arguments of the Trainer at the moment when it makes its
optimizer, for a hyperparameter search changes them. `with_optimizer` overrides the hook that also serves FSDP and
trainers that take no `optimizer_cls_and_kwargs`. `register` adds names to the closed list behind
`TrainingArguments(optim=...)`, which is private to transformers: its parts are looked up and checked when `register` is
called, before anything is changed.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from scirs2_adapters.adapters import torch as adapter
from scirs2_adapters.core import Rule, get, names, with_closure
from scirs2_adapters.core.errors import MissingExtraError, bad_type, bad_value
from scirs2_adapters.core.synonyms import similar_name

from .argument_names import FROM_ARGS, Asked, asked, offered, read, settle, trainer_obstacle, words_of
from .deepspeed import HOOK, Optimizer, building, built_by, chosen_by, complete, refuse_flat, refuse_replacement, served

PREFIX = "scirs2_"


def optim(name: str | Rule, args: TrainingArguments, **hyper: Any) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The pair that `Trainer(optimizer_cls_and_kwargs=...)` takes, in a fresh dict.

    The learning rate and the weight decay are those of `args`, and for Adam and AdamW the betas and epsilon too, as
    they are when the Trainer makes its optimizer; `hyper` holds all others, in torch's words, with `state_dtype`,
    `kernel` and `match`. `name` may also be a rule, such as `scirs2_adapters.core.AdamW(eps=1e-6)`.

    Example:
        Trainer(model, args, train_dataset=data, optimizer_cls_and_kwargs=optim("lion", args))
    """
    wanted = asked("optim", name, hyper)
    cls, shown = pair(wanted, args)
    first = dict(shown)

    def build(params: Any, given: dict[str, Any]) -> Optimizer:
        """With the arguments of now, and what the user has changed in the dict since."""
        trainer, model = building()
        changed = {k: v for k, v in given.items() if k not in first or not _unchanged(v, first[k])}
        _, settled = pair(wanted.with_keywords(changed), _arguments(wanted, args, trainer))
        if trainer is not None and (trainer.optimizer_cls_and_kwargs or [None])[0] is made:
            chosen = chosen_by(getattr(trainer, HOOK), trainer.args, model)
            params = [params, *chosen.values()][-1]
        return complete(wanted.preset(), cls(params, **settled))

    made = built_by(cls, build)
    return made, shown


def _unchanged(a: Any, b: Any) -> bool:
    return a is b or (not isinstance(a, torch.Tensor) and type(a) is type(b) and bool(a == b))


def _arguments(wanted: Asked, args: Any, trainer: Any) -> Any:
    """The arguments of the Trainer; if others were given, these must agree until a search changes the Trainer's."""
    if trainer is None or trainer.args is args:
        return args
    for word in words_of(wanted.rule).values() if trainer.hp_search_backend is None else ():
        if (value := getattr(args, word)) != (theirs := getattr(trainer.args, word)):
            worded = f"must be the arguments of the Trainer, whose `{word}` is {theirs!r}"
            raise bad_value(
                wanted.call, "args", worded, f"{word}={value!r}", "Or use `with_optimizer`, which takes none."
            )
    return trainer.args


def pair(wanted: Asked, args: Any) -> tuple[type[Optimizer], dict[str, Any]]:
    """The class and all keywords, or the error that the user should see before training begins."""
    if not isinstance(args, TrainingArguments):
        raise bad_type(wanted.call, "args", "must be the `TrainingArguments` of the run", args)
    refuse_replacement(wanted.call, args)
    settled = settle(wanted, args)
    refuse_flat(wanted.call, args, try_out(wanted, settled))
    return native(wanted.rule), settled


def native(rule: type[Rule]) -> type[Optimizer]:
    """The torch adapter's class of this optimizer."""
    found: type[Optimizer] = getattr(adapter, rule.__name__)
    return found


def try_out(wanted: Asked, given: Mapping[str, Any]) -> Optimizer:
    """Build the optimizer once over nothing, so that a bad value is refused here and not when training starts."""
    return native(wanted.rule)([torch.empty(0)], **given)


def with_optimizer(trainer: type, name: str | Rule, **hyper: Any) -> type:
    """A subclass of a Trainer class that trains with this optimizer, whatever `TrainingArguments(optim=...)` says.

    An optimizer given to the Trainer itself, by `optimizers=` or `optimizer_cls_and_kwargs=`, is kept.

    Example:
        trainer = with_optimizer(Trainer, "lion", betas=(0.95, 0.98))(model, args, train_dataset=data)
    """
    if not (isinstance(trainer, type) and issubclass(trainer, Trainer)):
        raise bad_type("with_optimizer", "trainer", "must be `transformers.Trainer` or a subclass of it", trainer)
    wanted = asked("with_optimizer", name, hyper)
    try_out(wanted, {k: v for k, v in wanted.hyper.items() if k not in ("lr", *FROM_ARGS)})
    members = {
        HOOK: _hook(trainer, wanted),
        "create_optimizer": _checked(trainer, native(wanted.rule)),
        "__doc__": trainer.__doc__,
        "__module__": trainer.__module__,
        "__qualname__": trainer.__qualname__,
    }
    return types.new_class(trainer.__name__, (trainer,), exec_body=lambda namespace: namespace.update(members))


def _hook(trainer: Any, wanted: Asked) -> Any:
    """The hook, static where the base's is, which may choose the parameters."""

    def answer(base: Callable[..., tuple[Any, dict[str, Any]]], args: Any, model: Any) -> tuple[Any, dict[str, Any]]:
        cls, settled = pair(wanted, args)
        return served(wanted.preset(), cls), settled | chosen_by(base, args, model)

    def static(args: Any, model: Any = None) -> tuple[Any, dict[str, Any]]:
        return answer(getattr(trainer, HOOK), args, model)

    def method(self: Any, args: Any, model: Any = None) -> tuple[Any, dict[str, Any]]:
        return answer(functools.partial(getattr(trainer, HOOK), self), args, model)

    is_static = isinstance(inspect.getattr_static(trainer, HOOK), staticmethod)
    chosen = functools.wraps(getattr(trainer, HOOK))(static if is_static else method)
    return staticmethod(chosen) if is_static else chosen


def _checked(trainer: Any, cls: type[Optimizer]) -> Callable[..., Any]:
    """`create_optimizer` that refuses a base whose own makes another optimizer."""

    @functools.wraps(trainer.create_optimizer)
    def create_optimizer(self: Any, *args: Any, **keywords: Any) -> Any:
        given = self.optimizer is not None or self.optimizer_cls_and_kwargs is not None
        made = trainer.create_optimizer(self, *args, **keywords)
        if not given and not _has(self.optimizer, cls):
            theirs, self.optimizer = self.optimizer, None
            worded = (
                f"must be a Trainer that makes the optimizer it is asked for; `{trainer.__name__}.create_optimizer`"
            )
            worded += f" makes its own, where {cls.__name__} is asked for"
            way_out = f"Call `super().create_optimizer()` there, or override `{HOOK}` instead."
            raise bad_value("with_optimizer", "trainer", worded, type(theirs).__name__, way_out)
        return made

    return create_optimizer


def _has(optimizer: Any, cls: type[Optimizer]) -> bool:
    """Whether this is an optimizer of the class, or one around it."""
    around = getattr(optimizer, "__dict__", {}).values()
    held = [x for value in around for x in (value if isinstance(value, (list, tuple)) else [value])]
    return any(isinstance(x, cls) for x in (optimizer, *held))


def register() -> None:
    """Make every optimizer available as `TrainingArguments(optim="scirs2_<name>")`, from Python, JSON or a shell.

    Hyperparameters go into `optim_args="beta1=0.95,beta2=0.98"`. It can be called again, and must be called in each
    process before its arguments are read.
    """
    words, handlers = _private_parts()
    for name in offered():
        word = PREFIX + name
        if word not in words._value2member_map_:
            _add_member(words, word)
        handlers.setdefault(words(word), functools.partial(_handle, name))
    _explain_missing(words)


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


def _explain_missing(words: Any) -> None:
    """The closed list's own error for a name it has not, but one of ours for a name that begins as ours do."""
    theirs = words._missing_.__func__
    if getattr(theirs, "explains", False):
        return

    def _missing_(cls: Any, value: Any) -> Any:
        if not (isinstance(value, str) and value.startswith(PREFIX)):
            return theirs(cls, value)
        known, name = [PREFIX + n for n in offered()], value.removeprefix(PREFIX).casefold()
        reason = trainer_obstacle(get(name)) if name in (*names(), *with_closure()) else ""
        hint = similar_name(name, offered()).replace("`", f"`{PREFIX}", 1)
        worded = reason or f"must be one of {', '.join(known)}, or of transformers' own"
        raise bad_value("TrainingArguments", "optim", worded, value, "" if reason else hint)

    _missing_.explains = True  # type: ignore[attr-defined]
    words._missing_ = classmethod(_missing_)


def _handle(name: str, context: Any) -> tuple[Any, dict[str, Any]]:
    """What the Trainer's table of handlers calls for one of our names."""
    wanted = read(PREFIX + name, name, native(get(name)), context.optim_args or {})
    cls, settled = pair(wanted, context.args)
    return served(wanted.preset(), cls), settled
