"""The tables of docs/catalogue.md, from the rules, the conformance table and what was measured, for generate.py.

Measured are docs/catalogue.json (`python -m benchmarks.catalogue`), docs/peers.json (`python -m tests.peers`) and
docs/accuracy.json (`python -m benchmarks.accuracy`). An optimizer that one of them does not have yet has an empty cell.
"""

from __future__ import annotations

import ast
import json
import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from catalogue_facts import FORMATS, refusals_of, state_bytes, wide_slots
from pages import table
from PIL import Image
from stubs import NAMES

from benchmarks.catalogue import ALLOWED, exceeds, shapes
from scirs2_adapters.core import get
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.slots import Leaf
from scirs2_adapters.demo.data import Settings
from scirs2_adapters.demo.report import TITLES as REPORTED
from tests.conformance.cells import PATHS, Cell, gap

ROOT = Path(__file__).resolve().parents[1]
#: The adapters in the order of the table.
TITLES = {"core": "numpy", **REPORTED}
WIDE = {
    "copy": "a copy of the parameter, which keeps its dtype",
    "average": "an average, which moves by less than few bits hold",
    "lossy": "8 bits would lose what it is for",
}

Letters = dict[str, str]


def data(name: str) -> dict[str, Any]:
    """One of the files of measurements."""
    file = ROOT / "docs" / name
    measurements: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return measurements


def link(name: str) -> str:
    return f"[{get(name).__name__}](optimizers.md#{name})"


def lettered(reason: str, letters: Letters) -> str:
    """The letter of a reason, a new one for a new reason."""
    return letters.setdefault(reason, chr(ord("a") + len(letters)))


def reasons(letters: Letters) -> str:
    return "\n".join(f"- {letter}: {reason}" for reason, letter in letters.items())


def works_on_matrices(name: str) -> bool:
    """Whether the formula has functions of whole matrices."""
    leaf = Leaf((8, 4), "float32", "weight")
    return any(node.op == "matrix" for node in record(get(name)().route(leaf), leaf).nodes)


def choice(measured: Mapping[str, Any], when: Mapping[str, str]) -> str:
    """Which one: what it is for, and what it costs."""
    rows = []
    for name in NAMES:
        row = measured.get(name)
        time = f"{row['ratio']:.2f}" if row else ""
        time = f"**{time}**" if row and exceeds(row) else time
        kind = "matrices" if works_on_matrices(name) else ""
        moved = [f"{row[key]:.2f}" if row else "" for key in ("bytes", "reads")]
        rows.append([link(name), when.get(name, ""), f"{state_bytes(name, None):.2f}", time, *moved, kind])
    return table(["optimizer", "when", "state", "time", "bytes", "reads", ""], rows)


def conditions(measured: Mapping[str, Any]) -> str:
    """On what the times were measured."""
    if not measured:
        return "Not measured yet."
    loads = [row["load"] for row in measured.values()]
    machines = "; ".join(dict.fromkeys(row["machine"] for row in measured.values()))
    dates = [row["date"] for row in measured.values()]
    numbers, days = sum(map(math.prod, shapes().values())), " to ".join(sorted({min(dates), max(dates)}))
    return (
        f"{numbers:,} numbers in {len(shapes())} tensors; bold above {ALLOWED} times the bytes and the reads. "
        f"Measured {days} on {machines}. Load averages were {min(loads)} to {max(loads)}."
    )


def places(cuda: Mapping[str, Mapping[str, str]]) -> str:
    """Where each runs."""
    letters: Letters = {}
    rows = [[link(name), *(place(name, a, letters) for a in TITLES), on_cuda(cuda[name], letters)] for name in NAMES]
    return "\n\n".join([table(["optimizer", *TITLES.values(), "CUDA"], rows), reasons(letters)])


def place(name: str, adapter: str, letters: Letters) -> str:
    """The paths of an adapter that step by this optimizer in float32."""
    gaps = {path: gap(Cell(name, adapter, path, "float32")) for path in PATHS}
    words = [{"host": "kernel"}.get(path, path) for path, g in gaps.items() if g is None]
    missing = sorted({lettered(g.reason, letters) for g in gaps.values() if g is not None})
    return ", ".join(words or ["no"]) + f" ({', '.join(missing)})" * bool(missing)


def on_cuda(obstacles: Mapping[str, str], letters: Letters) -> str:
    """Whether the generated kernel steps matrices and vectors."""
    missing = sorted({lettered(reason, letters) for reason in obstacles.values() if reason})
    if not missing:
        return "kernel"
    served = [{"matrix": "matrices", "vector": "vectors"}[k] for k, reason in obstacles.items() if not reason]
    return (f"kernel for {served[0]}" if served else "traced") + f" ({', '.join(missing)})"


