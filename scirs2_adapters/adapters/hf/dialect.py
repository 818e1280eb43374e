"""The Trainer's words: torch's for hyperparameters, and `TrainingArguments` for what every run has.

Three things are stated here as data: which values come from the arguments of a run, which of them the Trainer writes
into every parameter group, and how `optim_args` is read. That string is flat, `k=v,k=v`, and cannot hold a tuple, so
there the members of torch's tuples go by their own names: `beta1=0.9,beta2=0.99` for `betas`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from scirs2_adapters.adapters.torch.dialect import TORCH
from scirs2_adapters.core import Rule, get
from scirs2_adapters.core.errors import ArgumentTypeError, bad_type, bad_value, did_you_mean
from scirs2_adapters.core.fields import Field

#: Core word -> the field of `TrainingArguments` that holds it, for every optimizer. The Trainer writes both into the
#: groups or the schedule, where a keyword of the same name would be hidden without a word.
FROM_ARGS = {"learning_rate": "learning_rate", "weight_decay": "weight_decay"}

#: The same for one optimizer, as the Trainer's own `optim="adamw_torch"` has it; all others keep their own defaults.
_ADAM = {"beta1": "adam_beta1", "beta2": "adam_beta2", "eps": "adam_epsilon"}
FROM_ARGS_OF = {"adam": _ADAM, "adamw": _ADAM}

_CONSTANTS = {"true": True, "false": False, "none": None}


def from_args(rule: type[Rule], fields: Mapping[str, Field], args: Any) -> dict[str, Any]:
    """Core values that the arguments of a run set, checked under the names they have there."""
    words = FROM_ARGS | FROM_ARGS_OF.get(rule.name, {})
    return {core: fields[core].check("TrainingArguments", word, getattr(args, word)) for core, word in words.items()}


def settle(call: str, rule: type[Rule], hyper: Mapping[str, Any], args: Any) -> dict[str, Any]:
    """All keywords for the optimizer: from the run's arguments, then the user's own, which never hide one another."""
    fields = rule.fields_with(hyper.get("base"))
    values = from_args(rule, fields, args)
    for core, argument in FROM_ARGS.items():
        word = TORCH.spell(core, fields)
        if word in hyper and not _same(hyper[word], values[core]):
            raise bad_value(
                call,
                word,
                f"must be left to `args.{argument}`, {values[core]!r} here, which the Trainer puts in its place",
                hyper[word],
                f"Use `TrainingArguments({argument}={hyper[word]!r})`.",
            )
    return TORCH.to_host(values, fields) | dict(hyper)


def _same(a: Any, b: Any) -> bool:
    try:
        return math.isclose(a, b, rel_tol=0.0, abs_tol=0.0)
    except TypeError:
        return False


def read(call: str, rule: type[Rule], native: type, text: Mapping[str, str], args: Any) -> dict[str, Any]:
    """The hyperparameters in `optim_args`, from its pairs of strings, under torch's words."""
    fields = rule.fields_with(get(text["base"]) if "base" in text else None)
    words = {(host if place is None else core): core for core, host, place in TORCH.places(fields)}
    options = set(inspect.signature(native).parameters) - set(TORCH.parameters(fields)) - {"params"}
    core, hyper = dict[str, Any](), dict[str, Any]()
    for word, value in text.items():
        if word in words:
            field = fields[words[word]]
            core[words[word]] = field.check(call, word, _value(call, word, field, value))
        elif word in options:
            hyper[word] = _CONSTANTS.get(value.lower(), value)
        else:
            raise _unknown(call, word, [*words, *options])
    return hyper | TORCH.to_host(_whole(core, rule, fields, hyper, args), fields)


def _whole(
    core: dict[str, Any], rule: type[Rule], fields: Mapping[str, Field], hyper: Mapping[str, Any], args: Any
) -> dict[str, Any]:
    """The values with the missing members of a tuple added, since torch takes a tuple whole."""
    base = {"base": hyper["base"]} if "base" in hyper else {}
    preset = rule.build(base, match=hyper.get("match"))
    settled = {k: getattr(preset, k) for k in fields} | from_args(rule, fields, args)
    for members in TORCH.tuples.values():
        if any(m in core for m in members) and all(m in fields for m in members):
            core = {m: settled[m] for m in members} | core
    return core


def _value(call: str, word: str, field: Field, text: str) -> Any:
    """The text as the field's own kind of value; what is no such value is refused by name."""
    if isinstance(field.kind, tuple):
        raise bad_value(call, word, "cannot be a string of `optim_args`", text, "Use `with_optimizer`.")
    if field.kind is str or (field.optional and text.lower() == "none"):
        return None if field.optional and text.lower() == "none" else text
    if field.kind is bool:
        return _CONSTANTS.get(text.lower(), text)
    try:
        return field.kind(text)
    except ValueError:
        raise bad_type(
            call, word, field.requirement, text, "It stands in `TrainingArguments(optim_args=...)`."
        ) from None


def _unknown(call: str, word: str, known: list[str]) -> ArgumentTypeError:
    """The error for a word that is none of the optimizer's; a tuple's name is answered with its members."""
    if word in TORCH.tuples:
        pairs = ",".join(f"{m}=..." for m in TORCH.tuples[word])
        return ArgumentTypeError(f"`{call}` reads a flat `optim_args`, which cannot hold `{word}`. Use `{pairs}`.")
    return ArgumentTypeError(
        f"`{call}` has no argument `{word}` for `optim_args`.{did_you_mean(word, known)} It takes: {', '.join(known)}."
    )
