"""Our optimizers in the Trainer, in three ways: as class and keywords, by a subclass of a Trainer, by name.

All three read `TrainingArguments` when the Trainer makes its optimizer, because a hyperparameter search changes them.
`with_optimizer` overrides a method of the Trainer that FSDP calls too, and that trainers have which take no
`optimizer_cls_and_kwargs`. `register` adds names to the enumeration behind `TrainingArguments(optim=...)`, which is
private to transformers: its parts are looked up and checked before anything is changed. The hook of `Trainer` then
answers for these names.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from transformers import Trainer, TrainingArguments

from scirs2_adapters.adapters import torch as adapter
from scirs2_adapters.core import Rule, get, names, with_closure
from scirs2_adapters.core.errors import MissingExtraError, bad_type, bad_value
from scirs2_adapters.core.registry import plain, with_value

from . import deepspeed
from .argument_names import FROM_ARGS, Keywords, OptimizerRequest, offered, request, settle, trainer_obstacle, unknown
from .deepspeed import HOOK, Hook, Optimizer, chosen_by
from .optim_args import pairs, reading
from .state import Params
from .targets import check_targets

PREFIX = "scirs2_"
#: transformers' enumeration behind `TrainingArguments(optim=...)`, of which `register` changes private parts.
NameEnum: TypeAlias = Any
ClassAndKeywords = tuple[type[Optimizer], Keywords]


def optim(name: str | Rule, args: TrainingArguments, **hyper: Any) -> ClassAndKeywords:
    """The pair that `Trainer(optimizer_cls_and_kwargs=...)` takes, in a fresh dict.

    The learning rate and the weight decay are those of `args`, and for Adam and AdamW the betas and epsilon too, as
    they are when the Trainer makes its optimizer; `hyper` holds all others, in torch's words, with `state_dtype`,
    `rounding`, `kernel` and `match`. `name` may also be a rule, such as `scirs2_adapters.core.AdamW(eps=1e-6)`.

    Example:
        Trainer(model, args, train_dataset=data, optimizer_cls_and_kwargs=optim("lion", args))
    """
    wanted = request("optim", name, hyper)
    cls, keywords = pair(wanted, args)
    at_first = dict(keywords)

    def build(params: Params, passed: Keywords) -> Optimizer:
        """With the arguments of now, and what the user has changed in the dict since."""
        trainer, model = deepspeed.calling_trainer()
        changed = {k: v for k, v in passed.items() if k not in at_first or not _unchanged(v, at_first[k])}
        now, request_now = _arguments(wanted, args, trainer), wanted.with_keywords(changed)
        _, settled = pair(request_now, now)
        if trainer is not None and (trainer.optimizer_cls_and_kwargs or [None])[0] is built_cls:
            chosen = chosen_by(getattr(trainer, HOOK), trainer.args, model)
            params = [params, *chosen.values()][-1]
        return deepspeed.complete(with_optim_args(request_now, now), cls, params, settled)

    built_cls = deepspeed.built_by(cls, build)
    return built_cls, keywords


def _unchanged(a: object, b: object) -> bool:
    return a is b or (not isinstance(a, torch.Tensor) and type(a) is type(b) and bool(a == b))


def _arguments(wanted: OptimizerRequest, args: TrainingArguments, trainer: Trainer | None) -> TrainingArguments:
    """The arguments of the Trainer. Other arguments must agree with them until a search changes the Trainer's."""
    if trainer is None or trainer.args is args:
        return args
    for word in wanted.words_of_args().values() if trainer.hp_search_backend is None else ():
        value, of_trainer = getattr(args, word), getattr(trainer.args, word)
        if value != of_trainer:
            worded = f"must be the arguments of the Trainer, whose `{word}` is {of_trainer!r}"
            way_out = "Or use `with_optimizer`, which takes none."
            raise bad_value(wanted.call, "args", worded, f"{word}={value!r}", way_out)
    return trainer.args


