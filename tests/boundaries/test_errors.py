"""The error templates, by themselves."""

import sys
import types

import numpy as np
import pytest

from scirs2_adapters.core.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    MissingExtraError,
    bad_type,
    bad_value,
    did_you_mean,
    require,
)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    made = types.ModuleType("a_framework")
    monkeypatch.setitem(sys.modules, "a_framework", made)
    return made


def test_a_wrong_value_names_argument_requirement_and_what_came() -> None:
    error = bad_value("AdamW", "betas[1]", "must be in [0, 1)", 1.5)
    assert isinstance(error, ArgumentValueError)
    assert isinstance(error, ValueError)
    assert str(error) == "`AdamW(betas[1]=...)` must be in [0, 1). Received: 1.5."


def test_a_wrong_type_shows_the_type() -> None:
    error = bad_type("Lion", "lr", "must be a number", "fast")
    assert isinstance(error, ArgumentTypeError)
    assert isinstance(error, TypeError)
    assert str(error) == "`Lion(lr=...)` must be a number. Received: 'fast' (str)."


def test_the_way_out_comes_last() -> None:
    error = bad_value("AdamW", "kernel", "must be able to run", "host", 'Use kernel="traced".')
    assert str(error).endswith(" Received: 'host'. Use kernel=\"traced\".")


def test_an_array_is_described_and_not_printed() -> None:
    assert "an array of shape (2, 3) and dtype float64" in str(bad_value("step", "grads", "must fit", np.zeros((2, 3))))


def test_what_came_is_shown_on_one_short_line() -> None:
    shown = str(bad_value("step", "grads", "must fit", list(range(1000))))
    assert len(shown) < 200
    assert shown.endswith("....")


@pytest.mark.parametrize(("name", "suggestion"), [("adamm", "adam"), ("ADAMW", "adamw"), ("loin", "lion")])
def test_a_misspelled_name_is_recognised(name: str, suggestion: str) -> None:
    assert did_you_mean(name, ["adam", "adamw", "lion"]) == f" Did you mean `{suggestion}`?"


def test_a_name_like_none_gets_no_guess() -> None:
    assert did_you_mean("zzz", ["adam", "lion"]) == ""


@pytest.mark.parametrize("version", ["2.6", "2.6.0", "2.6.0+cpu", "2.6.0rc1", "2.10", "3", "2.6.0.dev20250101"])
def test_a_version_at_or_above_the_floor_is_accepted(module: types.ModuleType, version: str) -> None:
    module.__version__ = version
    require("torch", {"a_framework": ("A Framework", "2.6")})


@pytest.mark.parametrize("version", ["2.5.1", "1.13", "2", "0.0.1+cpu"])
def test_a_version_below_the_floor_is_refused(module: types.ModuleType, version: str) -> None:
    module.__version__ = version
    with pytest.raises(
        MissingExtraError, match=rf"needs A Framework 2\.6 or newer\. Found: {version.replace('+', '.')}"
    ):
        require("torch", {"a_framework": ("A Framework", "2.6")})


def test_a_framework_that_hides_its_version_is_trusted(module: types.ModuleType) -> None:
    require("torch", {"a_framework": ("A Framework", "2.6")})


def test_a_missing_backend_is_named_although_it_is_never_imported_here(monkeypatch: pytest.MonkeyPatch) -> None:
    class Host:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "a_host":
                raise ModuleNotFoundError("No module named 'a_backend'", name="a_backend")

    monkeypatch.setattr(sys, "meta_path", [Host(), *sys.meta_path])
    with pytest.raises(MissingExtraError, match="needs A Backend, which is not installed") as caught:
        require("tf", {"a_host": ("A Host", "1")}, indirect={"a_backend": ("A Backend", "1")})
    assert caught.value.name == "a_backend"
