"""An exported kernel is the package's own: called from C, it makes the same numbers."""

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from scirs2_adapters.commands.app import app
from scirs2_adapters.core import HostOptimizer, Rule, get, names
from scirs2_adapters.core.registry import with_closure, with_value
from scirs2_adapters.core.slots import Extent, Leaf
from scirs2_adapters.export import TARGETS, export

NUMBERS = 1001
CARRIERS = {"float64": "float64", "float32": "float32", "float16": "float16", "bfloat16": "uint16"}
EXAMPLES = Path(__file__).parents[2] / "examples" / "c"


def exportable(name: str) -> bool:
    """Whether an optimizer is of the kind that export promises to take: by what its slots and formula are."""
    rule = get(name)()
    slots, text = rule.slots(Leaf((8, 4))), rule.explain(Leaf((8, 4)))
    of_elements = all(s.extent in (Extent.FULL, Extent.TENSOR) for s in slots)
    return (
        of_elements
        and rule.sparse != "rows"
        and not any(word in text for word in ("norm(", "mean(", "total(", "matrix(", "sum("))
    )


def pointer(x: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.ctypes.data)


class Program:
    """What a C program has: the library, hyperparameters, and memory."""

    def __init__(self, library: Path, rule: Rule, p: np.ndarray, dtypes: dict[str, str]) -> None:
        fields = {k: f for k, f in rule.fields.items() if f.kind in (int, float) and not f.static}
        values = [getattr(rule, k) for k in fields if getattr(rule, k) is not None]
        self.hyper = (ctypes.c_double * len(values))(*values)
        self.p, self.library, self.name = p, ctypes.CDLL(str(library)), f"scirs2_{rule.name}"
        slots = rule.slots(Leaf(p.shape, dtypes["p"]))
        self.slots = [np.full(p.size if s.extent else 1, 77).astype(CARRIERS[dtypes[s.name]]) for s in slots]
        self.arrays = [p, *self.slots]
        self._function("begin")(*map(pointer, self.arrays), ctypes.c_int64(p.size), self.hyper)

    def _function(self, name: str) -> Any:
        return getattr(self.library, f"{self.name}_{name}")

    def step(self, g: np.ndarray, t: int) -> None:
        p, *slots = map(pointer, self.arrays)
        self._function("step")(p, pointer(g), *slots, ctypes.c_int64(self.p.size), self.hyper, ctypes.c_int64(t))


