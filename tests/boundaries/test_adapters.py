"""An adapter loads its framework and no other, does nothing while being imported, and looks like its neighbours."""

import ast
import functools
import json
from typing import NamedTuple

import pytest

from tests.boundaries.support import (
    ADAPTERS,
    HEAVY,
    PACKAGE,
    WATCH,
    frameworks,
    fresh,
    imports,
    python_files,
    requirements,
)

each_adapter = pytest.mark.parametrize("adapter", ADAPTERS)

#: What the file of a framework's optimizer is called: by the framework's word for it.
FRAMEWORK_CLASS = {"optimizer", "transform", "estimators", "trainer"}
#: The files of an adapter and what each is for. What an adapter has no use for, it has no file for.
COMMON = {
    "__init__": "checks that the framework is there; the public list",
    "argument_names": "how the framework spells the core's arguments, as data",
    "ops": "the array operations, bound to the framework",
    "state": "memory in the framework's form, in and out by name",
    "dispatch": "which executor steps which parameter",
    "executors": "the ways to take a step",
    "portable": "the state out of the framework and in, as core/portable has it",
    "recording": "what an optimizer does, written down after each step",
    **dict.fromkeys(FRAMEWORK_CLASS, "what the framework calls an optimizer, made from a rule"),
}
#: Files that one adapter alone needs: (adapter, file) -> role.
EXTRA = {
    ("hf", "deepspeed"): "whether the Trainer or DeepSpeed makes the optimizer, and what is refused with DeepSpeed",
    ("hf", "callbacks"): "what is done between steps in every run with our optimizers",
    ("hf", "monitor"): "a callback that shows and logs what the optimizer does",
    ("hf", "optim_args"): "how the flat string of hyperparameters is read",
    ("hf", "targets"): "the linear layers that GaLore and APOLLO project, by the Trainer's arguments",
    ("hf", "presets"): "the names of transformers' own list that our rules serve, as data",
    **{(a, "monitor"): "what a step does in numbers: norms, rates, counts" for a in ("torch", "tf", "jax", "sklearn")},
    ("torch", "grouping"): "groups by patterns of parameter names",
    ("torch", "files"): "state dicts in torch's files and DeepSpeed's folders",
    ("jax", "files"): "states of optax in files of flax and orbax",
    ("tf", "files"): "states in Keras' files",
    ("jax", "optax_states"): "optax's own state classes, as data",
    ("tf", "gradients"): "TensorFlow's gradients of some rows, and whether a step is being compiled",
    ("sklearn", "fit"): "the fit loop of the linear estimators, whose counterparts in scikit-learn are compiled",
    ("sklearn", "steps"): "a step of a linear estimator: from a batch to a gradient, and what it is taken in",
    ("sklearn", "linear_classifier"): "the classifier: targets, losses, predictions",
    ("sklearn", "linear_regressor"): "the regressor: targets, losses, predictions",
    ("sklearn", "classes"): "classes and labels as targets, and back",
    ("sklearn", "losses"): "the losses of the linear estimators and their derivatives",
    ("sklearn", "penalties"): "the penalties of the linear estimators, and how l1 makes coefficients 0 under any rule",
    ("sklearn", "lazy_penalty"): "the penalty of coefficients that a batch of sparse rows does not touch",
    ("sklearn", "units"): "standardized units, which a linear estimator steps in by default",
    ("sklearn", "averages"): "means of coefficients over steps",
    ("sklearn", "backprop"): "a network's loss and gradients, by scikit-learn's formulas with fewer passes",
    ("sklearn", "callbacks"): "scikit-learn's callbacks, which older ones have not",
    ("sklearn", "rates"): "scikit-learn's words for how a learning rate changes, as schedules",
    ("sklearn", "network"): "what our networks have beside scikit-learn's: their constructor and their steps",
}


def framework_statements(adapter: str) -> str:
    """The framework imports that an adapter's files make when they are imported, as statements.

    What these load by themselves is the framework's doing (transformers may look at scikit-learn); the adapter is
    answerable for the rest.
    """
    roots = frameworks(adapter)
    lines = [f"import {name}" for name in requirements(adapter)["needs"]]
    for file in python_files(PACKAGE / "adapters" / adapter):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Import):
                lines += [f"import {a.name}" for a in node.names if a.name.split(".")[0] in roots]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in roots:
                lines.append(ast.unparse(node))
    return "\n".join(lines)


