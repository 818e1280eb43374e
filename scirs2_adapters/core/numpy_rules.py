"""Which rule steps which array of a `HostOptimizer`: a rule for each group of parameters, at the learning rate of now.

A group may have other hyperparameters than the rest. A schedule sets the learning rate before each step, and a group's
factor multiplies that rate.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace

from . import routing
from .cpu.kernel import kernel_obstacle
from .errors import bad_type, bad_value, did_you_mean
from .fields import Value
from .groups import refuse_unlike, scalars_at
from .ops import HOST_SCALARS, Scalars
from .registry import get
from .rule import Rule
from .schedule import RATE, rate_at
from .slots import Leaf
from .step.options import StateDtype, param_storage, slot_dtype, value_scalars
from .step.plan import ParamEntry, choose_paths, param_entry

Schedule = Callable[[int], float]
#: Names of parameters under "params", hyperparameters of theirs, and `learning_rate_factor`.
Groups = Sequence[Mapping[str, Value]]
CALL = "HostOptimizer"
FACTOR = "learning_rate_factor"
#: A learning rate beside the rule that is no schedule.
_RATE = replace(RATE, requirement=f"{RATE.requirement}, a function of the step count", optional=True)


def schedule_of(call: str, rule: Rule | str, rate: float | Schedule | None) -> tuple[Rule, Schedule | None]:
    """The rule of this name, or this rule, with this learning rate; and the schedule if the learning rate is one."""
    rule = get(rule)() if isinstance(rule, str) else rule
    if not isinstance(rule, Rule):
        raise bad_type(call, "rule", "must be a rule such as AdamW(), or its name", rule)
    if rate is None:
        return rule, None
    if callable(rate):
        return at_rate(rule, rate_at(call, rate, 0)), rate
    return rule.replace(learning_rate=_RATE.check(call, "learning_rate", rate)), None


def at_rate(rule: Rule, rate: float) -> Rule:
    """The rule at another learning rate, which was checked before."""
    return rule.replace_unchecked({"learning_rate": rate})


class RuleGroups:
    """The groups of an optimizer; group 0 is of the parameters that are in no other."""

    def __init__(self, call: str, groups: Groups, rule: Rule, params: Iterable[Hashable]) -> None:
        self._changes: list[tuple[dict[str, Value], float]] = [({}, 1.0)]
        self.of = dict.fromkeys(params, 0)
        if not isinstance(groups, (list, tuple)) or not all(isinstance(g, Mapping) for g in groups):
            worded = 'must be a list of dicts such as {"params": ["b"], "weight_decay": 0.0}'
            raise bad_type(call, "groups", worded, groups)
        for i, group in enumerate(groups):
            self._take(call, f"groups[{i}]", dict(group))
        self.rules(rule)  # which refuses what the rule does not have

    def _take(self, call: str, place: str, group: dict[str, Value]) -> None:
        names = group.pop("params", None)
        if not isinstance(names, (list, tuple, set, frozenset)):
            raise bad_type(call, f"{place}['params']", "must be a list of names of parameters", names)
        for name in names:
            if self.of.get(name) != 0:
                worded = "must name parameters that are there, each in one group"
                raise bad_value(call, f"{place}['params']", worded, name, did_you_mean(str(name), map(str, self.of)))
            self.of[name] = len(self._changes)
        factor = RATE.check(call, f"{place}['{FACTOR}']", group.pop(FACTOR, 1.0))
        self._changes.append((group, factor))

    def rules(self, rule: Rule) -> list[Rule]:
        """The rule of each group."""
        rules = [rule, *(_changed(rule, changes, factor) for changes, factor in self._changes[1:])]
        refuse_unlike(type(rule).__name__, rules)
        return rules


def _changed(rule: Rule, changes: Mapping[str, Value], factor: float) -> Rule:
    """The rule of a group. A factor is one of every learning rate that the rule has, so of Muon's for vectors too."""
    changed = rule.replace(**changes) if changes else rule
    if factor == 1.0:
        return changed
    rates = {k: getattr(changed, k) for k in changed.fields if k.endswith("learning_rate")}
    return changed.replace_unchecked({k: x * factor for k, x in rates.items() if x is not None})


class Routed:
    """Parameters, the rule and program that step each one, and the path: what `HostOptimizer` decides before a step."""

    rule: Rule
    kernel: str
    state_dtype: StateDtype
    rounding: str
    _groups: RuleGroups
    _leaves: dict[Hashable, Leaf]
    _entries: dict[Hashable, ParamEntry]
    _form: object

    def route(self, state: Mapping[Hashable, Iterable[str]]) -> None:
        """Settles which rule steps which array, and by which program, until a hyperparameter changes. An array with
        memory stays with the rule of that memory.
        """
        programs = [entry.program for entry in self._entries.values()]
        self._leaves = {key: leaf.holding(state.get(key, leaf.held)) for key, leaf in self._leaves.items()}
        rules, of = self._groups.rules(self.rule), self._groups.of
        self._entries = {
            key: param_entry(i, rules[of[key]], leaf, group=of[key])
            for i, (key, leaf) in enumerate(self._leaves.items())
        }
        if programs != [entry.program for entry in self._entries.values()]:
            self._form = None

    def _decide(self) -> None:
        """Which path steps them, for as long as no structure changes."""
        obstacles = [
            entry.program.kernel_obstacle or kernel_obstacle(self._dtypes(key, entry.leaf.dtype))
            for key, entry in self._entries.items()
        ]
        self._form = None
        self._by_kernel = choose_paths(CALL, [self.kernel] * len(obstacles), obstacles, one_path=True)[0]

    def _dtypes(self, key: Hashable, gradient: str) -> dict[str, str]:
        entry = self._entries[key]
        dtypes = {s.name: slot_dtype(s, entry.leaf, self.state_dtype) for s in entry.program.slots}
        stored = param_storage(entry.leaf, self.rounding, self.state_dtype)
        return {"p": stored, "g": gradient} | dtypes

    def set_learning_rate(self, rate: float) -> None:
        """Take the next steps at this rate, as a schedule does: what `replace` would check is not checked."""
        self.rule = at_rate(self.rule, rate)
        rules = self._groups.rules(self.rule)
        self._entries = {k: replace(e, rule=rules[e.group].route(e.leaf)) for k, e in self._entries.items()}

    def explain(self) -> str:
        """Which rule steps which array, a line for each, and why."""
        return "\n".join(routing.explained(self._pairs()))

    def rule_of(self, key: Hashable) -> Rule:
        """The rule of a parameter's group, at the learning rate of now."""
        return self._groups.rules(self.rule)[self._groups.of[key]]

    def _pairs(self) -> list[tuple[Rule, Leaf]]:
        """Each parameter with the rule of its group."""
        rules, of = self._groups.rules(self.rule), self._groups.of
        return [(rules[of[key]], leaf) for key, leaf in self._leaves.items()]


def scalars_of(
    shared: dict[tuple[int, int], Scalars], entries: Sequence[ParamEntry], counts: Sequence[int], latest: int,
    loss: float, i: int,
) -> Scalars:  # fmt: skip
    """The coefficients of a parameter; `shared` remembers those of its rule at a step, `latest` is that of any."""
    rule, t = entries[i].rule, counts[i] + 1
    if (of_rule := shared.get((id(rule), t))) is None:
        of_rule = shared[id(rule), t] = {**scalars_at(rule, HOST_SCALARS, t, latest), **value_scalars(rule, loss)}
    return {**of_rule, **rule.leaf_coefficients(entries[i].leaf)}
