"""A difference that no list has: values of hyperparameters, found from the step that they make."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scirs2_adapters.core.portable.state import loaded
from scirs2_adapters.core.portable.state import save as save_state
from scirs2_adapters.drift import compare

from .test_drift import Arrays, HostOptimizer, ran, said


def silent(folder: Path) -> Path:
    """The recording, of an optimizer that does not say its hyperparameters, as optax's do not."""
    for path in [*folder.iterdir()]:
        with loaded("test", path) as found:
            save_state(replace(found, config={}), path)
    return folder


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("adam", {"beta2": 0.95}, ["has beta2=0.95, where the other has 0.999 (found by search)"]),
        ("adam", {"beta1": 0.8, "beta2": 0.99}, ["beta1=0.8", "beta2=0.99"]),
        ("adamw", {"weight_decay": 0.03}, ["weight_decay=0.03"]),
        ("adam", {"learning_rate": 3.3e-3}, ["learning_rate=0.0033"]),
        ("adam", {"eps": 2e-3}, ["eps=0.002"]),
        ("lion", {"beta2": 0.92, "learning_rate": 5e-4}, ["beta2=0.92", "learning_rate=0.0005"]),
        ("sgd", {"momentum": 0.7}, ["momentum=0.7"]),
    ],
)
def test_values_are_found_where_nobody_says_them(
    name: str, values: dict[str, float], words: list[str], tmp_path: Path
) -> None:
    common = {"momentum": 0.9} if name == "sgd" else {}
    a, b = ran(tmp_path / "a", name, **common), silent(ran(tmp_path / "b", name, **{**common, **values}))
    found = compare(a, b)
    assert all(word in said(found) for word in words), str(found)


def test_what_no_value_makes_is_not_explained(tmp_path: Path) -> None:
    def moved(step: int, optimizer: HostOptimizer, grads: Arrays) -> None:
        if step == 2:
            optimizer.params["w"] += 0.01

    found = compare(ran(tmp_path / "a"), silent(ran(tmp_path / "b", change=moved)))
    assert (found.step, found.quantity, found.explanations) == (2, "param", [])
    assert "No known difference makes this step." in str(found)