class Imported(NamedTuple):
    """What an adapter's import did, after its framework was there."""

    loaded: list[str]
    deeds: list[str]
    public: list[str]
    elsewhere: list[str]


@functools.cache
def imported(adapter: str) -> Imported:
    """As a fresh interpreter sees it."""
    done = fresh(
        f"""
{framework_statements(adapter)}
import importlib, json, sys
before = {{name.partition(".")[0] for name in sys.modules}}
{WATCH}
import scirs2_adapters.{adapter} as short
done = list(deeds)
loaded = sorted(({{name.partition(".")[0] for name in sys.modules}} - before) & set({HEAVY}))
adapter = importlib.import_module("scirs2_adapters.adapters.{adapter}")
public = sorted({{*short.__all__}} & {{*adapter.__all__}} & {{*dir(short)}})
elsewhere = [name for name in adapter.__all__ if getattr(short, name) is not getattr(adapter, name)]
print(json.dumps([loaded, done, public, elsewhere + sorted({{*short.__all__}} ^ {{*adapter.__all__}})]))""",
        "-B",
    )
    return Imported(*json.loads(done.stdout.splitlines()[-1]))


@each_adapter
def test_an_adapter_loads_its_own_framework_and_no_other(adapter: str) -> None:
    assert set(imported(adapter).loaded) <= set(frameworks(adapter))


@each_adapter
def test_importing_an_adapter_compiles_nothing(adapter: str) -> None:
    assert not {"numba", "llvmlite"} & set(imported(adapter).loaded)


@each_adapter
def test_importing_an_adapter_has_no_side_effect(adapter: str) -> None:
    assert imported(adapter).deeds == []


@each_adapter
def test_the_short_path_gives_the_same_objects(adapter: str) -> None:
    assert imported(adapter).public
    assert imported(adapter).elsewhere == []


@each_adapter
def test_static_analysers_can_follow_the_short_path(adapter: str) -> None:
    """A plain star import of the adapter, whose public list is written out or stands in a stub beside it."""
    star = ast.parse((PACKAGE / f"{adapter}.py").read_text()).body
    froms = [node for node in star if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"]
    assert [node.module for node in froms] == [f"scirs2_adapters.adapters.{adapter}"]
    folder = PACKAGE / "adapters" / adapter
    stub = folder / "__init__.pyi"
    listed = ast.parse((stub if stub.exists() else folder / "__init__.py").read_text()).body
    lists = [
        node.value for node in listed if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    assert len(lists) == 1
    assert ast.literal_eval(lists[0])


def modules(adapter: str) -> list[str]:
    """Names of the adapter's files and folders; a file that has outgrown a sitting is a folder of the same name."""
    folder = PACKAGE / "adapters" / adapter
    names = [file.stem for file in folder.glob("*.py")] + [file.parent.name for file in folder.glob("*/__init__.py")]
    return sorted(names)


@each_adapter
def test_no_module_is_both_a_file_and_a_folder(adapter: str) -> None:
    assert len(modules(adapter)) == len(set(modules(adapter)))


@each_adapter
def test_a_file_has_a_common_name_or_a_role_that_is_written_down(adapter: str) -> None:
    known = {*COMMON, *(name for owner, name in EXTRA if owner == adapter)}
    assert sorted(set(modules(adapter)) - known) == []


@each_adapter
def test_every_adapter_has_the_files_that_it_cannot_do_without(adapter: str) -> None:
    names = set(modules(adapter))
    assert names >= {"__init__", "argument_names", "state"}
    assert len(names & FRAMEWORK_CLASS) == 1


@pytest.mark.parametrize(("adapter", "name"), EXTRA)
def test_every_extra_file_exists(adapter: str, name: str) -> None:
    assert name in modules(adapter), f"EXTRA[{adapter!r}, {name!r}] can go"


def test_every_adapter_has_a_short_path() -> None:
    assert [adapter for adapter in ADAPTERS if not (PACKAGE / f"{adapter}.py").is_file()] == []


@each_adapter
def test_an_adapter_checks_its_framework_before_it_imports_it(adapter: str) -> None:
    """`require` stands above every import that could fail without the framework."""
    file = PACKAGE / "adapters" / adapter / "__init__.py"
    call = next(node for node in ast.walk(ast.parse(file.read_text())) if "require(" in ast.unparse(node)[:8])
    early = [name for line, name in imports(file) if line < call.lineno]
    assert [name for name in early if not name.startswith(("scirs2_adapters.core", "typing", "__future__"))] == []
