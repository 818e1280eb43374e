"""How the Trainer spells the core's arguments: as torch does, and some as fields of `TrainingArguments`.

Stated here are which values come from the arguments of a run, which of them the Trainer writes into every parameter
group, and how `optim_args` is read. That string is flat, `k=v,k=v`, and cannot hold a tuple, so it has the members of
torch's tuples under the core's names: `beta1=0.9,beta2=0.99` for `betas`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, SupportsFloat, TypeAlias

from transformers import TrainingArguments

from scirs2_adapters.adapters.torch.argument_names import TORCH
from scirs2_adapters.core import Rule, get, names
from scirs2_adapters.core.errors import ArgumentTypeError, bad_type, bad_value
from scirs2_adapters.core.fields import Field
from scirs2_adapters.core.registry import is_listed
from scirs2_adapters.core.synonyms import unknown_argument

#: Keywords of a torch optimizer, under torch's names.
Keywords: TypeAlias = dict[str, Any]

#: Core name -> the field of `TrainingArguments` that holds it, for every optimizer. The Trainer writes both into the
#: groups or the schedule, where a keyword of the same name would be hidden without a word.
FROM_ARGS = {"learning_rate": "learning_rate", "weight_decay": "weight_decay"}

#: The same for one optimizer, as the Trainer's own `optim="adamw_torch"` has it; all others keep their own defaults.
_ADAM = {"beta1": "adam_beta1", "beta2": "adam_beta2", "eps": "adam_epsilon"}
FROM_ARGS_OF = {"adam": _ADAM, "adamw": _ADAM}

_CONSTANTS = {"true": True, "false": False, "none": None}


@dataclass(frozen=True)
class OptimizerRequest:
    """The optimizer that a user asked for: values under the core's names, and keywords under torch's, which win."""

    call: str
    rule: type[Rule]
    values: Mapping[str, object]
    keywords: Keywords
    #: The rule that stood in place of a name.
    instance: Rule | None = None

    def fields(self) -> dict[str, Field]:
        return self.rule.fields_with(self.keywords.get("base"))

    def preset(self) -> Rule:
        """The optimizer with nothing but its defaults."""
        base = {"base": self.keywords["base"]} if "base" in self.keywords else {}
        return self.rule.build(base, match=self.keywords.get("match"), call=self.call)

    def words_of_args(self) -> dict[str, str]:
        """Core name -> the field of `TrainingArguments` that holds it, for this optimizer."""
        return FROM_ARGS | FROM_ARGS_OF.get(self.rule.name, {})

    def with_keywords(self, keywords: Keywords) -> OptimizerRequest:
        return replace(self, keywords=self.keywords | keywords)


def request(call: str, optimizer: object, keywords: Keywords) -> OptimizerRequest:
    """The request for an optimizer by name or by a rule. What cannot train in a Trainer is refused.

    Of a rule only those values count that are not its defaults: a default cannot be told from a value that was not
    given.
    """
    if not isinstance(optimizer, Rule):
        return OptimizerRequest(call, _named(call, optimizer), {}, keywords)
    rule = type(optimizer)
    _refuse(call, rule)
    if not is_listed(rule):  # type: ignore[arg-type]  # classes are hashable
        worded = f"must be an optimizer with a name ({', '.join(names())})"
        raise bad_value(call, "name", worded, optimizer, "Offer it by an entry point `scirs2.optimizers`.")
    static = {"base": optimizer.base} if hasattr(optimizer, "base") else {"match": optimizer.match}
    plain = OptimizerRequest(call, rule, {}, {k: v for k, v in static.items() if v is not None}, optimizer)
    preset = plain.preset()
    values = {k: getattr(optimizer, k) for k in rule.fields if k not in FROM_ARGS}
    changed = {k: value for k, value in values.items() if value != getattr(preset, k)}
    return replace(plain, values=changed).with_keywords(keywords)


def _named(call: str, name: object) -> type[Rule]:
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


def settle(request: OptimizerRequest, args: TrainingArguments) -> Keywords:
    """All keywords for the optimizer, of the run's arguments and of the user, which must not contradict each other. The
    former are checked under the names they have there.
    """
    fields, values = request.fields(), dict[str, object]()
    for core, word in request.words_of_args().items():
        values[core] = fields[core].check("TrainingArguments", word, getattr(args, word))
    for core, argument in FROM_ARGS.items():
        for call, word, value in _stated(request, core, fields):
            if not _same(value, values[core]):
                left = f"must be left to `args.{argument}`, {values[core]!r} here, which the Trainer puts in its place"
                raise bad_value(call, word, left, value, f"Use `TrainingArguments({argument}={value!r})`.")
    complete = _complete_tuples(values | dict(request.values), request.preset(), fields)
    return TORCH.to_framework(complete, fields) | request.keywords


def _stated(request: OptimizerRequest, core: str, fields: Mapping[str, Field]) -> Iterator[tuple[str, str, object]]:
    """Where a user has stated a value that the run's arguments hold: the call, the argument, the value."""
    for word in dict.fromkeys((TORCH.spell(core, fields), core)):
        if word in request.keywords:
            yield request.call, word, request.keywords[word]
    for rule in (request.instance, request.keywords.get("base")):
        inner = getattr(rule, "base", rule)
        if isinstance(inner, Rule):
            value = getattr(inner, core)
            if value != getattr(type(inner).build({}, match=inner.match), core):
                yield type(inner).__name__, core, value


