"""What the boundary tests share: where things are, a fresh interpreter, and the import statements of a file.

A boundary is tested in an interpreter of its own, as this one has loaded frameworks for other tests already.
"""

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from scirs2_adapters.adapters import adapters

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "scirs2_adapters"
ADAPTERS = adapters()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

#: Import names of everything that a bare import must not load.
HEAVY = ("torch", "tensorflow", "keras", "jax", "optax", "transformers", "accelerate", "sklearn", "numba", "llvmlite")

#: The distribution behind an import name, where the two differ.
DISTRIBUTIONS = {"sklearn": "scikit-learn"}

#: Installed before an adapter is imported, after its framework: every audited deed from then on is the adapter's own.
WATCH = """
import os, sys
def watch(event, args):
    if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        deeds.append(f"opens {args[0]} for writing")
    if event in ("os.putenv", "os.unsetenv", "socket.connect", "_thread.start_new_thread", "subprocess.Popen"):
        deeds.append(event)
deeds = []
sys.addaudithook(watch)
"""


def fresh(code: str, *flags: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a new interpreter that sees this tree; with `check`, fail with its error output if it fails."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **env}
    command = [sys.executable, *flags, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/", timeout=300, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of an interpreter's error output: the exception that ended it."""
    return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""


def python_files(*roots: Path) -> list[Path]:
    """Python files under the given folders, hidden and cached ones left out."""
    files = [file for root in roots for file in ([root] if root.is_file() else sorted(root.rglob("*.py")))]
    return [
        file for file in files if not any(part.startswith((".", "__pycache__")) for part in relative(file).split("/"))
    ]


def relative(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of each import in a file, those inside functions and `TYPE_CHECKING` included."""
    here = relative(file).removesuffix(".py").split("/")
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join([*here[: len(here) - node.level], node.module or ""]).strip(".") if node.level else node.module
            )
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def requirements(adapter: str) -> dict[str, dict[str, tuple[str, str]]]:
    """The `needs` and `indirect` tables an adapter hands to `require`, read without importing the adapter."""
    tree = ast.parse((PACKAGE / "adapters" / adapter / "__init__.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _name(node.func) == "require"]
    assert len(calls) == 1, f"{adapter}/__init__.py should call require() once, before it imports its framework"
    named = {word.arg: word.value for word in calls[0].keywords}
    assert ast.literal_eval(calls[0].args[0]) == adapter, f"{adapter}/__init__.py asks require() for another adapter"
    indirect = ast.literal_eval(named["indirect"]) if "indirect" in named else {}
    return {"needs": ast.literal_eval(calls[0].args[1]), "indirect": indirect}


def frameworks(adapter: str) -> dict[str, tuple[str, str]]:
    """Import names of the frameworks an adapter may use, with their name for people and the oldest version."""
    tables = requirements(adapter)
    return {**tables["needs"], **tables["indirect"]}


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")