def pair(wanted: OptimizerRequest, args: TrainingArguments) -> ClassAndKeywords:
    """The class and all keywords, or the error that the user should see before training begins."""
    if not isinstance(args, TrainingArguments):
        raise bad_type(wanted.call, "args", "must be the `TrainingArguments` of the run", args)
    if wanted.named.targets:
        check_targets(args)
    deepspeed.refuse_replacement(wanted.call, args)
    settled = settle(with_optim_args(wanted, args), args)
    deepspeed.refuse_flat(wanted.call, args, try_out(wanted, settled))
    return torch_class(wanted.rule), settled


def with_optim_args(wanted: OptimizerRequest, args: TrainingArguments) -> OptimizerRequest:
    """The request with what `optim_args` says where the user has said nothing."""
    return reading(wanted, torch_class(wanted.rule), pairs(args.optim_args))


def torch_class(rule: type[Rule]) -> type[Optimizer]:
    """The torch adapter's class of this optimizer."""
    return getattr(adapter, rule.__name__)


def try_out(wanted: OptimizerRequest, keywords: Keywords) -> Optimizer:
    """Build the optimizer over an empty tensor, so that a bad value is refused now and not when training starts."""
    dtype = torch.float32 if keywords.get("rounding", "nearest") == "nearest" else torch.bfloat16
    return torch_class(wanted.rule)([torch.empty(0, dtype=dtype)], **keywords)


def with_optimizer(trainer: type, name: str | Rule, **hyper: Any) -> type:
    """A subclass of a Trainer class that trains with this optimizer, whatever `TrainingArguments(optim=...)` says.

    An optimizer that is passed to the Trainer, by `optimizers=` or `optimizer_cls_and_kwargs=`, is kept.

    Example:
        trainer = with_optimizer(Trainer, "lion", betas=(0.95, 0.98))(model, args, train_dataset=data)
    """
    if not (isinstance(trainer, type) and issubclass(trainer, Trainer)):
        raise bad_type("with_optimizer", "trainer", "must be `transformers.Trainer` or a subclass of it", trainer)
    wanted = request("with_optimizer", name, hyper)
    keywords = {**wanted.named.keywords, **wanted.keywords}
    try_out(wanted, {k: v for k, v in keywords.items() if k not in ("lr", *FROM_ARGS)})
    members = {
        HOOK: _hook(trainer, wanted),
        "create_optimizer": _checked(trainer, torch_class(wanted.rule)),
        "__doc__": trainer.__doc__,
        "__module__": trainer.__module__,
        "__qualname__": trainer.__qualname__,
    }
    return types.new_class(trainer.__name__, (trainer,), exec_body=lambda namespace: namespace.update(members))


def _hook(trainer: type[Trainer], wanted: OptimizerRequest) -> Hook | staticmethod:
    """The overriding hook. It is static where the base's is, and takes the parameters that the base's chooses."""

    def answer(hook: Hook, args: TrainingArguments, model: torch.nn.Module | None) -> ClassAndKeywords:
        cls, settled = pair(wanted, args)
        return deepspeed.completing(with_optim_args(wanted, args), cls), settled | chosen_by(hook, args, model)

    @functools.wraps(getattr(trainer, HOOK))
    def static(args: TrainingArguments, model: torch.nn.Module | None = None) -> ClassAndKeywords:
        return answer(getattr(trainer, HOOK), args, model)

    @functools.wraps(getattr(trainer, HOOK))
    def method(self: Trainer, args: TrainingArguments, model: torch.nn.Module | None = None) -> ClassAndKeywords:
        return answer(functools.partial(getattr(trainer, HOOK), self), args, model)

    return staticmethod(static) if isinstance(inspect.getattr_static(trainer, HOOK), staticmethod) else method


def _checked(trainer: type[Trainer], cls: type[Optimizer]) -> Callable[..., Optimizer]:
    """`create_optimizer` that refuses a base whose `create_optimizer` makes another optimizer."""

    @functools.wraps(trainer.create_optimizer)
    def create_optimizer(self: Trainer, *args: object, **keywords: object) -> Optimizer:
        given_by_user = self.optimizer is not None or self.optimizer_cls_and_kwargs is not None
        optimizer: Optimizer = trainer.create_optimizer(self, *args, **keywords)
        if not given_by_user and not _has(self.optimizer, cls):
            other, self.optimizer = self.optimizer, None
            worded = (
                f"must be a Trainer that makes the optimizer it is asked for; `{trainer.__name__}.create_optimizer`"
                f" makes its own, where {cls.__name__} is asked for"
            )
            way_out = f"Call `super().create_optimizer()` there, or override `{HOOK}` instead."
            raise bad_value("with_optimizer", "trainer", worded, type(other).__name__, way_out)
        return optimizer

    return create_optimizer


