"""The generated tables and pages, made from the rules' docstrings, fields and slots, and from the pinned versions."""

import inspect
import itertools
import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from stubs import NAMES

from scirs2_adapters.core import Rule, Wrapper, get
from scirs2_adapters.core.document import range_of, shown
from scirs2_adapters.core.slots import Extent, Leaf, Slot

ROOT = Path(__file__).resolve().parents[1]
#: Longer than the ranks that rules project onto.
MATRIX, VECTOR = Leaf((2048, 1024)), Leaf((2048,))

#: Whose spelling stands in which column; hf takes torch's words, and scikit-learn the core's.
SPELLINGS = {"torch": "torch, hf", "tf": "Keras", "jax": "optax"}

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

HEAD = """# Optimizers

Generated from the declarations in `scirs2_adapters/core/optimizers/` and `values/` by `make gen`; not edited by hand.

Letters in formulas: `p` parameter, `g` gradient, `m` and `v` moments, `t` the number of the step, from 1. Defaults are
PyTorch's where PyTorch has the optimizer, else the paper's, and the same in every framework. `match` takes the formula
and the defaults of a framework's own optimizer instead. Slots in parentheses exist only with an option, or only for
some parameters. Every optimizer also takes `kernel` and `state_dtype`, see [numerics](numerics.md)."""


#: What the formats of memory are called in tables: those of `memory_facts.py`.
FORMATS = {
    "float32": "float32",
    "bfloat16 state": '`state_dtype="bfloat16"`',
    "int8 state": '`state_dtype="int8"`',
    "stochastic": 'bfloat16 model, int8, `rounding="stochastic"`',
    "bfloat16 model": 'bfloat16 model, int8, `rounding="compensated"`',
    "released": "the same with released gradients",
}
#: What stands in tables for an optimizer whose defaults are not what is shown.
SHOWN = {"SGD": "SGD, momentum", "Muon": "Muon, `match=None`"}


def memory_tables(weighed: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, str]:
    """The tables of docs/memory.md, by the name of their markers, from bytes a parameter."""
    parts = ["parameter", "gradient", "state", "correction"]
    adamw = weighed["AdamW"]
    rows = [[FORMATS[key], *map("{:.2f}".format, map(adamw[key].get, parts)), _sum(adamw[key])] for key in adamw]
    sums = [[SHOWN.get(name, name), *map(_sum, each.values())] for name, each in weighed.items()]
    return {
        "adamw-bytes": table(["AdamW", *parts, "sum"], rows),
        "bytes": table(["sum", *map(FORMATS.__getitem__, adamw)], sums),
    }


def _sum(parts: Mapping[str, float]) -> str:
    return f"{sum(parts.values()):.2f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; a bar inside a cell would end it."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *cells])


def paragraphs(rule: type[Rule]) -> list[str]:
    """The docstring as its author wrote it, by paragraph."""
    return inspect.cleandoc(rule.text or "").split("\n\n")


def gist(rule: type[Rule]) -> str:
    """The first sentence: what it does and what sets it apart."""
    return " ".join(paragraphs(rule)[0].split())


def origin(rule: type[Rule]) -> tuple[str, str]:
    """Paper, with links, and in what the rule differs from it."""
    last = " ".join(paragraphs(rule)[-1].split())
    paper, _, differs = last.removeprefix("Paper: ").partition(" Differs from the paper: ")
    return re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", paper.rstrip(".")), differs


def formula(rule: type[Rule]) -> str:
    """What stands between the first sentence and the paper: lines of formula as code, sentences as they are."""
    middle = paragraphs(rule)[1:-1]
    return "\n\n".join(f"```text\n{part}\n```" if " = " in part else part for part in middle)


def slot_list(rule: type[Rule]) -> str:
    """The slots; those in parentheses only exist with an option or for some parameters."""
    made = rule()
    kept = {s.name for s in made.slots(MATRIX)}
    named = [f"`{s.name}`" if s.name in kept else f"(`{s.name}`)" for s in made.all_slots()]
    return ", ".join(_without_middles(named)) or "none"


def _without_middles(names: list[str]) -> list[str]:
    """The names, of numbered ones that follow each other the first and the last: `s_1` … `s_6`."""
    shown = []
    for series, members in itertools.groupby(names, key=lambda name: re.sub(r"_\d+`", "", name)):
        first, *others = members
        shown.append(f"{first} … {others[-1]}" if others and series != first else first)
    return shown


