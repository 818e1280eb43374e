"""The structure of the package in numbers. `python -m tests.boundaries.imports` prints them, `test_imports.py` holds
them.

A file imports files of its own layer or of a lower one, and the imports form no circle. Imports inside functions and
under `TYPE_CHECKING` count, because a reader has to follow them too.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.boundaries.support import ADAPTERS, PACKAGE, imports, python_files
from tests.boundaries.test_sizes import code_lines

#: A file imports another one: both as paths below the package.
Edge = tuple[str, str]
Graph = dict[str, set[str]]

#: The layers of an adapter, lowest first. `test_adapters.py` says what each file is for.
ADAPTER_LAYERS = (
    ("argument_names", "optax_states", "rates", "presets", "optim_args"),
    ("ops",),
    ("state", "grouping", "losses", "classes", "penalties", "averages", "lazy_penalty", "targets", "units"),
    ("dispatch", "executors", "gradients", "fit", "steps", "network", "backprop", "deepspeed", "callbacks"),
    ("optimizer", "transform", "estimators", "linear_classifier", "linear_regressor", "trainer"),
    ("portable", "monitor"),
    ("files", "recording"),
    ("__init__",),
)
#: Adapters that build on another adapter, and so lie above it.
UPPER_ADAPTERS = {"hf": "the Trainer trains torch modules, so its optimizers are the torch adapter's"}

#: The layers of the package, lowest first, as beginnings of paths. The longest beginning that fits a file decides.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("core/",),
    ("core/program/",),
    ("core/rule.py", "core/wrapper.py", "core/routing.py", "core/registry.py"),
    ("core/optimizers/", "core/values/"),
    ("core/step/", "core/memory.py", "core/groups.py"),
    ("core/cpu/",),
    ("core/numpy_", "core/closures/"),
    ("core/execute/", "core/monitor/"),
    ("core/portable/",),
    ("core/__init__.py", "adapters/_names.py"),
    ("adapters/_xla/",),
    ("__init__.py", "adapters/__init__.py", "monitoring.py"),
    *(
        tuple(f"adapters/{a}/{n}" for a in ADAPTERS if a not in UPPER_ADAPTERS for n in names)
        for names in ADAPTER_LAYERS
    ),
    *(tuple(f"adapters/{a}/{n}" for a in UPPER_ADAPTERS for n in names) for names in ADAPTER_LAYERS),
    tuple(f"{adapter}.py" for adapter in ADAPTERS),
    ("export/", "state.py", "drift/", "check/", "serve/", "flower.py"),
    ("demo/",),
    ("report/",),
    ("commands/", "cli.py"),
)

#: Packages for users: their `__init__` may load a name when it is first asked for.
PUBLIC = ("", "core", *(f"adapters/{adapter}" for adapter in ADAPTERS))
#: What the `__init__` of a public package may define.
DOORS = {"__getattr__", "__dir__"}


def path(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


def modules() -> dict[str, str]:
    """Path of each file of the package by the name under which it is imported."""
    dotted = {path(file): f"scirs2_adapters/{path(file)}".removesuffix(".py") for file in python_files(PACKAGE)}
    return {name.removesuffix("/__init__").replace("/", "."): file for file, name in dotted.items()}


def graph() -> Graph:
    """Which files of the package each file imports."""
    files = modules()
    return {here: set(_targets(here, files)) for here in files.values()}


def _targets(here: str, files: dict[str, str]) -> Iterator[str]:
    for _, name in imports(PACKAGE / here):
        while name and name not in files:
            name = name.rpartition(".")[0]
        if name and files[name] != here:
            yield files[name]


def layer(file: str) -> int:
    """The height of a file."""
    fits = [(len(start), height) for height, starts in enumerate(LAYERS) for start in starts if file.startswith(start)]
    assert fits, f"{file} is in no layer: add it to LAYERS or ADAPTER_LAYERS"
    return max(fits)[1]


def upward(edges: Graph) -> list[Edge]:
    """Imports of a file of a higher layer."""
    return [(here, to) for here, targets in edges.items() for to in sorted(targets) if layer(to) > layer(here)]


def reachable(edges: Graph, start: str) -> set[str]:
    """Every file that a file imports, directly or through others."""
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        new = edges[waiting.pop()] - reached
        reached |= new
        waiting += new
    return reached


def circles(edges: Graph) -> list[list[str]]:
    """Groups of files each of which imports every other one of its group, directly or through others."""
    reach = {file: reachable(edges, file) for file in edges}
    groups = {tuple(sorted(to for to in reach[file] if file in reach[to])) for file in edges if file in reach[file]}
    return [list(group) for group in sorted(groups)]


def any_lines(file: Path) -> int:
    """How many lines of a file say `Any`, its import statements left out."""
    text = file.read_text()
    statements = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    importing = {line for node in statements for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    lines = enumerate(text.splitlines(), 1)
    return sum(1 for number, line in lines if number not in importing and re.search(r"\bAny\b", line))


def init_code(file: Path) -> list[str]:
    """What an `__init__` holds besides its docstring, re-exports and its list of public names."""
    package = path(file.parent) if file.parent != PACKAGE else ""
    statements = [
        node for node in ast.parse(file.read_text()).body if not isinstance(node, ast.Import | ast.ImportFrom)
    ]
    code = [node for node in statements if not _is_docstring(node) and not _assigns_all(node)]
    if package in PUBLIC:
        code = [node for node in code if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name not in DOORS]
    return [ast.unparse(node).splitlines()[0] for node in code]


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _assigns_all(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"


def by_folder(counts: dict[str, int]) -> Counter[str]:
    """Counts of files, added up by folder."""
    totals: Counter[str] = Counter()
    for file, count in counts.items():
        totals[file.rpartition("/")[0] or "."] += count
    return totals


def print_table(title: str, counts: dict[str, int]) -> None:
    totals = by_folder(counts)
    print(f"{title}: {totals.total()}")
    for folder in sorted(totals):
        print(f"  {totals[folder]:6} {folder}")


def report() -> None:
    """Print the numbers."""
    edges = graph()
    files = python_files(PACKAGE)
    circular, rising = circles(edges), upward(edges)
    print(f"files: {len(files)}")
    print(f"circles: {len(circular)}", *(f"  {' <-> '.join(group)}" for group in circular), sep="\n")
    print(f"upward imports: {len(rising)}", *(f"  {here} -> {to}" for here, to in rising), sep="\n")
    print_table("lines that say Any", {path(file): any_lines(file) for file in files})
    print_table("code lines", {path(file): len(code_lines(file.read_text())) for file in files})
    inits = {path(file): init_code(file) for file in files if file.name == "__init__.py"}
    holding = {name: code for name, code in inits.items() if code}
    print(
        f"__init__ files with code: {len(holding)}", *(f"  {name}: {code}" for name, code in holding.items()), sep="\n"
    )


if __name__ == "__main__":
    report()
