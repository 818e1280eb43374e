"""The Trainer's words: torch's for hyperparameters, and `TrainingArguments` for what every run has.

Three things are stated here as data: which values come from the arguments of a run, which of them the Trainer writes
into every parameter group, and how `optim_args` is read. That string is flat, `k=v,k=v`, and cannot hold a tuple, so
there the members of torch's tuples go by their own names: `beta1=0.9,beta2=0.99` for `betas`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from scirs2_adapters.adapters.torch.argument_names import TORCH
from scirs2_adapters.core import Rule, get, names
from scirs2_adapters.core.errors import ArgumentTypeError, bad_type, bad_value
from scirs2_adapters.core.fields import Field
from scirs2_adapters.core.registry import is_listed
from scirs2_adapters.core.synonyms import unknown_argument

#: Core word -> the field of `TrainingArguments` that holds it, for every optimizer. The Trainer writes both into the
#: groups or the schedule, where a keyword of the same name would be hidden without a word.
FROM_ARGS = {"learning_rate": "learning_rate", "weight_decay": "weight_decay"}

#: The same for one optimizer, as the Trainer's own `optim="adamw_torch"` has it; all others keep their own defaults.
_ADAM = {"beta1": "adam_beta1", "beta2": "adam_beta2", "eps": "adam_epsilon"}
FROM_ARGS_OF = {"adam": _ADAM, "adamw": _ADAM}

_CONSTANTS = {"true": True, "false": False, "none": None}


@dataclass(frozen=True)
class Asked:
    """What a user asked for: `core` are values in the core's words, `hyper` keywords in torch's, which come first."""

    call: str
    rule: type[Rule]
    core: Mapping[str, Any]
    hyper: Mapping[str, Any]
    #: The rule that was given in place of a name.
    given: Rule | None = None

    def fields(self) -> dict[str, Field]:
        return self.rule.fields_with(self.hyper.get("base"))

    def preset(self) -> Rule:
        """The optimizer with nothing but its defaults."""
        base = {"base": self.hyper["base"]} if "base" in self.hyper else {}
        return self.rule.build(base, match=self.hyper.get("match"), call=self.call)

    def with_keywords(self, hyper: Mapping[str, Any]) -> Asked:
        return replace(self, hyper={**self.hyper, **hyper})


def asked(call: str, optimizer: Any, hyper: Mapping[str, Any]) -> Asked:
    """What is asked for by the name of an optimizer or by a rule; what cannot train in a Trainer is refused.

    Of a rule those values count that are not its defaults: a default cannot be told from a value that was not given.
    """
    if not isinstance(optimizer, Rule):
        return Asked(call, _named(call, optimizer), {}, hyper)
    rule = type(optimizer)
    _refuse(call, rule)
    if not is_listed(rule):  # type: ignore[arg-type]  # classes are hashable
        worded = f"must be an optimizer with a name ({', '.join(names())})"
        raise bad_value(call, "name", worded, optimizer, "Offer it by an entry point `scirs2.optimizers`.")
    keywords = {"base": optimizer.base} if hasattr(optimizer, "base") else {"match": optimizer.match}
    found = Asked(call, rule, {}, {k: v for k, v in keywords.items() if v is not None}, optimizer)
    preset = found.preset()
    changed = {k: getattr(optimizer, k) for k in rule.fields if getattr(optimizer, k) != getattr(preset, k)}
    return replace(found, core={k: v for k, v in changed.items() if k not in FROM_ARGS}).with_keywords(hyper)


def _named(call: str, name: Any) -> type[Rule]:
    if not isinstance(name, str):
        known = str(getattr(name, "__name__", type(name).__name__)).casefold()
        way_out = f'Write `"{known}"`.' if known in names() else ""
        raise bad_type(call, "name", "must be the name of an optimizer, or a rule such as AdamW()", name, way_out)
    rule = get(name)
    _refuse(call, rule)
    return rule


def _refuse(call: str, rule: type[Rule]) -> None:
    if reason := trainer_obstacle(rule):
        way_out = f"Train with scirs2_adapters.torch.{rule.__name__} in a loop."
        raise bad_value(call, "name", reason, rule.name, way_out)


def trainer_obstacle(rule: type[Rule]) -> str:
    """Why a Trainer can never step by this optimizer; empty where it can."""
    if rule.needs_closure:
        return "must be an optimizer that needs no closure, for the Trainer gives none"
    if rule.sparse == "rows":
        return "must be an optimizer that takes dense gradients, as the models of a Trainer have them"
    return ""


def offered() -> list[str]:
    """The names of the optimizers that a Trainer can step."""
    return [name for name in names() if not trainer_obstacle(get(name))]


def from_args(rule: type[Rule], fields: Mapping[str, Field], args: Any) -> dict[str, Any]:
    """Core values that the arguments of a run set, checked under the names they have there."""
    return {
        core: fields[core].check("TrainingArguments", word, getattr(args, word))
        for core, word in words_of(rule).items()
    }


def words_of(rule: type[Rule]) -> dict[str, str]:
    """Core word -> the field of `TrainingArguments` that holds it, for this optimizer."""
    return FROM_ARGS | FROM_ARGS_OF.get(rule.name, {})


def settle(asked: Asked, args: Any) -> dict[str, Any]:
    """All keywords for the optimizer: from the run's arguments, then the user's own, which never hide one another."""
    fields = asked.fields()
    values = from_args(asked.rule, fields, args)
    for core, argument in FROM_ARGS.items():
        for call, word, value in _stated(asked, core, fields):
            if not _same(value, values[core]):
                worded = (
                    f"must be left to `args.{argument}`, {values[core]!r} here, which the Trainer puts in its place"
                )
                raise bad_value(call, word, worded, value, f"Use `TrainingArguments({argument}={value!r})`.")
    return TORCH.to_framework(_whole(values | dict(asked.core), asked.preset(), fields), fields) | dict(asked.hyper)


def _stated(asked: Asked, core: str, fields: Mapping[str, Field]) -> Iterator[tuple[str, str, Any]]:
    """Where a user has stated a value that the run's arguments hold: the call, the word, the value."""
    for word in dict.fromkeys((TORCH.spell(core, fields), core)):
        if word in asked.hyper:
            yield asked.call, word, asked.hyper[word]
    for rule in (asked.given, asked.hyper.get("base")):
        inner = getattr(rule, "base", rule)
        if isinstance(inner, Rule):
            value = getattr(inner, core)
            if value != getattr(type(inner).build({}, match=inner.match), core):
                yield type(inner).__name__, core, value


