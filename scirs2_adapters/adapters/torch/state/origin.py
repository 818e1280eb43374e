"""Whose dict it is: what every group says of its optimizer, and which optimizer a dict without a word fits best.

torch's dicts do not say which optimizer they are of, and other libraries leave keys of theirs in a group or beside the
memory. So a dict is refused where it says another name, or fits another optimizer better than this one.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Sequence

from scirs2_adapters.core.argument_names import Values
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.fields import Value
from scirs2_adapters.core.hyperparameters import MODES
from scirs2_adapters.core.registry import get, names, with_value
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import Leaf

from ..argument_names import CONSTANTS, FLAGS, TORCH, native_parameters
from .protocols import Group, Saved

#: The form of what is saved. A number above it was written by a later version.
FORMAT = 1
NAME, VERSION = "algorithm", "format_version"
#: In groups of a rule with `evaluation`: whether its parameters are those that are trained.
TRAIN_MODE = "train_mode"


def group_marks(rule: Rule) -> dict[str, Value]:
    """What every group says of its optimizer."""
    mode = {} if rule.evaluation is None else {TRAIN_MODE: True}
    return {NAME: _full_name(rule), VERSION: FORMAT, **mode, **CONSTANTS.get(type(rule).__name__, {})}


def refuse_evaluation(call: str, groups: Sequence[Group]) -> None:
    """Refuse a step of parameters that stand in the place of those that are trained."""
    if not all(group.get(TRAIN_MODE, True) for group in groups):
        raise RuntimeError(
            f"`{call}.step` steps the parameters that are trained, and the model has those to evaluate. Received: an "
            "optimizer after `eval()`. Call `optimizer.train()` first."
        )


def model_numbers(rule: Rule, groups: Sequence[Group] = ()) -> Group:
    """What every group holds for the whole model: as the first of these groups has it, and else as before the first
    step.
    """
    numbers: Group = {"skipped_steps": 0, **{s.name: float(s.initial_value(rule)) for s in rule.model_slots()}}
    return {k: groups[0].get(k, x) for k, x in numbers.items()} if groups else numbers


def _full_name(rule: Rule) -> str:
    base = getattr(rule, "base", None)
    name = type(rule).__name__
    return name if base is None else f"{name}({_full_name(base)})"


def words(rule: Rule) -> dict[str, bool]:
    """The keys of a group that belong to this optimizer, and whether every version of its dicts has the key."""
    theirs = {p.name for p in native_parameters(type(rule))}
    places = TORCH.places(rule.fields)
    kept = {
        host: rule.fields[core].kind is not bool and core not in MODES and (not theirs or host in theirs)
        for core, host, _ in places
    }
    constants = CONSTANTS.get(type(rule).__name__, {})
    return kept | dict.fromkeys((*(s.name for s in rule.model_slots()), *constants), False)


def slot_names(rule: Rule) -> tuple[set[str], set[str]]:
    """The slots that memory of this optimizer may have, and those that it always has."""
    rules = (rule, rule.route(Leaf((1,))))
    every = {s.name for r in rules for s in r.all_slots()}
    always = [{s.name for s in r.all_slots() if s.present_if is None and s not in r.model_slots()} for r in rules]
    return every, set.intersection(*always)


@functools.cache
def _known() -> dict[str, Rule]:
    """A rule of each optimizer."""
    return {type(rule).__name__: rule for rule in [get(name)() for name in (*names(), *with_value())]}


@functools.cache
def _all() -> tuple[set[str], set[str]]:
    """The keys of groups and the slots that are some optimizer's."""
    rules = _known().values()
    return set().union(*map(words, rules)), set().union(*(slot_names(rule)[0] for rule in rules))


def differences(rule: Rule, group: Values, slots: set[str]) -> list[str]:
    """What speaks against a dict with this group and these slots being one of this optimizer."""
    keys, (every, always) = words(rule), slot_names(rule)
    all_keys, all_slots = _all()
    wrong = [k for k, v in CONSTANTS.get(type(rule).__name__, {}).items() if group.get(k, v) != v]
    missing = [k for k, needed in keys.items() if needed and k not in group]
    foreign = [k for k in group if k in all_keys and k not in keys]
    return [*missing, *foreign, *wrong, *sorted((slots & all_slots) - every), *sorted(always - slots if slots else ())]


def likely_names(group: Values, slots: set[str]) -> list[str]:
    """The optimizers that a group and its slots fit best: one where the group says whose it is."""
    if isinstance(name := group.get(NAME), str):
        return [name.partition("(")[0].lower()]
    counts = {name: len(differences(rule, group, slots)) for name, rule in _known().items()}
    best = [name for name, count in counts.items() if count == min(counts.values())]
    exact = [name for name in best if _exactly(_known()[name], group)]
    return [name.lower() for name in exact or best]


def refuse_foreign(call: str, rule: Rule, saved: Saved) -> None:
    """Refuse the dict of another optimizer, or of a later version of this package."""
    wanted = f"must be a state dict of {type(rule).__name__}"
    slots = set().union(*(x for x in saved["state"].values() if isinstance(x, dict))) - {"step"}
    for group in saved["param_groups"]:
        if (version := group.get(VERSION, FORMAT)) > FORMAT:
            raise bad_value(call, "state_dict", f"{wanted} of format {FORMAT} or older", version, "Update scirs2.")
        if NAME not in group:
            _refuse_better(call, wanted, rule, group, slots)
        elif group[NAME] != (name := _full_name(rule)):
            worded = f"{wanted}; its groups differ in {NAME!r}, which is {name!r} here"
            raise bad_value(call, "state_dict", worded, sorted(slots), f"It was saved by {group[NAME]}.")


def check_counted(call: str, rule: Rule, key: Hashable, memory: Saved) -> None:
    """Refuse memory that is not of the first step and does not say of which."""
    if memory and memory.get("step") is None and rule.time_dependence == "step":
        worded = f"must be the number of steps that {type(rule).__name__} has taken"
        way_out = "Put it there if you know it: the formula depends on it."
        raise bad_value(call, f"state_dict['state'][{key!r}]['step']", worded, "no such key", way_out)


def _refuse_better(call: str, wanted: str, rule: Rule, group: Values, slots: set[str]) -> None:
    """Refuse a group without a name that fits another optimizer better, or this one neither by keys nor by memory."""
    against = differences(rule, group, slots)
    others = {name: len(differences(r, group, slots)) for name, r in _known().items() if name != type(rule).__name__}
    absent = slot_names(rule)[1] - slots if slots else {k for k, n in words(rule).items() if n} - group.keys()
    least, likely = min(others.values()), list[str]()
    if least < len(against):
        likely = [name for name, count in others.items() if count == least]
    elif not against and not _exactly(rule, group):  # flags tell apart what has the same numbers and memory
        likely = [name for name, r in _known().items() if others.get(name) == 0 and _exactly(r, group)]
    if likely or absent:
        worded = f"{wanted}; its groups and memory differ in {', '.join(map(repr, against)) or 'flags'}"
        looks = f"It looks like one of {' or '.join(likely)}." if likely else ""
        raise bad_value(call, "state_dict", worded, sorted(slots), looks)


def _exactly(rule: Rule, group: Values) -> bool:
    """Whether it has each key that torch's class of this name writes today, and no flag that this one has not."""
    theirs = {p.name for p in native_parameters(type(rule))}
    return bool(theirs) and theirs <= group.keys() and FLAGS.keys() & group.keys() <= theirs
