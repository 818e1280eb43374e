"""Keras chooses its backend once for a process, so the other backends walk their part of the table in another."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.boundaries.support import ROOT

TABLE = ("-m", "tests.conformance", "--adapters", "tf", "--paths", "traced", "--dtypes", "float32")


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "adapter"), [("torch", "tf"), ("jax", "tf")])
def test_a_keras_backend_walks_like_the_oracle(backend: str, adapter: str) -> None:
    del adapter
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": backend}
    command = [sys.executable, *TABLE]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
