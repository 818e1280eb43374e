"""The generated tables and pages, made from the rules' docstrings, fields and slots, and from the pinned versions."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from stubs import NAMES

from scirs2_adapters.commands import facts
from scirs2_adapters.core import Rule, Wrapper, get
from scirs2_adapters.core.document import range_of, shown

ROOT = Path(__file__).resolve().parents[1]

#: Whose spelling stands in which column; hf takes torch's words, and scikit-learn the core's.
SPELLINGS = {"torch": "torch, hf", "tf": "Keras", "jax": "optax"}

HEAD = f"""# Optimizers

Generated from the declarations in `scirs2_adapters/core/optimizers/` and `values/` by `make gen`; not edited by hand.

{facts.LETTERS} Defaults are
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


def linked(text: str) -> str:
    """The text with a link for each number of arXiv."""
    return re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def formula(rule: type[Rule]) -> str:
    """Lines of formula as code, sentences as they are."""
    return "\n\n".join(f"```text\n{part}\n```" if " = " in part else part for part in facts.formula(rule))


def slot_list(rule: type[Rule]) -> str:
    """The slots; those in parentheses only exist with an option or for some parameters."""
    return re.sub(r"\w+", r"`\g<0>`", ", ".join(facts.slot_names(rule))) or "none"


def summary_table() -> str:
    """README's table of optimizers."""
    rows = []
    for name in NAMES:
        rule = get(name)
        link = f"[{rule.__name__}](docs/optimizers.md#{name})"
        rows.append([link, facts.gist(rule), slot_list(rule), facts.memory(rule), linked(facts.origin(rule)[0])])
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


def section(name: str, spelling: Mapping[str, Mapping[str, Mapping[str, str]]]) -> str:
    """One optimizer."""
    rule = get(name)
    lines = [f"## {rule.__name__}", facts.gist(rule), formula(rule), arguments(rule, name, spelling)]
    lines += [facts.BASE] if issubclass(rule, Wrapper) else []
    said = [f"slots: {slot_list(rule)}; memory: {facts.memory(rule)} per float32 parameter"]
    said += ["each step is given the loss, so not in Keras and Hugging Face"] if rule.needs_value else []
    said += [f"{name}: {linked(text)}" for name, text in facts.facts(rule).items()]
    return "\n\n".join([*lines, "\n".join(f"- {fact}" for fact in said)])


def optimizers(spelling: Mapping[str, Mapping[str, Mapping[str, str]]]) -> str:
    """docs/optimizers.md."""
    return "\n\n".join([HEAD, *(section(name, spelling) for name in NAMES)]) + "\n"
