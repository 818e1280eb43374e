"""How `TrainingArguments(optim_args=...)` is read.

The string is flat, `k=v,k=v`. A comma parts two pairs where `word=` follows, so that tuples and patterns may have
commas. A tuple is written `betas=(0.9,0.99)` or `betas=[0.9,0.99]`, or as its members under the core's names,
`beta1=0.9,beta2=0.99`; `lr_by` and `weight_decay_by` have `pattern:number;pattern:number`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import replace

from scirs2_adapters.adapters.torch.argument_names import TORCH
from scirs2_adapters.adapters.torch.grouping import LayerDecay
from scirs2_adapters.core.errors import ArgumentValueError, bad_type, bad_value
from scirs2_adapters.core.fields import Field, is_number
from scirs2_adapters.core.synonyms import unknown_argument

from .argument_names import BY_NAME, FROM_ARGS, Keywords, OptimizerRequest, request
from .presets import boolean

_PAIRS = re.compile(r",(?=\w+=)(?![^()]*\))")
_PATTERNS = re.compile(r";(?![^()]*\))")
_LAYER_DECAY = re.compile(r"LayerDecay\((?:factor=)?([^,;]+)(?:[,;](?:lr=)?([^,;]+))?\)")


def reading(request: OptimizerRequest, cls: type, text: Mapping[str, str]) -> OptimizerRequest:
    """The request with the pairs of strings in `optim_args`, under torch's names. What it has already wins."""
    call, rule, preset = request.call, request.rule, request.named
    fields = rule.fields_with(request.keywords.get("base", text.get("base")))
    places = {(word if place is None else core): core for core, word, place in TORCH.places(fields)}
    names = {core: core for core in FROM_ARGS} | places
    tuples = TORCH.tuples_of(fields)
    options = set(inspect.signature(cls).parameters) - set(TORCH.parameters(fields)) - {"params", "base_hyper"}
    values: dict[str, object] = {}
    keywords: Keywords = {}
    for word, value in text.items():
        if word in names or word in tuples:
            for place, part in _parts(call, word, value, tuples).items():
                core = names.get(place, place)
                if core in values:
                    raise _twice(core, ",".join(f"{w}={v}" for w, v in text.items()))
                values[core] = fields[core].check(call, word, _value(call, word, fields[core], part))
        elif word in BY_NAME:
            keywords[word] = _by_pattern(call, word, value)
        elif word in preset.words:
            keywords |= preset.words[word](value, {**preset.keywords, **keywords})
        elif word in options:
            keywords[word] = _option(value)
        else:
            spelled = {core: word for word, core in names.items()} | {word: word for word in (*options, *BY_NAME)}
            raise unknown_argument(call, word, rule.name, spelled, spelled.values(), " for `optim_args`")
    stated = {TORCH.spell(core, fields): values.pop(core) for core in FROM_ARGS if core in values}
    plain = replace(request, values=values | dict(request.values), keywords={}, patterns={})
    read = plain.with_keywords(keywords | stated | request.keywords)
    return replace(read, patterns={**read.patterns, **request.patterns})


def read(call: str, name: str, cls: type, text: Mapping[str, str]) -> OptimizerRequest:
    """The request in a name and the pairs of strings in `optim_args`."""
    return reading(request(call, name, {}), cls, text)


def pairs(text: object) -> dict[str, str]:
    """The pairs in `optim_args`."""
    if not isinstance(text, str | None):
        raise bad_type("TrainingArguments", "optim_args", "must be a string of pairs, `word=value,word=value`", text)
    values: dict[str, str] = {}
    for pair in _PAIRS.split(text.replace(" ", "")) if text else ():
        word, equals, value = pair.partition("=")
        if not (word and equals):
            raise bad_value("TrainingArguments", "optim_args", "must be pairs, `word=value,word=value`", pair)
        if word in values:
            raise _twice(word, text)
        values[word] = value
    return values


def _twice(word: str, text: object) -> ArgumentValueError:
    """The error for a word that is written twice, or once by itself and once in a tuple."""
    return bad_value("TrainingArguments", "optim_args", f"must have one value of {word}", text)


def _parts(call: str, word: str, text: str, tuples: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """The text of each value in a pair: of one, or of the members of a tuple."""
    if word not in tuples:
        return {word: text}
    parts = re.split("[,;]", text.strip("()[]"))
    if len(parts) != len(tuples[word]):
        members = ",".join(f"{m}=..." for m in tuples[word])
        worded = f"must be `({','.join(['...'] * len(tuples[word]))})` in `optim_args`, or `{members}` in its place"
        raise bad_value(call, word, worded, text)
    return dict(zip(tuples[word], parts, strict=True))


def _by_pattern(call: str, word: str, text: str) -> dict[str, object]:
    """Values by pattern, of a text such as `embed.*:1e-4;layers.(\\d+):LayerDecay(0.9)`."""
    values: dict[str, object] = {}
    for pair in _PATTERNS.split(text):
        pattern, _, value = pair.rpartition(":")
        decay = _LAYER_DECAY.fullmatch(value)
        numbers = [_option(part) for part in (decay.groups() if decay else (value,)) if part is not None]
        if not pattern or not all(is_number(number) for number in numbers):
            worded = "must be `pattern:number;pattern:number` in `optim_args`"
            ways = r"A number may be a `LayerDecay(0.9)` after `layers.(\d+)`." if word == "lr_by" else ""
            raise bad_value(call, word, worded, pair, ways)
        if pattern in values:
            raise bad_value(call, word, "must have each pattern once", pattern)
        values[pattern] = LayerDecay(*numbers) if decay else numbers[0]  # type: ignore[arg-type]  # numbers, see above
    return values


def _option(text: str) -> bool | float | str | None:
    """An option's value: a number, a constant, or the text itself."""
    try:
        return float(text)
    except ValueError:
        value = boolean(text)
        return (None if text.lower() == "none" else text) if value is None else value


def _value(call: str, word: str, field: Field, text: str) -> object:
    """The text as a value of the field's type; a text that is no such value is refused."""
    if isinstance(field.kind, tuple):
        raise bad_value(call, word, "cannot be a string of `optim_args`", text, "Use `with_optimizer`.")
    if field.kind is str or (field.optional and text.lower() == "none"):
        return None if field.optional and text.lower() == "none" else text
    if field.kind is bool:
        return text if (value := boolean(text)) is None else value
    try:
        return field.kind(text)
    except ValueError:
        way_out = "It stands in `TrainingArguments(optim_args=...)`."
        raise bad_type(call, word, field.worded, text, way_out) from None
