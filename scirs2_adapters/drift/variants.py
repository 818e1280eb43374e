"""The known differences between optimizers of one name, as data: what another framework may do otherwise.

A variant is a change of one thing: a trait of the formula, a hyperparameter, the count of steps, the learning rate of
another step, memory that is lost, a gradient of another size. Traits and defaults of other frameworks are those of the
rule's `matches`.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from scirs2_adapters.core.fields import Value
from scirs2_adapters.core.match import CONVENTIONS
from scirs2_adapters.core.rule import Rule, innermost


class Variant(NamedTuple):
    """What may be otherwise, in words and as changes of a rule and of a state."""

    says: str
    values: Mapping[str, Value] = {}
    traits: Mapping[str, Value] = {}
    match: str | None = None
    shift: int = 0
    rate: int = 0
    fresh: bool = False
    scale: float = 1.0


#: How frameworks are called, as owners.
OWNERS = {"torch": "PyTorch's", "optax": "optax's", "keras": "Keras'"}
#: As many steps that no bias correction is left.
_MANY = 10**9
#: What needs no word of the rule.
RATES = (
    Variant("takes the learning rate of the step before: its schedule is read one step late", rate=-1),
    Variant("takes the learning rate of the step after: its schedule is read one step early", rate=1),
)
COUNTS = (
    Variant("counts one step more when it corrects bias", shift=1),
    Variant("counts one step fewer when it corrects bias", shift=-1),
    Variant("does not correct bias", shift=_MANY),
    Variant("has lost its memory, and counts on", fresh=True),
    Variant("begins anew: it has lost its memory and its count", fresh=True, shift=-_MANY),
)
#: Traits of `Rule`, and what each value means.
TRAITS: dict[str, dict[Value, str]] = {
    "eps_place": {
        "outside": "adds eps to the root of the corrected mean of squares",
        "hat": "adds eps to the root before bias is corrected (epsilon hat)",
        "inside": "adds eps under the root",
    },
    "decay": {
        "l2": "adds weight decay to the gradient (L2), and so to the moments",
        "decoupled": "takes weight decay, times the learning rate, from the parameter (decoupled)",
        "absolute": "takes weight decay from the parameter without the learning rate",
        "before": "decays the parameter before the step",
    },
    "lr_in_buffer": {
        True: "multiplies what goes into the momentum buffer by the learning rate",
        False: "multiplies what comes out of the momentum buffer by the learning rate",
    },
    "late": {True: "takes each step one step late", False: "takes each step at once"},
    "max_corrected": {
        True: "takes AMSGrad's maximum of corrected means of squares",
        False: "takes AMSGrad's maximum of raw means of squares",
    },
}


def variants(rule: Rule, recorded: Mapping[str, object]) -> list[Variant]:
    """What may be otherwise in a run beside one of this rule, each change once; `recorded` are hyperparameters of the
    other run.
    """
    distinct: dict[str, Variant] = {}
    for one in (*RATES, *_recorded(rule, recorded), *_traits(rule), *_matches(rule), *_values(rule), *COUNTS):
        distinct.setdefault(repr(one[1:]), one)
    return list(distinct.values())


def _recorded(rule: Rule, recorded: Mapping[str, object]) -> Iterator[Variant]:
    for name, value in recorded.items():
        if name in rule.fields and value != getattr(rule, name) and isinstance(value, (bool, int, float)):
            yield Variant(f"has {name}={value!r}, where the other has {getattr(rule, name)!r}", {name: value})


def _traits(rule: Rule) -> Iterator[Variant]:
    for trait, meanings in TRAITS.items() if not hasattr(rule, "base") else ():
        for value, says in meanings.items():
            if value != getattr(rule, trait) and getattr(rule, trait) != "inside" * (trait == "decay"):
                yield Variant(says, traits={trait: value})


def _matches(rule: Rule) -> Iterator[Variant]:
    """The formula of each framework with these hyperparameters, and each default of theirs that differs."""
    kind = type(innermost(rule))
    for framework, row in kind.matches.items():
        if framework != rule.match:
            yield Variant(f"has {OWNERS[framework]} formula", match=framework)
        for name, value in {**CONVENTIONS[framework], **row}.items():
            if name in rule.fields and value != getattr(rule, name):
                yield Variant(f"has {name}={value!r}, {OWNERS[framework]} default", {name: value})


def _values(rule: Rule) -> Iterator[Variant]:
    """Flags that are set otherwise, and defaults."""
    for name, field in rule.fields.items():
        now = getattr(rule, name)
        if field.kind is bool:
            yield Variant(f"has {name}={not now}", {name: not now})
        elif name != "learning_rate" and now != field.default and isinstance(now, (int, float)):
            yield Variant(
                f"has {name}={field.default!r}, the default, where the other has {now!r}", {name: field.default}
            )
    if getattr(rule, "weight_decay", 0.0):
        yield Variant("has no weight decay", {"weight_decay": 0.0})


def changed(rule: Rule, together: Sequence[Variant]) -> Rule:
    """The rule with these changes, unchecked as far as they are traits."""
    values = {k: v for one in together for k, v in one.values.items()}
    match = next((one.match for one in together if one.match), None)
    if values or match:
        rule = rule.replace(**values, **({"match": match} if match else {}))
    if not (traits := {k: v for one in together for k, v in one.traits.items()}):
        return rule
    kind = types.new_class(type(rule).__name__, (type(rule),), traits, lambda body: body.update(__doc__=rule.text))
    new: Rule = object.__new__(kind)
    vars(new).update(vars(rule) | traits)
    return new
