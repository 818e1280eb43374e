"""Which rule steps which parameter, in words: what `explain` prints, and what is logged when memory is made. And what a
rule is for parameters that do not decay.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from .rule import Rule, name_of
from .slots import Leaf

log = logging.getLogger("scirs2")


def without_decay(rule: Rule) -> dict[str, float]:
    """The changes by which a rule leaves parameters without decay."""
    decays = [k for k, field in rule.fields.items() if k.endswith("weight_decay") and field.kind is float]
    return {k: 0.0 for k in decays if getattr(rule, k)}


def explained(pairs: Sequence[tuple[Rule, Leaf]]) -> list[str]:
    """A line for each pair of a group's rule and a parameter: which rule steps the parameter, as what, and why."""
    lines = []
    for i, (rule, leaf) in enumerate(pairs):
        routed = rule.route(leaf)
        view = routed.view(leaf)
        notes = [name_of(routed), view.told(leaf.shape) if view else "", rule.reason(leaf)]
        lines.append(f"{leaf.name or f'parameter {i}'} {leaf.shape}: {', '.join(filter(None, notes))}")
    return lines


def say(call: str, pairs: Sequence[tuple[Rule, Leaf]]) -> None:
    """Says in one line how many parameters other rules step: a warning where that may not be what was meant."""
    groups: dict[int, tuple[Rule, list[Leaf]]] = {}
    for rule, leaf in pairs:
        if rule.routes:
            groups.setdefault(id(rule), (rule, []))[1].append(leaf)
    if not groups:
        return
    first = next(iter(groups.values()))[0]
    reasons = Counter(rule.reason(leaf) for rule, leaves in groups.values() for leaf in leaves)
    text = f"scirs2: {call}: {name_of(first)} steps {reasons.pop('', 0)} of {len(pairs)} parameters"
    left = ", ".join(f"{count} ({why})" for why, count in reasons.items())
    text += f"; {name_of(first.other())} steps {left}" if left else ""
    doubts = [doubt for rule, leaves in groups.values() for doubt in rule.doubts(leaves)]
    log.log(logging.WARNING if doubts else logging.INFO, "%s", ". ".join([text, *doubts]))