def _same(a: object, b: object) -> bool:
    """Whether two numbers are equal; False where one is no number."""
    return isinstance(a, SupportsFloat) and isinstance(b, SupportsFloat) and float(a) == float(b)


def _complete_tuples(values: Mapping[str, object], preset: Rule, fields: Mapping[str, Field]) -> dict[str, object]:
    """The values with the missing members of torch's tuples added, since torch takes all members or none."""
    complete = dict(values)
    for members in TORCH.tuples.values():
        if values.keys() & set(members) and fields.keys() >= set(members):
            complete |= {member: getattr(preset, member) for member in members if member not in values}
    return complete


def read(call: str, name: str, cls: type, text: Mapping[str, str]) -> OptimizerRequest:
    """The request in a name and the pairs of strings in `optim_args`, under torch's names."""
    rule = get(name)
    fields = rule.fields_with(get(text["base"]) if "base" in text else None)
    places = {(word if place is None else core): core for core, word, place in TORCH.places(fields)}
    names = {core: core for core in FROM_ARGS} | places
    options = set(inspect.signature(cls).parameters) - set(TORCH.parameters(fields)) - {"params", "base_hyper"}
    values: dict[str, object] = {}
    keywords: Keywords = {}
    for word, value in text.items():
        if word in names:
            field = fields[names[word]]
            values[names[word]] = field.check(call, word, _value(call, word, field, value))
        elif word in options:
            keywords[word] = _option(value)
        else:
            spelled = {core: word for word, core in names.items()} | {word: word for word in options}
            raise _unknown(call, word, rule, spelled)
    stated = {TORCH.spell(core, fields): values.pop(core) for core in FROM_ARGS if core in values}
    return OptimizerRequest(call, rule, values, keywords | stated)


def _option(text: str) -> bool | float | str | None:
    """An option's value: a constant, a number, or the text itself."""
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    try:
        return float(text)
    except ValueError:
        return text


def _value(call: str, word: str, field: Field, text: str) -> object:
    """The text as a value of the field's type; a text that is no such value is refused."""
    if isinstance(field.kind, tuple):
        raise bad_value(call, word, "cannot be a string of `optim_args`", text, "Use `with_optimizer`.")
    if field.kind is str or (field.optional and text.lower() == "none"):
        return None if field.optional and text.lower() == "none" else text
    if field.kind is bool:
        return _CONSTANTS.get(text.lower(), text)
    try:
        return field.kind(text)
    except ValueError:
        way_out = "It stands in `TrainingArguments(optim_args=...)`."
        raise bad_type(call, word, field.requirement, text, way_out) from None


def _unknown(call: str, word: str, rule: type[Rule], spelled: Mapping[str, str]) -> ArgumentTypeError:
    """The error for an argument that the optimizer has not. For a tuple's name it lists the members."""
    if word in TORCH.tuples:
        pairs = ",".join(f"{m}=..." for m in TORCH.tuples[word])
        return ArgumentTypeError(f"`{call}` reads a flat `optim_args`, which cannot hold `{word}`. Use `{pairs}`.")
    return unknown_argument(call, word, rule.name, spelled, spelled.values(), " for `optim_args`")