def walk(rule: Rule, dtypes: dict[str, str], library: Path, steps: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """The parameters after some steps, in C and in the package."""
    rng = np.random.default_rng(0)
    start = rng.standard_normal(NUMBERS).astype(CARRIERS[dtypes["p"]])
    params = {"w": start.copy()}
    host, program = HostOptimizer(rule, params), Program(library, rule, start.copy(), dtypes)
    for t in range(1, steps + 1):
        g = rng.standard_normal(NUMBERS).astype(CARRIERS[dtypes["g"]])
        host.step({"w": g})
        program.step(g, t)
    return program.p, params["w"]


def stored(rule: Rule, dtype: str) -> dict[str, str]:
    return dict.fromkeys(("p", "g", *(s.name for s in rule.slots(Leaf((NUMBERS,), dtype)))), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", names())
def test_steps_in_c_are_the_packages_to_the_bit(name: str, dtype: str, tmp_path: Path) -> None:
    rule = get(name)()
    if not exportable(name):
        with pytest.raises(ValueError, match=r"`export\(rule=...\)` must be an optimizer whose formula knows single"):
            export(rule, tmp_path)
        assert not list(tmp_path.iterdir())
        return
    dtypes = stored(rule, dtype)
    made = export(rule, tmp_path, list(dtypes.values()))
    assert made.library is not None, "a C compiler is on this machine's PATH"
    ours, theirs = walk(rule, dtypes, made.library)
    assert np.array_equal(ours, theirs)


def test_hyperparameters_of_the_program_act(tmp_path: Path) -> None:
    """The header has the defaults of the exported optimizer, and the program may change them at every step."""
    rule = get("adamw")(learning_rate=0.25, beta1=0.5, weight_decay=0.125)
    made = export(rule, tmp_path)
    assert "{0.25, 0.5, 0.999, 1e-08, 0.0, 0.125}" in made.header.read_text()
    other = rule.replace(learning_rate=0.5, beta2=0.75)
    ours, theirs = walk(other, stored(other, "float32"), made.library)
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_memory_of_16_bits(half: str, tmp_path: Path) -> None:
    rule = get("lion")()
    dtypes = stored(rule, "float32") | {"exp_avg": half}
    made = export(rule, tmp_path, list(dtypes.values()))
    rng, p = np.random.default_rng(0), np.zeros(NUMBERS, "float32")
    host = HostOptimizer(rule, {"w": (expected := p.copy())}, state_dtype=half)
    program = Program(made.library, rule, p, dtypes)
    for t in range(1, 9):
        g = rng.standard_normal(NUMBERS).astype("float32")
        host.step({"w": g})
        program.step(g, t)
    assert np.array_equal(program.p, expected)


@pytest.mark.parametrize("target", TARGETS)
def test_object_code_is_of_the_machine_that_was_asked_for(target: str, tmp_path: Path) -> None:
    made = export("lion", tmp_path / "new" / "folder", target=target)
    starts = {"wasm32": b"\0asm"}
    machines = {"native": None, "x86_64": 62, "aarch64": 183}  # by the ELF standard
    for path in made.objects:
        code = path.read_bytes()
        assert code.startswith(starts.get(target, b"\x7fELF"))
        if machines.get(target):
            assert int.from_bytes(code[18:20], "little") == machines[target]
    assert (made.library is not None) == (target in ("native", "wasm32"))


def test_the_example_learns_without_python(tmp_path: Path) -> None:
    made = export("adamw", tmp_path)
    compiler = shutil.which("cc")
    assert compiler, "a C compiler is on this machine's PATH"
    program = str(tmp_path / "train")
    files = [str(EXAMPLES / "train.c"), str(made.source), *map(str, made.objects)]
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-Wpedantic"]
    subprocess.run([compiler, *strict, "-O2", f"-I{tmp_path}", *files, "-lm", "-o", program], check=True)
    ran = subprocess.run([program], check=True, capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1].startswith("step 2000: loss 0.0")


def test_a_wrong_target_and_wrong_dtypes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`export\(target=...\)` must be one of native, x86_64, aarch64, wasm32"):
        export("adamw", tmp_path, target="sparc")
    with pytest.raises(ValueError, match=r"must be 4 of float64, .* for p, g, exp_avg, exp_avg_sq"):
        export("adamw", tmp_path, ["float32"])
    with pytest.raises(ValueError, match=r"must be 4 of float64"):
        export("adamw", tmp_path, ["float32"] * 3 + ["int8"])
    with pytest.raises(ValueError, match=r"must be float32 or float64 for a slot that does not begin with zeros"):
        export("ftrl", tmp_path, ["float32", "float32", "bfloat16", "float32"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [*with_closure(), *with_value()])
def test_what_needs_more_than_gradients_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`export\(rule=...\)` must be an optimizer that needs nothing but gradients"):
        export(name, tmp_path)
    assert not list(tmp_path.iterdir())


#: What is of the wrong type, and the argument that is named.
WRONG_TYPES: dict[str, dict[str, Any]] = {
    "rule": {"rule": 3},
    "a class": {"rule": type(get("adamw")())},
    "dtypes": {"dtypes": "float32"},
    "dtypes of numpy": {"dtypes": [np.dtype("float32")] * 3},
    "folder": {"folder": 3},
}


@pytest.mark.parametrize("wrong", WRONG_TYPES)
def test_a_wrong_type_is_named(wrong: str, tmp_path: Path) -> None:
    (argument,) = WRONG_TYPES[wrong]
    with pytest.raises(TypeError, match=rf"`export\({argument}=...\)` must be "):
        export(**{"rule": "lion", "folder": tmp_path} | WRONG_TYPES[wrong])
    assert not list(tmp_path.iterdir())


#: Arguments of `scirs2 export`, and how its message begins.
WRONG_WORDS = {
    "adamwx": "No optimizer is named `adamwx`. Did you mean `adamw`?",
    "sam": "`name` must be an optimizer that needs nothing but gradients",
    "muon": "`name` must be an optimizer whose formula knows single elements",
    "lion --target arm": "`--target` must be one of native, ",
    "lion --dtypes float32": "`--dtypes` must be 3 of float64, ",
    "lion --dtypes float16,float16,float16 --target wasm32": "`--dtypes` must be float32 or float64",
}


@pytest.mark.parametrize("typed", WRONG_WORDS)
def test_the_command_names_what_was_typed(typed: str, tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["export", *typed.split(), "-o", str(tmp_path / "new")])
    assert ran.exit_code == 1
    assert ran.stderr.startswith(WRONG_WORDS[typed])
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = CliRunner().invoke(app, ["export", "lion", "-o", str(tmp_path / "file")])
    assert ran.exit_code == 1
    assert ran.stderr.startswith(f"`--output` must be a folder that can be written. Received: '{tmp_path / 'file'}' (")


def test_what_a_compiler_says_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files for another compiler are there all the same."""
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho cc: no stdint.h >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"cc` cannot make libscirs2_lion.so .*: cc: no stdint.h"):
        export("lion", tmp_path / "made")
    assert {f.name for f in (tmp_path / "made").iterdir()} == {
        "scirs2_lion.h",
        "scirs2_lion.c",
        "scirs2_lion_kernel.o",
    }
