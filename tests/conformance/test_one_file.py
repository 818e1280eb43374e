"""Adding an optimizer is one file and a slow twin: nothing else is edited; every adapter, path and dtype has it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.boundaries.support import PACKAGE, ROOT

RULE = '''"""Toy."""

from ..fields import fraction
from ..formulas import ema
from ..rule import Rule


class Toy(Rule, time_dependence="none"):
    """Descent along the average of gradients.

    m = m + (1 - beta1) * (g - m)
    p = p - (lr * weight_decay * p + lr * m)

    Paper: none.
    Differs from the paper: nothing.
    """

    beta1 = fraction(0.9, "decay rate of the average")

    def coefficients(self, math, t):
        return {"gain": 1 - self.beta1}

    def update(self, xp, p, g, exp_avg, /, learning_rate, gain):
        exp_avg = ema(exp_avg, g, gain)
        return learning_rate * exp_avg, exp_avg
'''
TWIN = '''"""The twin of Toy."""

from ._walk import as_is, walk


def step(t, x, g, slots, *, learning_rate=1e-3, beta1=0.9, weight_decay=0.0):
    m = beta1 * slots.get("exp_avg", 0.0) + (1.0 - beta1) * g
    return x - learning_rate * (m + weight_decay * x), {"exp_avg": m}


def trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is):
    return walk(params, grads, step, hyper=hyper, store=store)
'''
LISTED = """
import importlib, scirs2_adapters
from scirs2_adapters.adapters import adapters
assert "toy" in scirs2_adapters.names()
assert scirs2_adapters.get("toy").__name__ in dir(importlib.import_module("scirs2_adapters.core"))
offering = [r for r in adapters() if "toy" in map(str.casefold, dir(importlib.import_module(f"scirs2_adapters.{r}")))]
print(*sorted(set(adapters()) - set(offering)))
"""
#: Adapters that offer optimizers as words and not as attributes.
BY_WORD = {"hf"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the two files added."""
    tree = tmp_path_factory.mktemp("project")
    hidden = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tree / "scirs2_adapters", ignore=hidden)
    shutil.copytree(ROOT / "tests", tree / "tests", ignore=hidden)
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tree)
    (tree / "scirs2_adapters/core/optimizers/toy.py").write_text(RULE)
    (tree / "tests/reference/toy.py").write_text(TWIN)
    return tree


def python(tree: Path, *arguments: str) -> str:
    """What an interpreter prints that sees the copy only."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rule_is_short() -> None:
    assert len(RULE.splitlines()) < 30


@pytest.mark.slow
def test_every_adapter_offers_it(tree: Path) -> None:
    assert set(python(tree, "-c", LISTED).split()) == BY_WORD


@pytest.mark.slow
def test_it_steps_in_every_cell(tree: Path) -> None:
    assert "| toy |" in python(tree, "-m", "tests.conformance", "--rules", "toy")


@pytest.mark.slow
def test_the_suite_collects_it(tree: Path) -> None:
    collected = python(tree, "-m", "pytest", "--collect-only", "-q", "tests/conformance", "-k", "toy")
    for file in ("test_trajectories", "test_reference", "test_drift", "test_same_bits", "test_lint"):
        assert f"{file}.py" in collected
