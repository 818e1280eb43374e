"""A room loads its own framework and no other's, does nothing while being imported, and looks like its neighbours."""

import ast
import functools

import pytest

from tests.boundaries.support import (
    HEAVY,
    PACKAGE,
    ROOMS,
    WATCH,
    frameworks,
    fresh,
    imports,
    python_files,
    requirements,
)

each_room = pytest.mark.parametrize("room", ROOMS)
PRINT_HEAVY = f"import sys; print(*sorted(set({HEAVY}) & set(sys.modules)))"


def framework_statements(room: str) -> str:
    """The framework imports that a room's files make when they are imported, as statements.

    What these load by themselves is the framework's doing (transformers may look at scikit-learn); the room is
    answerable for the rest.
    """
    own = frameworks(room)
    lines = [f"import {name}" for name in requirements(room)["needs"]]
    for file in python_files(PACKAGE / "adapters" / room):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Import):
                lines += [f"import {a.name}" for a in node.names if a.name.split(".")[0] in own]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in own:
                lines.append(ast.unparse(node))
    return "\n".join(lines)


@functools.cache
def loaded(code: str) -> frozenset[str]:
    """Which heavy modules are there after `code`, in a fresh interpreter."""
    return frozenset(fresh(f"{code}\n{PRINT_HEAVY}").stdout.split())


@each_room
def test_a_room_loads_its_own_framework_and_no_other(room: str) -> None:
    assert loaded(f"import scirs2_adapters.{room}") <= loaded(framework_statements(room)) | set(frameworks(room))


@each_room
def test_importing_a_room_compiles_nothing(room: str) -> None:
    assert not {"numba", "llvmlite"} & loaded(f"import scirs2_adapters.{room}")


@each_room
def test_importing_a_room_has_no_side_effect(room: str) -> None:
    code = f"{framework_statements(room)}\n{WATCH}\nimport scirs2_adapters.{room}\nprint(*deeds, sep='\\n')"
    assert fresh(code, "-B").stdout.strip() == ""


@each_room
def test_the_short_path_gives_the_same_objects(room: str) -> None:
    fresh(f"""
import scirs2_adapters.{room} as short, scirs2_adapters.adapters.{room} as room
assert short.__all__ == room.__all__ and room.__all__
assert all(getattr(short, name) is getattr(room, name) for name in room.__all__)
assert set(room.__all__) <= set(dir(short))""")


@each_room
def test_static_analysers_can_follow_the_short_path(room: str) -> None:
    """A plain star import of the room, whose public list is written out or stands in a stub beside it."""
    star = ast.parse((PACKAGE / f"{room}.py").read_text()).body
    froms = [node for node in star if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"]
    assert [node.module for node in froms] == [f"scirs2_adapters.adapters.{room}"]
    folder = PACKAGE / "adapters" / room
    stub = folder / "__init__.pyi"
    listed = ast.parse((stub if stub.exists() else folder / "__init__.py").read_text()).body
    lists = [
        node.value for node in listed if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    assert len(lists) == 1
    assert ast.literal_eval(lists[0])


def test_every_room_has_the_same_modules() -> None:
    """Under the same names; one that has outgrown a file is a package of that name."""
    folders = {room: PACKAGE / "adapters" / room for room in ROOMS}
    modules = {room: {path.parent.stem for path in folder.glob("*/__init__.py")} for room, folder in folders.items()}
    for room, folder in folders.items():
        assert modules[room].isdisjoint({path.stem for path in folder.glob("*.py")})
        modules[room] |= {path.stem for path in folder.glob("*.py*")}
    assert len({frozenset(names) for names in modules.values()}) == 1, modules


def test_every_room_has_a_short_path() -> None:
    assert [room for room in ROOMS if not (PACKAGE / f"{room}.py").is_file()] == []


@each_room
def test_a_room_checks_its_framework_before_it_imports_it(room: str) -> None:
    """`require` stands above every import that could fail without the framework."""
    file = PACKAGE / "adapters" / room / "__init__.py"
    call = next(node for node in ast.walk(ast.parse(file.read_text())) if "require(" in ast.unparse(node)[:8])
    early = [name for line, name in imports(file) if line < call.lineno]
    assert [name for name in early if not name.startswith(("scirs2_adapters.core", "typing", "__future__"))] == []