def _same(a: Any, b: Any) -> bool:
    try:
        return math.isclose(a, b, rel_tol=0.0, abs_tol=0.0)
    except TypeError:
        return False


def _whole(core: Mapping[str, Any], preset: Rule, fields: Mapping[str, Field]) -> dict[str, Any]:
    """The values with the missing members of a tuple added, since torch takes a tuple whole."""
    added = {
        member: getattr(preset, member)
        for members in TORCH.tuples.values()
        if core.keys() & set(members) and fields.keys() >= set(members)
        for member in members
    }
    return added | dict(core)


def read(call: str, name: str, native: type, text: Mapping[str, str]) -> Asked:
    """What is asked for by a name and the pairs of strings in `optim_args`, under torch's words."""
    rule = get(name)
    fields = rule.fields_with(get(text["base"]) if "base" in text else None)
    words = {(host if place is None else core): core for core, host, place in TORCH.places(fields)}
    words = {core: core for core in FROM_ARGS} | words
    options = set(inspect.signature(native).parameters) - set(TORCH.parameters(fields)) - {"params", "base_hyper"}
    core, hyper = dict[str, Any](), dict[str, Any]()
    for word, value in text.items():
        if word in words:
            field = fields[words[word]]
            core[words[word]] = field.check(call, word, _value(call, word, field, value))
        elif word in options:
            hyper[word] = _option(value)
        else:
            spelled = {core: word for word, core in words.items()} | {word: word for word in options}
            raise _unknown(call, word, rule, spelled)
    stated = {TORCH.spell(k, fields): core.pop(k) for k in FROM_ARGS if k in core}
    return Asked(call, rule, core, hyper | stated)


def _option(text: str) -> Any:
    """An option's value: a constant, a number, or the text itself."""
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    try:
        return float(text)
    except ValueError:
        return text


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


def _unknown(call: str, word: str, rule: type[Rule], spelled: Mapping[str, str]) -> ArgumentTypeError:
    """The error for a word that is none of the optimizer's; a tuple's name is answered with its members."""
    if word in TORCH.tuples:
        pairs = ",".join(f"{m}=..." for m in TORCH.tuples[word])
        return ArgumentTypeError(f"`{call}` reads a flat `optim_args`, which cannot hold `{word}`. Use `{pairs}`.")
    return unknown_argument(call, word, rule.name, spelled, spelled.values(), " for `optim_args`")