def storage(refusals: Mapping[str, Mapping[str, Mapping[str, str]]]) -> str:
    """Which formats hold its memory, and which parameters it takes."""
    letters: Letters = {}
    head = ["optimizer", "float32", "bfloat16", "int8", "wide", *list(FORMATS)[2:]]
    rows = []
    for name in NAMES:
        states = [f"{state_bytes(name, dtype):.2f}" for dtype in (None, "bfloat16", "int8")]
        taken = [answer({a: by_rule[name].get(f, "") for a, by_rule in refusals.items()}, letters) for f in FORMATS]
        for k in (0, 1):
            states[k + 1] += "" if taken[k] == "yes" else f", {taken[k]}"
        wide = ", ".join(f"`{s}` ({lettered(WIDE[why], letters)})" for s, why in wide_slots(name).items())
        rows.append([link(name), *states, wide, *taken[2:]])
    return "\n\n".join([table(head, rows), reasons(letters)])


def answer(by_adapter: Mapping[str, str], letters: Letters) -> str:
    """Who takes a format: all, none, or all but some."""
    refused = {adapter: by_adapter[adapter] for adapter in TITLES if by_adapter.get(adapter)}
    if not refused:
        return "yes"
    marks = ", ".join(sorted({lettered(requirement(text), letters) for text in refused.values()}))
    everywhere = len(refused) == len(by_adapter)
    return f"no ({marks})" if everywhere else f"not in {', '.join(map(TITLES.__getitem__, refused))} ({marks})"


def requirement(text: str) -> str:
    """An error of ours without the call that it is about and the value that came."""
    return re.sub(r"^`[^`]*`\s*", "", text).partition(" Received:")[0].rstrip(".")


def proof(seen: Mapping[str, Any], accuracy: Mapping[str, Any]) -> str:
    """What each is held to, and the gaps."""
    rows = []
    for name in NAMES:
        twin = f"tests/reference/{name}.py"
        peers = seen.get("optimizers", {}).get(name, {})
        gaps = [f"{peer} {comparison['gap']:.0e}" for peer, comparison in peers.items() if peer != twin]
        gaps += [f"{framework}: {why}" for framework, why in seen.get("elsewhere", {}).get(name, {}).items()]
        twin_gap = f"{peers[twin]['gap']:.0e}" if twin in peers else ""
        rows.append([link(name), twin_gap, "; ".join(gaps), recorded(ROOT / twin), digits(accuracy.get(name))])
    versions = ", ".join(f"{name} {version}" for name, version in seen.get("versions", {}).items())
    made = f"Peers are those of {versions}. Digits after {Settings('').steps} steps."
    return f"{table(['optimizer', 'twin', 'peers', 'other packages', 'digits'], rows)}\n\n{made}"


def recorded(twin: Path) -> str:
    """What the twin's docstring says of another package that walks with it."""
    text = " ".join((ast.get_docstring(ast.parse(twin.read_text())) or "").split())
    said = [part for part in re.split(r"(?<=[a-z0-9)])\.\s(?=[A-Z])", text) if re.search(r"[Ww]alks with", part)]
    return " ".join(part.rstrip(".") + "." for part in said)


def digits(row: Mapping[str, Any] | None) -> str:
    """The accuracies of all adapters, one number where they agree; their gap, and in parentheses that of rounding."""
    accuracies = row["accuracy"].values() if row else ()
    if not row or not accuracies:  # not trained, or a run that did not end
        return ""
    shown = dict.fromkeys(f"{x:.1%}" for x in (min(accuracies), max(accuracies)))
    return f"{' to '.join(shown)}, {row['gap']:.0e} ({row['rounding']:.0e})"


def parts(refusals: Mapping[str, Any], cuda: Mapping[str, Any]) -> dict[str, str]:
    """The generated parts by the name of their markers, from what the adapters' processes have said."""
    measured, when = data("catalogue.json"), tomllib.loads((ROOT / "docs/when.toml").read_text())
    refused = {"core": refusals_of("core"), **refusals}
    return {
        "choice": choice(measured, when),
        "conditions": conditions(measured),
        "places": places(cuda),
        "storage": storage(refused),
        "proof": proof(data("peers.json"), data("accuracy.json")),
    }


def drawn() -> list[str]:
    """The optimizers in the figure, whose file names them."""
    with Image.open(ROOT / "docs/catalogue.png") as figure:
        return str(figure.info.get("optimizers", "")).split()


def missing() -> list[str]:
    """What optimizers have not yet: lines of when.toml, measurements and a place in the figure."""
    when, peers = tomllib.loads((ROOT / "docs/when.toml").read_text()), data("peers.json").get("optimizers", {})
    dense = [name for name in NAMES if get(name).sparse != "rows" and not get(name).needs_value]
    wanted = {"when.toml": (NAMES, when), "catalogue.json": (NAMES, data("catalogue.json"))}
    wanted |= {"peers.json": (NAMES, peers), "accuracy.json": (dense, data("accuracy.json"))}
    wanted |= {"catalogue.png": (NAMES, drawn())}
    lacking = {file: [n for n in names if n not in present] for file, (names, present) in wanted.items()}
    return [f"docs/{file} lacks {', '.join(names)}." for file, names in lacking.items() if names]
