"""How the Trainer spells the core's arguments: as torch does, and some as fields of `TrainingArguments`.

Stated here are which values come from the arguments of a run, and which of them the Trainer writes into every parameter
group.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, SupportsFloat, TypeAlias

from transformers import TrainingArguments

from scirs2_adapters.adapters.torch.argument_names import TORCH
from scirs2_adapters.adapters.torch.grouping import ByName, by_name
from scirs2_adapters.core import Rule, get, names, with_closure
from scirs2_adapters.core.errors import ArgumentValueError, bad_type, bad_value
from scirs2_adapters.core.fields import Field
from scirs2_adapters.core.registry import is_listed, plain, with_value
from scirs2_adapters.core.rule import innermost
from scirs2_adapters.core.step.options import refuse_value
from scirs2_adapters.core.synonyms import similar_name

from .presets import ADAM, WORDS_OF, Preset, served, unserved

#: Keywords of a torch optimizer, under torch's names.
Keywords: TypeAlias = dict[str, Any]

#: Core name -> the field of `TrainingArguments` that holds it, for every optimizer. The Trainer writes both into the
#: groups or the schedule, where a keyword of the same name would be hidden without a word.
FROM_ARGS = {"learning_rate": "learning_rate", "weight_decay": "weight_decay"}

#: The same for one optimizer, as the Trainer's `optim="adamw_torch"` has it; all others keep their defaults.
FROM_ARGS_OF = {"adam": ADAM, "adamw": ADAM, "ademamix": ADAM}

#: Arguments with a value for each pattern of parameter names -> the key of a group that has it.
BY_NAME = {"lr_by": "lr", "weight_decay_by": "weight_decay"}


@dataclass(frozen=True)
class OptimizerRequest:
    """The optimizer that a user asked for: values under the core's names, and keywords under torch's, which win."""

    call: str
    rule: type[Rule]
    #: What its name says besides.
    named: Preset
    values: Mapping[str, object] = field(default_factory=dict)
    keywords: Keywords = field(default_factory=dict)
    #: The rule that stood in place of a name.
    instance: Rule | None = None
    #: Values by patterns of parameter names.
    patterns: Mapping[str, ByName] = field(default_factory=dict)

    @property
    def by_names(self) -> bool:
        """Whether the names of parameters say in which group each is."""
        return bool(self.patterns) or self.named.targets

    def fields(self) -> dict[str, Field]:
        return self.rule.fields_with(self.keywords.get("base"))

    def preset(self) -> Rule:
        """The optimizer with nothing but its defaults."""
        base = {"base": self.keywords["base"]} if "base" in self.keywords else {}
        rule = self.rule.build(base, match=self.keywords.get("match"), call=self.call)
        refuse_value(self.call, rule, "the Trainer")
        return rule

    def words_of_args(self) -> dict[str, str]:
        """Core name -> the field of `TrainingArguments` that holds it, for this optimizer."""
        return FROM_ARGS | dict(self.named.from_args)

    def with_keywords(self, keywords: Keywords) -> OptimizerRequest:
        """With these too. Values by pattern are checked and kept apart."""
        words = [k for k in BY_NAME if keywords.get(k) is not None]
        patterns = {k: by for k in words if (by := by_name(self.call, k, BY_NAME[k], keywords[k])).choices}
        others = {k: v for k, v in keywords.items() if k not in BY_NAME}
        return replace(self, keywords=self.keywords | others, patterns={**self.patterns, **patterns})


def request(call: str, optimizer: object, keywords: Keywords) -> OptimizerRequest:
    """The request for an optimizer by name or by a rule. What cannot train in a Trainer is refused.

    Only those values of a rule count that are not its defaults: a default cannot be told from a value that was not set.
    """
    if not isinstance(optimizer, Rule):
        known = preset_of(optimizer) if isinstance(optimizer, str) else None
        rule = _named(call, optimizer if known is None else known.rule)
        return OptimizerRequest(call, rule, known or _only(rule)).with_keywords(keywords)
    rule = type(optimizer)
    _refuse(call, rule)
    if not is_listed(rule):  # type: ignore[arg-type]  # classes are hashable
        worded = f"must be an optimizer with a name ({', '.join(names())})"
        raise bad_value(call, "name", worded, optimizer, "Offer it by an entry point `scirs2.optimizers`.")
    static = {"base": optimizer.base} if hasattr(optimizer, "base") else {"match": optimizer.match}
    keywords_of_rule = {k: v for k, v in static.items() if v is not None}
    plain = OptimizerRequest(call, rule, _only(rule), {}, keywords_of_rule, optimizer)
    preset = plain.preset()
    values = {k: getattr(optimizer, k) for k in rule.fields if k not in FROM_ARGS}
    changed = {k: value for k, value in values.items() if value != getattr(preset, k)}
    return replace(plain, values=changed).with_keywords(keywords)


def _only(rule: type[Rule]) -> Preset:
    """What the name of a rule stands for: the rule, with the fields and words that transformers has for this name."""
    return Preset(rule.name, {}, FROM_ARGS_OF.get(rule.name, {}), WORDS_OF.get(rule.name, {}))


def preset_of(name: str) -> Preset | None:
    """What a name of transformers stands for, written with or without `_` and `-` as the names of rules are."""
    return next((preset for known, preset in served().items() if plain(known) == plain(name)), None)


def _named(call: str, name: object) -> type[Rule]:
    if not isinstance(name, str):
        known = str(getattr(name, "__name__", type(name).__name__)).casefold()
        way_out = f'Write `"{known}"`.' if known in names() else ""
        raise bad_type(call, "name", "must be the name of an optimizer, or a rule such as AdamW()", name, way_out)
    if plain(name) not in {*names(), *with_closure(), *with_value()}:
        raise unknown(call, "name", str.__str__(name))
    rule = get(name)
    _refuse(call, rule)
    return rule


def unknown(call: str, argument: str, name: str, prefix: str = "") -> ArgumentValueError:
    """The error for a name, typed after the prefix, that no optimizer has: who has it, or what may be meant."""
    if error := unserved(call, argument, name.casefold(), prefix + name):
        return error
    close = difflib.get_close_matches(name.casefold(), offered(), n=1, cutoff=0.85)
    hint = f" Did you mean `{close[0]}`?" if close else similar_name(name, offered())
    listed = hint.replace("`", f"`{prefix}", 1) or f"There are: {', '.join(prefix + n for n in offered())}."
    return bad_value(call, argument, "must be the name of an optimizer", prefix + name, listed)


def _refuse(call: str, rule: type[Rule]) -> None:
    if reason := trainer_obstacle(rule):
        way_out = f"Train with scirs2_adapters.torch.{rule.__name__} in a loop."
        raise bad_value(call, "name", reason, rule.name, way_out)


def trainer_obstacle(rule: type[Rule]) -> str:
    """Why a Trainer can never step by this optimizer; empty where it can."""
    if rule.needs_closure:
        return "must be an optimizer that needs no closure, for the Trainer gives none"
    if rule.needs_value:
        return "must be an optimizer whose step does not depend on the loss, which the Trainer does not hand to it"
    if rule.sparse == "rows":
        return "must be an optimizer that takes dense gradients, as the models of a Trainer have them"
    return ""


def offered() -> list[str]:
    """The names of the optimizers that a Trainer can step; those of transformers that they serve come last."""
    return [name for name in names() if not trainer_obstacle(get(name))] + list(served())


def settle(request: OptimizerRequest, args: TrainingArguments) -> Keywords:
    """All keywords for the optimizer, of the run's arguments and of the user, which must not contradict each other. The
    former are checked under the names they have there.
    """
    fields, values = request.fields(), dict[str, object]()
    for core, word in request.words_of_args().items():
        values[core] = fields[core].check("TrainingArguments", word, _of_args(args, word))
    for core, argument in FROM_ARGS.items():
        for call, word, value in _stated(request, core, fields):
            if not _same(value, values[core]):
                left = f"must be left to `args.{argument}`, {values[core]!r} here, which the Trainer puts in its place"
                raise bad_value(call, word, left, value, f"Use `TrainingArguments({argument}={value!r})`.")
    # The decay of Muon's AdamW part follows that of its group, which the Trainer splits, unless the user states one.
    following = {k: None for k, field in fields.items() if k.endswith("weight_decay") and field.optional}
    stated = {**values, **request.named.values, **request.values}
    complete = _complete_tuples(following | stated, request.preset(), fields)
    return TORCH.to_framework(complete, fields) | dict(request.named.keywords) | request.keywords


def _of_args(args: TrainingArguments, word: str) -> object:
    """A value of the run's arguments; warm-up is counted in steps, whatever the arguments count it in."""
    value = getattr(args, word)
    if word != "warmup_steps" or value >= 1:
        return int(value) if word == "warmup_steps" else value
    if value > 0 and args.max_steps <= 0:
        worded = "must be a number of steps if `max_steps` is not given, for the optimizer makes its own warm-up"
        raise bad_value("TrainingArguments", word, worded, value)
    return args.get_warmup_steps(max(args.max_steps, 0))


def _stated(request: OptimizerRequest, core: str, fields: Mapping[str, Field]) -> Iterator[tuple[str, str, object]]:
    """Where a user has stated a value that the run's arguments hold: the call, the argument, the value."""
    for word in dict.fromkeys((TORCH.spell(core, fields), core)):
        if word in request.keywords:
            yield request.call, word, request.keywords[word]
    for rule in (request.instance, request.keywords.get("base")):
        if isinstance(rule, Rule):
            inner = innermost(rule)
            value = getattr(inner, core)
            if value != getattr(type(inner).build({}, match=inner.match), core):
                yield type(inner).__name__, core, value


def _same(a: object, b: object) -> bool:
    """Whether two numbers are equal; False where one is no number."""
    return isinstance(a, SupportsFloat) and isinstance(b, SupportsFloat) and float(a) == float(b)


def _complete_tuples(values: Mapping[str, object], preset: Rule, fields: Mapping[str, Field]) -> dict[str, object]:
    """The values with the missing members of torch's tuples added, since torch takes all members or none."""
    complete = dict(values)
    for members in TORCH.tuples_of(fields).values():
        if values.keys() & set(members):
            complete |= {member: getattr(preset, member) for member in members if member not in values}
    return complete