def _has(optimizer: object, cls: type[Optimizer]) -> bool:
    """Whether this is an optimizer of the class, or a wrapper of one or of several."""
    candidates = [optimizer]
    for value in getattr(optimizer, "__dict__", {}).values():
        candidates += value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(candidate, cls) for candidate in candidates)


def register() -> None:
    """Make every optimizer available as `TrainingArguments(optim="scirs2_<name>")`, from Python, JSON or a shell.

    Hyperparameters go into `optim_args="betas=(0.95,0.98)"`. It can be called again, and must be called in each
    process before its arguments are read.
    """
    enumeration = _enumeration()
    for name in offered():
        if PREFIX + name not in enumeration._value2member_map_:
            _add_member(enumeration, PREFIX + name)
    _explain_missing(enumeration)
    _answer_for_ours()


def _enumeration() -> NameEnum:
    """The enumeration of names, or an error that tells the other ways."""
    try:
        from transformers.training_args import OptimizerNames

        parts = [getattr(OptimizerNames, f"_{part}_") for part in ("member_map", "value2member_map", "member_names")]
        if [type(part) for part in parts] != [dict, dict, list]:
            raise TypeError("another type")
    except (ImportError, AttributeError, TypeError) as error:
        import transformers

        raise MissingExtraError(
            f"`register()` changes parts of transformers that are not as expected in version {transformers.__version__}"
            f" ({error}). Use `Trainer(optimizer_cls_and_kwargs=optim(name, args))` or `with_optimizer(Trainer, name)`."
        ) from error
    return OptimizerNames


def _add_member(enumeration: NameEnum, word: str) -> None:
    """Add a member to an enumeration, as its class statement would have made it."""
    key = word.upper()
    member = str.__new__(enumeration, word)
    member._name_, member._value_, member.__objclass__ = key, word, enumeration
    member._sort_order_ = len(enumeration._member_names_)
    enumeration._member_names_.append(key)
    enumeration._member_map_[key] = enumeration._value2member_map_[word] = member
    type.__setattr__(enumeration, key, member)


def _explain_missing(enumeration: NameEnum) -> None:
    """For an unknown name that begins as ours do, raise an error of ours; for others leave the enumeration's."""
    original = enumeration._missing_.__func__
    if getattr(original, "explains", False):
        return

    def _missing_(cls: NameEnum, value: object) -> object:
        if not (isinstance(value, str) and value.startswith(PREFIX)):
            return original(cls, value)
        name = value.removeprefix(PREFIX)
        if known := [n for n in offered() if plain(n) == plain(name)]:
            return cls(PREFIX + known[0])
        if plain(name) in (*names(), *with_closure(), *with_value()):
            raise bad_value("TrainingArguments", "optim", trainer_obstacle(get(name)), value)
        raise unknown("TrainingArguments", "optim", name, PREFIX)

    _missing_.explains = True  # type: ignore[attr-defined]
    enumeration._missing_ = classmethod(_missing_)


def _answer_for_ours() -> None:
    """Answer for our names in the hook of `Trainer`; that of transformers parts `optim_args` at every comma first."""
    theirs = getattr(Trainer, HOOK)
    if getattr(theirs, "answers", False):
        return

    @functools.wraps(theirs)
    def answer(args: TrainingArguments, model: torch.nn.Module | None = None) -> ClassAndKeywords:
        name = str.__str__(args.optim)  # of a member of the enumeration too
        if not name.startswith(PREFIX):
            return theirs(args, model)
        wanted = request(name, name.removeprefix(PREFIX), {})
        cls, settled = pair(wanted, args)
        return deepspeed.completing(with_optim_args(wanted, args), cls), settled

    answer.answers = True  # type: ignore[attr-defined]
    setattr(Trainer, HOOK, staticmethod(answer))
