"""Parameter groups by patterns of parameter names, each with another learning rate or weight decay.

A pattern is a regular expression that is searched for in a name (`re.search`). The first pattern that matches decides,
in the order of the argument.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from scirs2_adapters.core.errors import bad_type, bad_value
from scirs2_adapters.core.fields import is_number, nonnegative

from .argument_names import LISTS
from .state.protocols import Group
from .state.tensors import bare

NUMBER = nonnegative(0.0, "learning rate or weight decay of a group")
#: The name in a group of parameters that no pattern matches.
OTHERS = "others"
#: For each parameter that a pattern matches, the name of its group and its value.
Assigned: TypeAlias = dict[str, tuple[str, float]]


@dataclass(frozen=True)
class LayerDecay:
    """Learning rates that fall from the last layer to the first: lr * factor ** (last - layer).

    It is a value of `lr_by`. The number of a layer is what the one group of the pattern has matched, and `last` is the
    largest of them. A name that the pattern matches without a number is taken for the layer before the first one, as
    embeddings with `r"embed|layers\\.(\\d+)"`.

    Arguments:
      factor: above 0 and at most 1
      lr: the rate of the last layer; that of the optimizer if None

    Example:
        >>> from scirs2_adapters.torch import LayerDecay
        >>> LayerDecay(0.5).rate(layer=9, last=11, lr=1e-3)
        0.00025
    """

    factor: float
    lr: float | None = None

    def __post_init__(self) -> None:
        if not (is_number(self.factor) and 0 < self.factor <= 1):
            raise bad_value("LayerDecay", "factor", "must be a number above 0 and at most 1", self.factor)
        if self.lr is not None:
            NUMBER.check("LayerDecay", "lr", self.lr)

    def rate(self, layer: int, last: int, lr: float) -> float:
        """The rate of a layer, `lr` being the optimizer's."""
        return (lr if self.lr is None else self.lr) * self.factor ** (last - layer)


Choice: TypeAlias = float | LayerDecay | Callable[[int], float]


@dataclass(frozen=True)
class ByName:
    """Values by patterns, checked: what `argument` of `call` says, for the key `word` of the groups."""

    call: str
    argument: str
    word: str
    choices: Mapping[re.Pattern[str], Choice]

    def assign(
        self, names: Sequence[str], lr: float, others: Mapping[str, str], frozen: Collection[str] = ()
    ) -> Assigned:
        """The group and value of each parameter that a pattern matches; a pattern of none that is trained is an error.

        `others` are names that are not matched, and why, for that error. Frozen layers count as layers.
        """
        matched: dict[re.Pattern[str], list[re.Match[str]]] = {pattern: [] for pattern in self.choices}
        for name in names:
            match = next(filter(None, (pattern.search(name) for pattern in matched)), None)
            if match is not None:
                matched[match.re].append(match)
        assigned: Assigned = {}
        for pattern, matches in matched.items():
            if all(match.string in frozen for match in matches):
                still = {match.string: "is frozen (`requires_grad=False`)" for match in matches}
                raise self._unmatched(pattern, [name for name in names if name not in still], {**others, **still})
            assigned |= self._of_pattern(self.choices[pattern], matches, lr)
        return assigned

    def _of_pattern(self, choice: Choice, matches: Sequence[re.Match[str]], lr: float) -> Assigned:
        if is_number(choice):
            return {m.string: (m.re.pattern, float(choice)) for m in matches}  # type: ignore[arg-type]
        layers = {m.string: self._layer(m, isinstance(choice, LayerDecay)) for m in matches}
        numbered = [layer for layer in layers.values() if layer is not None]
        first, last = min(numbered, default=0), max(numbered, default=0)
        labels: dict[int | None, str] = {}
        assigned: Assigned = {}
        for m in matches:
            layer = layers[m.string]
            label = labels.setdefault(layer, m.group(0) if layer is None else m.string[m.start() : m.end(1)])
            if isinstance(choice, LayerDecay):
                value = choice.rate(first - 1 if layer is None else layer, last, lr)
            else:
                argument = f"{self.argument}[{m.re.pattern!r}]({layer})"
                value = _number(self.call, argument, choice(layer))  # type: ignore[operator, arg-type]
            assigned[m.string] = (label, value)
        return assigned

    def _layer(self, match: re.Match[str], may_lack: bool) -> int | None:
        text = match.group(1)
        if text is None and may_lack:
            return None
        if text is None or not text.isdecimal():
            worded = f"must capture the number of a layer. In `{match.string}` it captures {text!r}"
            raise bad_value(self.call, self.argument, worded, match.re.pattern, r"Write `layers\.(\d+)`, for one.")
        return int(text)

    def _unmatched(self, pattern: re.Pattern[str], names: Sequence[str], others: Mapping[str, str]) -> Exception:
        matched = [name for name in names if pattern.search(name)]
        worded = "must match a parameter of the model"
        reasons = [f"`{name}` {why}." for name, why in others.items() if pattern.search(name)]
        if matched:
            worded += " that no earlier pattern matches"
            reasons = [f"`{matched[0]}` is matched before: the first pattern counts."]
        near = ", ".join(f"`{name}`" for name in _near(pattern.pattern, names))
        way_out = reasons[0] if reasons else f"Its parameters are named like {near}."
        return bad_value(self.call, self.argument, worded, pattern.pattern, way_out)


def _near(pattern: str, names: Sequence[str]) -> list[str]:
    """A few names, those that have a part like a word of the pattern first."""
    parts = {part for name in names for part in name.split(".")}
    words = re.findall(r"[a-z]\w+", pattern, re.IGNORECASE)
    close = {part for word in words for part in difflib.get_close_matches(word, parts)}
    return sorted(names, key=lambda name: not close & set(name.split(".")))[:3]


