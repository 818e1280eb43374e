"""A difference that no list has: values of hyperparameters, found from the step that they make."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scirs2_adapters.core.portable.state import loaded
from scirs2_adapters.core.portable.state import save as save_state
from scirs2_adapters.drift import compare

from .test_drift import Arrays, HostOptimizer, ran, said


def silent(folder: Path) -> Path:
    """The recording, of an optimizer that does not say its hyperparameters, as optax's do not."""
    for path in [*folder.iterdir()]:
        with loaded("test", path) as recorded:
            save_state(replace(recorded, config={}), path)
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
    drift = compare(a, b)
    assert all(word in said(drift) for word in words), str(drift)


def test_where_only_the_second_run_says_its_values_the_first_is_explained(tmp_path: Path) -> None:
    a, b = silent(ran(tmp_path / "a", size=1e-4)), ran(tmp_path / "b", size=1e-4, eps=1e-5)
    drift = compare(a, b)
    assert (drift.step, drift.quantity) == (1, "param")
    assert drift.explanations[0] == (
        "is the one whose formula and hyperparameters are known; A has eps=1e-08, the default, "
        "where the other has 1e-05"
    )


def test_what_no_value_makes_is_not_explained(tmp_path: Path) -> None:
    def moved(step: int, optimizer: HostOptimizer, grads: Arrays) -> None:
        if step == 2:
            optimizer.params["w"] += 0.01

    drift = compare(ran(tmp_path / "a"), silent(ran(tmp_path / "b", change=moved)))
    assert (drift.step, drift.quantity, drift.explanations) == (2, "param", [])
    assert "No known difference makes this step." in str(drift)


def test_a_gradient_that_is_clipped_inside_the_optimizer_is_seen(tmp_path: Path) -> None:
    """And is no other beta, which would explain the first step as well as two numbers can."""
    norms: list[float] = []

    def clipped(step: int, optimizer: HostOptimizer, grads: Arrays) -> None:
        norms.append(float(np.sqrt(sum(np.sum(g.astype(float) ** 2) for g in grads.values()))))

    def swapped(folder: Path) -> Path:
        """The gradients as they were before the optimizer clipped them."""
        for ours, theirs in zip(sorted(folder.iterdir()), sorted((tmp_path / "a").iterdir()), strict=True):
            with loaded("test", ours) as recorded, loaded("test", theirs) as whole:
                grads = {n: p.slots.get("grad") for n, p in whole.parameters.items()}
                slots = {
                    n: {**p.slots, **({"grad": grads[n]} if grads[n] else {})} for n, p in recorded.parameters.items()
                }
                parameters = {n: replace(p, slots=slots[n]) for n, p in recorded.parameters.items()}
                save_state(replace(recorded, config={}, parameters=parameters), ours)
        return folder

    def scaled(step: int, optimizer: HostOptimizer, grads: Arrays) -> None:
        for g in grads.values():
            g *= 0.5 / norms[step - 1]

    a = ran(tmp_path / "a", change=clipped)
    drift = compare(a, swapped(ran(tmp_path / "b", change=scaled)))
    assert drift.step == 1
    assert "of norm 0.5: it is clipped by norm" in said(drift), str(drift)


def test_a_difference_of_some_parameters_is_explained_for_them(tmp_path: Path) -> None:
    """As where biases are not decayed."""
    a = ran(tmp_path / "a", "adamw", weight_decay=0.1)
    b = ran(tmp_path / "b", "adamw", weight_decay=0.1, change=undecayed)
    drift = compare(a, silent(b))
    assert drift.explanations[0] == "has no weight decay, for b alone", str(drift)


def undecayed(step: int, optimizer: HostOptimizer, grads: Arrays) -> None:
    """What AdamW takes from a bias is given back before the step."""
    rule = optimizer.rule
    optimizer.params["b"] /= np.float32(1 - rule.learning_rate * 0.1)
