"""What a rule says of itself, as text: docs/optimizers.md, README's table and `scirs2 list` are made from this.

All of it is read from the author's docstring, the fields, the slots and the traits; nothing is written down again.
"""

from __future__ import annotations

import inspect
import itertools
import re
from collections import Counter

from scirs2_adapters.core import Rule, Wrapper
from scirs2_adapters.core.document import shown
from scirs2_adapters.core.slots import Extent, Leaf, Slot

#: Longer than the ranks that rules project onto.
MATRIX, VECTOR = Leaf((2048, 1024)), Leaf((2048,))

#: What there is one float32 number for, in the slots of each extent.
UNITS = {
    Extent.FULL: "",
    Extent.SIDE: " a pair of rows or columns",
    Extent.ROW: " a row",
    Extent.COLUMN: " a column",
}

DECAYS = {
    "l2": "added to the gradient as `weight_decay * p` (L2)",
    "decoupled": "decoupled: `lr * weight_decay * p` is subtracted beside the step",
    "before": "the parameter decays by `lr * weight_decay * p` before the formula sees it",
    "absolute": "decoupled and independent of the learning rate",
    "inside": "where the formula has it",
}

#: Traits of a formula, and the field without which each means nothing.
TRAITS = {
    "decay": "weight_decay",
    "eps_place": "eps",
    "lr_in_buffer": "momentum",
    "max_corrected": "amsgrad",
    "late": "eta_plus",
    "absolute_too": "relative_step",
    "root_bounded": "eps1",
    "last_axes": "factored",
    "shrinks_step": "lower_bound",
    "scaled_norm": "f_min",
}

TRAIT_WORDS = {
    ("decay", "decoupled"): "decoupled weight decay",
    ("decay", "l2"): "weight decay is added to the gradient before all else",
    ("decay", "before"): "the parameter decays before the step",
    ("decay", "absolute"): "weight decay is not multiplied by the learning rate",
    ("eps_place", "hat"): "eps is added to the root of the uncorrected moment",
    ("eps_place", "inside"): "eps is added under the root",
    ("eps_place", "outside"): "eps is added to what finally divides the step",
    ("lr_in_buffer", True): "the momentum buffer holds steps already multiplied by the learning rate",
    ("late", True): "each step is taken one step late",
    ("absolute_too", False): "relative_step=False changes nothing",
    ("root_bounded", False): "eps1 is added to g * g",
    ("last_axes", False): "rows and columns are of the two longest axes",
    ("shrinks_step", False): "weight decay divides the parameter alone, and not the step",
    ("scaled_norm", True): "the norm is of gradients times the learning rate",
    ("max_corrected", True): "AMSGrad keeps the largest corrected moment",
}

LETTERS = "Letters in formulas: `p` parameter, `g` gradient, `m` and `v` moments, `t` the number of the step, from 1."

#: What a wrapper's first argument is, which no field declares.
BASE = "Its first argument is `base`, the name of an optimizer or a rule; the base's arguments are taken too."


def paragraphs(rule: type[Rule]) -> list[str]:
    """The docstring as its author wrote it, by paragraph."""
    return inspect.cleandoc(rule.text or "").split("\n\n")


def gist(rule: type[Rule]) -> str:
    """The first sentence: what it does and what sets it apart."""
    return " ".join(paragraphs(rule)[0].split())


def origin(rule: type[Rule]) -> tuple[str, str]:
    """The paper, and in what the rule differs from it; empty where the author says nothing."""
    last = " ".join(paragraphs(rule)[-1].split())
    if not last.startswith("Paper: "):
        return "", ""
    paper, _, differs = last.removeprefix("Paper: ").partition(" Differs from the paper: ")
    return paper.rstrip("."), differs


def formula(rule: type[Rule]) -> list[str]:
    """The paragraphs between the first sentence and the paper; those with " = " are lines of formula."""
    rest = paragraphs(rule)[1:]
    return rest[:-1] if rest and rest[-1].startswith("Paper:") else rest


def slot_names(rule: type[Rule]) -> list[str]:
    """The slots; those in parentheses only exist with an option or for some parameters."""
    defaults = rule()
    kept = {s.name for s in defaults.slots(MATRIX)}
    return _without_middles([s.name if s.name in kept else f"({s.name})" for s in defaults.all_slots()])


def _without_middles(names: list[str]) -> list[str]:
    """The names, of numbered ones that follow each other the first and the last: `s_1 ... s_6`."""
    result = []
    for series, members in itertools.groupby(names, key=lambda name: re.sub(r"_\d+$", "", name)):
        first, *others = members
        result.append(f"{first} ... {others[-1]}" if others and series != first else first)
    return result


def _bytes(slots: tuple[Slot, ...]) -> str:
    lists = {1: " a row or column"}  # diagonals
    units = [lists.get(s.rank, " * rank a row or column") if s.rank else UNITS.get(s.extent) for s in slots]
    counted = Counter(unit for unit in units if unit is not None)
    return " + ".join(f"{4 * counted[unit]} B{unit}" for unit in sorted(counted, key=len)) or "0"


def memory(rule: type[Rule]) -> str:
    """Memory for one float32 parameter: in a matrix, and in a vector where that differs."""
    defaults = rule()
    kept = {s.name for s in defaults.slots(MATRIX)}
    both = [_bytes(defaults.route(leaf).slots(leaf)) for leaf in (MATRIX, VECTOR)]
    optional = sum(
        s.extent is Extent.FULL and s.present_if in rule.fields for s in defaults.all_slots() if s.name not in kept
    )
    return (
        both[0]
        + (f" (vectors {both[1]})" if both[0] != both[1] else "")
        + (f", up to +{4 * optional} B" * bool(optional))
    )


def matches(rule: type[Rule]) -> str:
    """Which frameworks have this optimizer, and what `match` changes."""
    if issubclass(rule, Wrapper):
        return "`match` is passed on to the base."
    if not rule.matches:
        return "No framework has this optimizer; `match` takes None only."
    return "; ".join(
        f'`match="{k}"`: {", ".join(changes(rule, k)) or "the same formula and defaults"}' for k in rule.matches
    )


def changes(rule: type[Rule], match: str) -> list[str]:
    """What a framework's own formula has otherwise; a trait counts only if the rule has the field it concerns."""
    ours, theirs = rule(), rule(match=match)
    values = [f"`{k}={shown(getattr(theirs, k))}`" for k in rule.fields if getattr(ours, k) != getattr(theirs, k)]
    traits = [(t, getattr(theirs, t)) for t, field in TRAITS.items() if field in rule.fields]
    return values + [TRAIT_WORDS[t, value] for t, value in traits if value != getattr(ours, t)]


def facts(rule: type[Rule]) -> dict[str, str]:
    """What is said of a rule besides its formula and its arguments, by the name of the fact."""
    paper, differs = origin(rule)
    said = {
        "weight decay": "" if issubclass(rule, Wrapper) or rule.needs_closure else DECAYS[rule().decay],
        "frameworks": matches(rule),
        "paper": paper,
        "differs from the paper": differs,
    }
    return {name: text for name, text in said.items() if text}
