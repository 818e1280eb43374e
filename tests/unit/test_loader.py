"""The loader of object code: files as LLVM makes them run as by its own loader, and all others are left to that."""

import ctypes
import math
import platform
import sys
from typing import Any

import llvmlite.binding as llvm
import pytest

from scirs2_adapters.core.cpu import compile, loader
from tests.boundaries.support import fresh

#: Before tests/conftest.py makes it an error.
BY_LLVM = compile._link_by_llvm
pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or platform.machine() != "x86_64",
    reason="strict: it loads code of x86-64 on Linux alone, and leaves all other to LLVM",
)

COS = """
declare double @cos(double)
define double @f(double %x) {
  %y = call double @cos(double %x)
  ret double %y
}"""
TABLE = """
@table = private constant [4 x double] [double 1.0, double 2.5, double -3.0, double 7.0]
define double @f(double %x) {
  %i = fptosi double %x to i64
  %p = getelementptr [4 x double], ptr @table, i64 0, i64 %i
  %y = load double, ptr %p
  ret double %y
}"""
INNER = """
define internal double @inner(double %x) noinline optnone {
  %y = fmul double %x, 3.0
  ret double %y
}
define double @f(double %x) {
  %y = call double @inner(double %x)
  ret double %y
}"""
COUNTER = """
@count = global double 0.0
define double @f(double %x) {
  %y = load double, ptr @count
  %z = fadd double %x, %y
  store double %z, ptr @count
  ret double %z
}"""
UNKNOWN = COS.replace("@cos", "@scirs2_no_such_function")


def emitted(text: str, triple: str = "", **options: Any) -> bytes:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple(triple or llvm.get_process_triple())
    machine = target.create_target_machine(opt=2, **{"jit": True, "codemodel": "jitdefault", **options})
    module = llvm.parse_assembly(f'target triple = "{target.triple}"\n{text}')
    return bytes(machine.emit_object(module))


@pytest.mark.parametrize(
    ("text", "expected"),
    [(COS, math.cos), (TABLE, lambda x: [1.0, 2.5, -3.0, 7.0][int(x)]), (INNER, lambda x: 3.0 * x)],
    ids=["a function of the process", "constants", "a function of the file"],
)
def test_code_runs(text: str, expected: Any) -> None:
    address = loader.address(emitted(text), "f")
    assert address is not None
    function = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(address)
    assert [function(x) for x in (0.0, 1.0, 3.0)] == [expected(x) for x in (0.0, 1.0, 3.0)]


def test_variables_begin_at_0_and_are_kept_between_calls() -> None:
    address = loader.address(emitted(COUNTER), "f")
    assert address is not None
    function = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(address)
    assert [function(x) for x in (1.0, 2.0, 3.0)] == [1.0, 3.0, 6.0]


@pytest.mark.parametrize("name", ["driver.worker", "driver.drive", "xla_handler.handler", "tf_handler.handler"])
def test_code_that_no_rule_makes_is_loaded_without_llvm(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function = loader._function
    monkeypatch.setattr(loader, "_function", lambda name: 1 if name.startswith("TF_") else function(name))
    monkeypatch.setattr(compile, "_addresses", {})
    monkeypatch.delattr(compile, "_link_by_llvm")
    assert compile._address_of.__wrapped__(*name.split("."), 2 if name.startswith("tf") else 1)


def test_a_file_is_in_memory_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # Else threads that are the first at once have two handlers, and the plans are known to one of them.
    monkeypatch.setattr(compile, "_addresses", {})
    code = emitted(COUNTER)
    assert compile._link("f", code) == compile._link("f", code)


def test_foreign_calls_are_ready_without_the_compiler() -> None:
    modules = ("xla_calls", "tf_calls", "batch_step", "traced_step")
    lines = [f"import scirs2_adapters.core.cpu.{name}" for name in modules]
    fresh("\n".join([*lines, "import sys", "assert not {'numba', 'llvmlite'} & set(sys.modules)"]))


@pytest.mark.parametrize(
    "code",
    {
        "an unknown function": lambda: emitted(UNKNOWN),
        "another processor": lambda: emitted(COS, "aarch64-unknown-linux-gnu"),
        "another system": lambda: emitted(COS, "x86_64-apple-darwin"),
        "relocations by a table of addresses": lambda: emitted(COS, jit=False, reloc="pic", codemodel="small"),
        "no function of this name": lambda: emitted(COS.replace("@f", "@g")),
        "half a file": lambda: emitted(COS)[:-200],
        "nothing": lambda: b"",
        "no object file": lambda: b"\x7fELF" + bytes(200),
    }.items(),
    ids=lambda case: case[0],
)
def test_what_it_does_not_know_is_left_to_llvm(code: Any) -> None:
    assert loader.address(code[1](), "f") is None


def test_a_file_that_it_does_not_know_runs_by_llvm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "address", lambda code, symbol: None)
    monkeypatch.setattr(compile, "_link_by_llvm", BY_LLVM)
    address = compile._link("scirs2_test_cos", emitted(COS.replace("@f", "@scirs2_test_cos")))
    assert ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(address)(1.0) == math.cos(1.0)


def test_memory_that_may_not_run_code_leaves_it_to_llvm(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(base: int, size: int, protection: int) -> None:
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(loader, "_protect", refused)
    assert loader.address(emitted(COS), "f") is None


def mapped() -> dict[range, str]:
    """The memory of this process, and what may be done there."""
    with open("/proc/self/maps") as file:
        rows = [line.split() for line in file]
    return {range(*(int(x, 16) for x in row[0].split("-"))): row[1] for row in rows}


def test_code_cannot_be_written_and_data_cannot_run() -> None:
    """Memory of other compilers in this process may be both."""
    code = emitted(TABLE)
    before = {region for region, rights in mapped().items() if {"w", "x"} <= set(rights)}
    address = loader.address(code, "f")
    assert address is not None
    after = mapped()
    assert [rights for region, rights in after.items() if address in region] == ["r-xp"]
    assert {region for region, rights in after.items() if {"w", "x"} <= set(rights)} <= before


def test_the_processor_is_that_of_the_system() -> None:
    known = loader.processor()
    assert known is not None
    assert "\n" not in known
    assert ("avx2" in known) == ("+avx2" in llvm.get_host_cpu_features().flatten())
