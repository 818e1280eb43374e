"""The examples of 8-bit state run, each in a process of its own and without a warning, and learn."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.boundaries.support import ROOT


def run(example: str, **environment: str) -> str:
    """What an example prints."""
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / example)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_torch() -> None:
    pytest.importorskip("torch")
    printed = run("int8_torch.py").split()
    assert float(printed[-1]) > 0.85
    assert float(printed[-3]) < 3.1, "bytes a parameter"


def test_the_trainer() -> None:
    pytest.importorskip("transformers")
    first, _, last = run("int8_hf_trainer.py").splitlines()[-1].split()[1:]
    assert float(last) < 0.75 * float(first)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_keras(backend: str) -> None:
    pytest.importorskip("keras")
    pytest.importorskip(backend)
    printed = run("int8_keras.py", KERAS_BACKEND=backend, TF_CPP_MIN_LOG_LEVEL="3")
    assert float(printed.split()[-1]) > 0.85
    assert "corrections" in printed
