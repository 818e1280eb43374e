"""Pickles name the module that users import from, and those that version 0.1 wrote still load."""

import importlib
import pickle
import pickletools
import re
import sys

import pytest
from sklearn.base import BaseEstimator

from scirs2_adapters.adapters._names import OLD_MODULES
from scirs2_adapters.sklearn import LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor
from tests.boundaries.support import fresh

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def fitted(cls: type[BaseEstimator]) -> BaseEstimator:
    return cls(max_iter=3).fit([[0.0], [1.0]] * 20, [0, 1] * 20)


def modules_named_in(pickled: bytes) -> set[str]:
    texts = [str(argument).split(" ")[0] for _, argument, _ in pickletools.genops(pickled) if argument]
    return {text for text in texts if re.fullmatch(r"scirs2_adapters[\w.]*", text)}


@pytest.mark.parametrize("cls", [LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor])
def test_a_pickle_names_the_public_module(cls: type[BaseEstimator]) -> None:
    modules = modules_named_in(pickle.dumps(fitted(cls)))
    assert {module for module in modules if ".core" not in module} == {"scirs2_adapters.sklearn"}


@pytest.mark.parametrize(("old", "new"), OLD_MODULES["sklearn"].items())
def test_an_old_name_finds_the_new_module(old: str, new: str) -> None:
    package = "scirs2_adapters.adapters.sklearn"
    assert importlib.import_module(f"{package}.{old}") is sys.modules[f"{package}.{new}"]


def test_what_version_0_1_pickled_loads_in_a_fresh_process() -> None:
    """The pickle names the old modules; the process that loads it has imported nothing."""
    old, adapter = pickle.dumps(fitted(LinearRegressor), protocol=0), b"cscirs2_adapters.adapters.sklearn."
    for name, module in {b"LinearRegressor": b"native", b"Units": b"paths.units", b"Stepper": b"state"}.items():
        old = old.replace(b"cscirs2_adapters.sklearn\n" + name, adapter + module + b"\n" + name)
    assert {name.rpartition("sklearn.")[2] for name in modules_named_in(old)} >= {"native", "paths.units", "state"}
    code = f"import pickle; print(type(pickle.loads({old!r})).__module__)"
    assert fresh(code).stdout.strip() == "scirs2_adapters.sklearn"
