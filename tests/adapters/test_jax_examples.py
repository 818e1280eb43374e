"""The examples of the JAX adapter run, each in a process of its own, and learn."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.boundaries.support import ROOT
from tests.xla import flags

EXAMPLES = sorted((ROOT / "examples").glob("jax_*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_runs_without_a_warning_and_learns(example: Path) -> None:
    command = [sys.executable, "-W", "error", str(example)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags()}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) > 0.85
