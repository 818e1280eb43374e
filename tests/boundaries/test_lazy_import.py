"""A bare import costs nothing: no framework, no numba, no side effect, little time."""

from pathlib import Path

import pytest

from tests.boundaries.support import ADAPTERS, HEAVY, WATCH, fresh

BARE = {
    "import": "import scirs2_adapters",
    "names": "import scirs2_adapters as s2; assert s2.names()",
    "get": "import scirs2_adapters as s2; [s2.get(name) for name in s2.names()]",
    "core": "import scirs2_adapters.core",
    "adapters": "from scirs2_adapters.adapters import adapters; assert adapters()",
    "unknown name": "import scirs2_adapters as s2\ntry: s2.get('adamm')\nexcept ValueError: pass",
}


@pytest.mark.parametrize("code", BARE.values(), ids=BARE.keys())
def test_a_bare_import_loads_no_framework_and_no_numba(code: str) -> None:
    done = fresh(f"{code}\nimport sys\nprint(*sorted(set({HEAVY}) & set(sys.modules)))")
    assert done.stdout.split() == []


@pytest.mark.parametrize("flags", [("-W", "error"), ("-OO",)], ids=["warnings as errors", "without docstrings"])
def test_a_bare_import_works_under(flags: tuple[str, ...]) -> None:
    fresh("import scirs2_adapters as s2; [s2.get(name) for name in s2.names()]", *flags)


def test_a_bare_import_costs_under_a_fifth_of_a_second_beyond_numpy(tmp_path: Path) -> None:
    # CPU time, as wall time on a shared machine says more about its neighbours; and with bytecode, which an installed
    # package has: the first of these interpreters writes it, also where the environment forbids that.
    bytecode = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    code = """
import numpy, time
start = time.process_time()
import scirs2_adapters as s2
s2.names()
print(time.process_time() - start)"""
    assert min(float(fresh(code, **bytecode).stdout) for _ in range(5)) < 0.2


def test_a_bare_import_has_no_side_effect() -> None:
    done = fresh(f"import numpy\n{WATCH}\nimport scirs2_adapters as s2; s2.names()\nprint(*deeds, sep='\\n')", "-B")
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", ["names", "get", "__version__"])
def test_public_names_are_listed_before_they_are_used(name: str) -> None:
    fresh(f"import scirs2_adapters as s2; assert {name!r} in dir(s2) and {name!r} in s2.__all__; s2.{name}")


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    fresh("import scirs2_adapters as s2; assert not hasattr(s2, 'nothing_of_this_name')")


def test_there_are_adapters() -> None:
    assert {"torch", "tf", "jax", "hf", "sklearn"} <= set(ADAPTERS)
