"""What a rule says of one parameter apart from others: which scalars, which axes, and whether another rule steps it.

This is the one place where that is decided and put into words. A rule that does not fit all parameters states three
things: `other`, the rule that steps those it leaves; `misfit`, why it cannot step one at all; `unwanted`, why it should
not, by name or form. What should not be is settled when memory is made: a parameter that holds slots of one of the two
rules stays with it under any name, so that neither a new name nor another container drops state.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from .matrix import Matrix
from .slots import LAST, Axes, Leaf

if TYPE_CHECKING:
    from .rule import Rule

log = logging.getLogger("scirs2")


class Routed:
    """The part of a rule that looks at a parameter's shape, dtype, name and memory."""

    def leaf_coefficients(self, leaf: Leaf) -> Mapping[str, Any]:
        """Scalars that depend on a parameter's shape or dtype; most rules have none."""
        del leaf
        return {}

    def axes(self, leaf: Leaf) -> Axes:
        """The two axes, counted from the end, that rows and columns are of: `xp.mean(x, -1)` is over the second one."""
        del leaf
        return LAST

    def view(self, leaf: Leaf) -> Matrix | None:
        """Which axes `xp.matrix` takes for those of a matrix; None where they are the last two, and all there are."""
        del leaf
        return None

    def other(self) -> Rule:
        """The rule that steps what this one leaves."""
        return cast("Rule", self)

    def misfit(self, leaf: Leaf) -> str:
        """Why this rule cannot step the parameter, in a few words; empty if it can."""
        del leaf
        return ""

    def unwanted(self, leaf: Leaf) -> str:
        """Why this rule should not step the parameter, though it could; empty if it should."""
        del leaf
        return ""

    def doubts(self, leaves: Sequence[Leaf]) -> list[str]:
        """What may be wrong in how these parameters are stepped, with the way out."""
        del leaves
        return []

    # -- derived

    @property
    def routes(self) -> bool:
        """Whether another rule steps some parameters."""
        return type(self).other is not Routed.other

    @property
    def per_parameter(self) -> bool:
        """Whether a parameter's shape, dtype or name matters to its scalars; if not, they are the same for all."""
        return self.routes or type(self).leaf_coefficients is not Routed.leaf_coefficients

    def route(self, leaf: Leaf) -> Rule:
        """The rule that steps this parameter: another one where this one does not fit (vectors under Muon)."""
        return self.other() if self.routes and self.reason(leaf) else cast("Rule", self)

    def reason(self, leaf: Leaf) -> str:
        """Why the other rule steps this parameter; empty where this one does."""
        if why := self.misfit(leaf):
            return why
        why = self.unwanted(leaf)
        if leaf.held and self.routes:
            mine, theirs = ({s.name for s in rule.all_slots()} for rule in (cast("Rule", self), self.other()))
            if leaf.held & (mine - theirs):
                return ""
            if leaf.held & (theirs - mine):
                return why or f"it has the memory of {_name(self.other())}"
        return why


def _name(rule: Any) -> str:
    """The rule that steps, without what is around it."""
    return str(getattr(rule, "base", rule).name)


def slots_of(keys: Iterable[Any], state: Mapping[Any, Any]) -> dict[Any, tuple[str, ...]]:
    """The names of the slots that each parameter has in a state, which may be a foreign one."""
    return {k: tuple(state[k]) if isinstance(state.get(k), Mapping) else () for k in keys}


def explained(pairs: Sequence[tuple[Rule, Leaf]]) -> list[str]:
    """A line for each parameter, given with the rule of its group: which rule steps it, as what, and why."""
    lines = []
    for i, (rule, leaf) in enumerate(pairs):
        routed = rule.route(leaf)
        view = routed.view(leaf)
        notes = [_name(routed), view.told(leaf.shape) if view else "", rule.reason(leaf)]
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
    text = f"scirs2: {call}: {_name(first)} steps {reasons.pop('', 0)} of {len(pairs)} parameters"
    left = ", ".join(f"{count} ({why})" for why, count in reasons.items())
    text += f"; {_name(first.other())} steps {left}" if left else ""
    doubts = [doubt for rule, leaves in groups.values() for doubt in rule.doubts(leaves)]
    log.log(logging.WARNING if doubts else logging.INFO, "%s", ". ".join([text, *doubts]))
