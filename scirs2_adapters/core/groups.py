"""Groups of parameters under a rule that sums over the model. The formula must be the same in all groups, for sums go
over the parameters of one formula; and so must be all that numbers of the model, such as a scale that is learned, are
computed from besides sums. What is in a sum may differ, for it is of each parameter.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import SimpleNamespace

from .argument_names import Spell
from .errors import bad_value
from .fields import Value, is_traced
from .ops import HOST_SCALARS, Scalar
from .program.recorded import Program, record
from .rule import Rule
from .slots import Extent, Leaf
from .step.options import value_scalars

_EXAMPLE = Leaf((256, 256))
#: A step at which coefficients are compared: not the first one, which has values of its own.
_STEP = 2


def refuse_unlike(call: str, rules: Sequence[Rule], spell: Spell = str) -> None:
    """Refuse rules of groups that differ in what must be the same for all parameters."""
    for other in rules[1:] if sums(rules[0]) else ():
        if name := unlike(rules[0], other):
            first, received = getattr(rules[0], name), getattr(other, name, None)
            worded = f"must be {first!r} as in the first group, for what is computed with it is of all parameters"
            raise bad_value(call, spell(name), worded, received)


def unlike(first: Rule, other: Rule) -> str:
    """The field in which two rules that sum over the model differ so that one cannot go on where the other was; empty
    if there is none. Values that are traced are not compared.
    """
    pairs = {k: (getattr(first, k), getattr(other, k, None)) for k in first.fields}
    traced = {k: first.fields[k].default for k, pair in pairs.items() if any(map(is_traced, pair))}
    differing = [k for k, (a, b) in pairs.items() if k not in traced and a != b]
    first = first.replace_unchecked(traced)
    if not differing or _of_all(first) == _of_all(other.replace_unchecked(traced)):
        return ""
    alone = (k for k in differing if _of_all(first.replace_unchecked({k: pairs[k][1]})) != _of_all(first))
    return next(alone, differing[0])


def sums(rule: Rule) -> bool:
    """Whether its formula, or that of its base, sums over the model."""
    return _sums(type(rule)) or (hasattr(rule, "base") and sums(rule.base))  # type: ignore[arg-type]


def scalars_at(rule: Rule, math: SimpleNamespace, t: Scalar, latest: Scalar) -> dict[str, Scalar]:
    """The coefficients of a parameter at its step `t`; those of numbers of the model at the `latest` step of any."""
    scalars = rule.scalars(math, t)
    known = t == latest if isinstance(t, (int, float)) else t is latest  # a device is asked last: that waits for it
    if known or not rule.model_slots() or t == latest:
        return scalars
    learned = rule.scalars(math, latest)
    return scalars | {name: learned[name] for name in _learned_with(record(rule, _EXAMPLE)) if name in learned}


@functools.cache
def _sums(cls: type[Rule]) -> bool:
    return record(cls(), _EXAMPLE).sums


def _of_all(rule: Rule) -> tuple[Value, ...]:
    """What is the same for all parameters: the formula, and coefficients and first values of numbers of the model."""
    program = record(rule, _EXAMPLE)
    scalars = {**rule.scalars(HOST_SCALARS, _STEP), **value_scalars(rule, 1.0)}
    firsts = [s.initial_value(rule) for s in rule.model_slots()]
    return program, [scalars.get(name) for name in _learned_with(program)], firsts


@functools.lru_cache(maxsize=256)
def _learned_with(program: Program) -> list[str]:
    """The coefficients by which numbers of the model follow from sums over it."""
    targets = [program.outputs[s.name] for s in program.slots if s.extent is Extent.MODEL]
    order = program.order(targets, stop=[i for i, node in enumerate(program.nodes) if node.op == "total"])
    return [program.nodes[i].name for i in order if program.nodes[i].op == "scalar"]
