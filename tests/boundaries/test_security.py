"""The package runs no code that comes from data: no pickle, no eval or exec of input, no unguarded torch.load."""

import ast
from pathlib import Path

import pytest

from tests.boundaries.support import PACKAGE, ROOT, imports, python_files, relative

UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "jsonpickle"}
#: They make and read a pickle of an optimizer that they are given, to see whether it goes on: no data from elsewhere.
CHECKING = {"scirs2_adapters/check/checks/state.py", "scirs2_adapters/check/drivers/sklearn.py"}
#: It writes a file in torch's format, whose head is a pickle, and reads none.
WRITING = "scirs2_adapters/adapters/torch/files/streaming.py"
#: Its user gives it the address to call.
CLIENT = "scirs2_adapters/serve/client.py"
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}

#: (file, call) -> why it is safe there. A line that is no longer needed must go.
GENERATED = "runs the text of a kernel, generated from a rule's own declaration; no file, state or argument reaches it"
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("scirs2_adapters/core/cpu/kernel.py", "exec"): GENERATED,
    ("scirs2_adapters/core/cpu/kernel.py", "compile"): GENERATED,
    ("scirs2_adapters/adapters/torch/executors/cuda.py", "exec"): GENERATED,
    ("scirs2_adapters/adapters/torch/executors/cuda.py", "compile"): GENERATED,
}

FILES = python_files(PACKAGE)


def calls(file: Path) -> list[tuple[str, ast.Call]]:
    nodes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    return [(ast.unparse(node.func).removeprefix("builtins."), node) for node in nodes]


def unsafe_calls() -> set[tuple[str, str]]:
    """Builtins that run text. A method of such a name (`re.compile`, `model.eval`) is another matter."""
    return {(relative(file), name) for file in FILES for name, _ in calls(file) if name in UNSAFE_CALLS}


def test_nothing_is_pickled() -> None:
    imported = [(relative(file), line, name) for file in FILES for line, name in imports(file)]
    unsafe = {file for file, _, name in imported if name.split(".")[0] in UNSAFE_MODULES}
    assert unsafe == {*CHECKING, WRITING}


def test_what_writes_a_pickle_reads_none() -> None:
    assert not [name for name, _ in calls(ROOT / WRITING) if "load" in name.lower() or "Unpickler" in name]


def test_no_text_is_run_as_code() -> None:
    assert sorted(unsafe_calls() - EXCEPTIONS.keys()) == []


def test_every_exception_is_still_needed() -> None:
    assert sorted(EXCEPTIONS.keys() - unsafe_calls()) == []


def test_tensors_are_loaded_as_weights_only() -> None:
    loads = [(relative(file), node) for file in FILES for name, node in calls(file) if name == "torch.load"]
    for where, node in loads:
        safe = {word.arg: ast.unparse(word.value) for word in node.keywords}
        assert safe.get("weights_only") == "True", f"{where}:{node.lineno}"


def test_arrays_are_loaded_without_objects() -> None:
    loads = [
        (relative(file), node) for file in FILES for name, node in calls(file) if name in ("np.load", "numpy.load")
    ]
    for where, node in loads:
        assert all(word.arg != "allow_pickle" for word in node.keywords), f"{where}:{node.lineno}"


@pytest.mark.parametrize("module", ["requests", "httpx", "urllib.request", "http.client", "socket"])
def test_the_package_calls_nobody(module: str) -> None:
    imported = [(relative(file), name) for file in FILES if relative(file) != CLIENT for _, name in imports(file)]
    assert [row for row in imported if f"{row[1]}.".startswith(f"{module}.")] == []


def test_the_client_is_still_the_exception() -> None:
    assert "http.client" in [name for _, name in imports(PACKAGE / "serve/client.py")]