def by_name(call: str, argument: str, word: str, values: object) -> ByName:
    """The patterns and values of an argument, or the error for it."""
    if not isinstance(values, Mapping):
        worded = "must be a dict from patterns of parameter names to numbers"
        raise bad_type(call, argument, worded, values)
    choices: dict[re.Pattern[str], Choice] = {}
    for key, value in values.items():
        pattern = _compiled(call, argument, key)
        layered = word == "lr" and (isinstance(value, LayerDecay) or callable(value))
        if layered and pattern.groups != 1:
            worded = "must have one group, of a layer's number, where the value depends on it"
            raise bad_value(call, argument, worded, pattern.pattern, r"Write `layers\.(\d+)`, for one.")
        where = f"{argument}[{pattern.pattern!r}]"
        choices[pattern] = value if layered else _number(call, where, value)
    return ByName(call, argument, word, choices)


def _number(call: str, argument: str, value: object) -> float:
    """A rate or a decay; a tensor, which a field takes, would be one for many groups."""
    if not is_number(value):
        raise bad_type(call, argument, NUMBER.requirement, value)
    return float(NUMBER.check(call, argument, value))


def _compiled(call: str, argument: str, key: object) -> re.Pattern[str]:
    try:
        pattern = re.compile(key)  # type: ignore[call-overload]
        if isinstance(pattern.pattern, str):
            return pattern
    except (re.error, TypeError) as error:
        raise bad_value(call, argument, f"must have regular expressions as keys ({error})", key) from None
    raise bad_type(call, argument, "must have patterns of text as keys", key)


def divided(groups: Iterable[Group], names: Mapping[int, str], assigned: Mapping[str, Assigned]) -> list[Group]:
    """The groups, divided by the values that are assigned to the names of their parameters, for each key of a group.

    `names` has the name of each parameter by its `id`. What has no name, or no value, keeps the group's. Nothing is
    made of a group without parameters.
    """
    divisions: list[Group] = []
    for group in groups:
        parts: dict[object, Group] = {}
        lists = [key for key in LISTS if key in group]
        for i, p in enumerate(group["params"]):
            name = names.get(id(p), "")
            chosen = {word: values[name] for word, values in assigned.items() if name in values}
            label = ", ".join(dict.fromkeys(text for text, _ in chosen.values())) or OTHERS
            values = {word: value for word, (_, value) in chosen.items()}
            empty = {**group, **{key: [] for key in lists}, **values, "name": label}
            part = parts.setdefault((label, *values.items()), empty)
            for key in lists:
                part[key].append(group[key][i])
        divisions += parts.values()
    return divisions


def names_of(model: torch.nn.Module) -> tuple[dict[int, str], dict[str, str]]:
    """The name of each parameter by its `id`; other names that tied parameters have, and why they do not count."""
    names, others = dict[int, str](), dict[str, str]()
    for name, p in model.named_parameters(remove_duplicate=False):
        plain = bare(name)
        if (first := names.setdefault(id(p), plain)) != plain:
            others[plain] = f"is `{first}`, to which it is tied"
    return names, others


def param_groups(
    model: torch.nn.Module,
    lr: float,
    *,
    lr_by: Mapping[str, Choice] | None = None,
    weight_decay_by: Mapping[str, float] | None = None,
) -> list[Group]:
    """The parameter groups of a model, with learning rates and weight decays by patterns of parameter names.

    A pattern is a regular expression that is searched for in the names (`re.search`); the first that matches counts.
    Frozen parameters are left out. What no pattern of `weight_decay_by` matches has the optimizer's weight decay. The
    groups have the names of their patterns, in `group["name"]`, and the names of their parameters, and fit any torch
    optimizer.

    Arguments:
      model: whose parameters are to be trained
      lr: the learning rate of what no pattern matches, 0 or more
      lr_by: for each pattern a learning rate, a LayerDecay, or a function of the layer's number, which the one group
        of the pattern captures
      weight_decay_by: for each pattern a weight decay, 0 or more

    Raises ValueError or TypeError for a value that is none of these, a pattern that matches no parameter that is
    trained or only what earlier ones match, and a model without a parameter to train.

    Example:
        >>> import torch
        >>> from scirs2_adapters.torch import AdamW, param_groups
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2), torch.nn.Linear(2, 1))
        >>> groups = param_groups(model, 1e-3, lr_by={r"^2": 1e-2}, weight_decay_by={"bias|^1": 0.0})
        >>> [(group["name"], group["lr"], len(group["params"])) for group in groups]
        [('others', 0.001, 1), ('bias|^1', 0.001, 3), ('^2', 0.01, 1), ('^2, bias|^1', 0.01, 1)]
        >>> optimizer = AdamW(groups, weight_decay=0.1)
    """
    call = "param_groups"
    if not isinstance(model, torch.nn.Module):
        raise bad_type(call, "model", "must be a torch.nn.Module", model)
    NUMBER.check(call, "lr", lr)
    names, others = names_of(model)
    inputs = {"lr": ("lr_by", lr_by), "weight_decay": ("weight_decay_by", weight_decay_by)}
    patterns = [by_name(call, argument, word, value) for word, (argument, value) in inputs.items() if value is not None]
    trained = [p for p in model.parameters() if p.requires_grad]
    frozen = set(names.values()) - {names[id(p)] for p in trained}
    assigned = {by.word: by.assign([*names.values()], lr, others, frozen) for by in patterns}
    if not trained:
        raise bad_value(call, "model", "must have a parameter that requires a gradient", model)
    group = {"params": trained, "param_names": [names[id(p)] for p in trained], "lr": lr}
    return divided([group], names, assigned)