def _bytes(slots: tuple[Slot, ...]) -> str:
    lists = {1: " a row or column"}  # diagonals
    units = [lists.get(s.rank, " * rank a row or column") if s.rank else UNITS.get(s.extent) for s in slots]
    counted = Counter(unit for unit in units if unit is not None)
    return " + ".join(f"{4 * counted[unit]} B{unit}" for unit in sorted(counted, key=len)) or "0"


def memory(rule: type[Rule]) -> str:
    """Memory for one float32 parameter: in a matrix, and in a vector where that differs."""
    made = rule()
    kept = {s.name for s in made.slots(MATRIX)}
    both = [_bytes(made.route(leaf).slots(leaf)) for leaf in (MATRIX, VECTOR)]
    optional = sum(
        s.extent is Extent.FULL and s.present_if in rule.fields for s in made.all_slots() if s.name not in kept
    )
    return (
        both[0]
        + (f" (vectors {both[1]})" if both[0] != both[1] else "")
        + (f", up to +{4 * optional} B" * bool(optional))
    )


def summary_table() -> str:
    """README's table of optimizers."""
    rows = []
    for name in NAMES:
        rule = get(name)
        link = f"[{rule.__name__}](docs/optimizers.md#{name})"
        rows.append([link, gist(rule), slot_list(rule), memory(rule), origin(rule)[0]])
    return table(["optimizer", "what it does", "slots", "memory per float32 parameter", "paper"], rows)


def tested_table() -> str:
    """README's table of versions: what is pinned, and the oldest that an adapter accepts."""
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {"core": project["dependencies"], **project["optional-dependencies"]}
    rows = []
    for adapter, lines in extras.items():
        if adapter not in ("all", "demo", "bench"):
            floors = [line.partition(">=") for line in lines]
            tested = ", ".join(f"{name} {pins[name]}" for name, _, _ in floors)
            rows.append([adapter, tested, ", ".join(f"{name} {floor}" if floor else name for name, _, floor in floors)])
    return table(["adapter", "tested with", "works from"], rows)


def arguments(rule: type[Rule], name: str, spelling: Mapping[str, Mapping[str, Mapping[str, str]]]) -> str:
    """The fields of a rule, in every framework's words."""
    rows = []
    for core, field in rule.fields.items():
        words = [f"`{spelling[adapter][name].get(core, core)}`" for adapter in SPELLINGS]
        rows.append([f"`{core}`", *words, f"`{shown(field.default)}`", range_of(field), field.means])
    return table(["core, sklearn", *SPELLINGS.values(), "default", "range", "meaning"], rows)


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
    fields = [f"`{k}={shown(getattr(theirs, k))}`" for k in rule.fields if getattr(ours, k) != getattr(theirs, k)]
    traits = [(t, getattr(theirs, t)) for t, field in TRAITS.items() if field in rule.fields]
    return fields + [TRAIT_WORDS[t, value] for t, value in traits if value != getattr(ours, t)]


def section(name: str, spelling: Mapping[str, Mapping[str, Mapping[str, str]]]) -> str:
    """One optimizer."""
    rule = get(name)
    paper, differs = origin(rule)
    lines = [f"## {rule.__name__}", gist(rule), formula(rule), arguments(rule, name, spelling)]
    if issubclass(rule, Wrapper):
        lines.append(
            "Its first argument is `base`, the name of an optimizer or a rule; the base's arguments are taken too."
        )
    facts = [f"slots: {slot_list(rule)}; memory: {memory(rule)} per float32 parameter"]
    facts += ["each step is given the loss, so not in Keras and Hugging Face"] if rule.needs_value else []
    facts += [] if issubclass(rule, Wrapper) else [f"weight decay: {DECAYS[rule().decay]}"]
    facts += [f"frameworks: {matches(rule)}", f"paper: {paper}", f"differs from the paper: {differs}"]
    return "\n\n".join([*lines, "\n".join(f"- {fact}" for fact in facts)])


def optimizers(spelling: Mapping[str, Mapping[str, Mapping[str, str]]]) -> str:
    """docs/optimizers.md."""
    return "\n\n".join([HEAD, *(section(name, spelling) for name in NAMES)]) + "\n"
