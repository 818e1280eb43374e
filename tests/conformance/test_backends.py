"""Keras chooses its backend once for a process, so the other backends walk their part of the table in another."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import scirs2_adapters
from tests.boundaries.support import ROOT
from tests.sampling import taken

TABLE = ("-m", "tests.conformance", "--adapters", "tf", "--paths", "traced", "--dtypes", "float32")


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "adapter"), [("torch", "tf"), ("jax", "tf")])
def test_a_keras_backend_walks_like_the_oracle(backend: str, adapter: str, request: pytest.FixtureRequest) -> None:
    del adapter
    rules = ",".join(taken(request, scirs2_adapters.names()))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": backend}
    command = [sys.executable, *TABLE, "--rules", rules]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
