"""The examples of the torch adapter run, each in a process of its own, and learn."""

import os
import re
import subprocess
import sys

import pytest

from tests.boundaries.support import ROOT

pytest.importorskip("transformers")


def test_a_small_gpt2_learns_with_7_bytes_a_parameter() -> None:
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / "train_gpt2_xl_in_24_gib.py"), "--small"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, "--steps", "6"], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    losses = [float(x) for x in re.findall(r"loss ([0-9.]+)", done.stdout)]
    assert len(losses) == 6
    assert losses[-1] < 0.85 * losses[0]
    assert "every gradient is released: True" in done.stdout
    assert float(re.findall(r"state: ([0-9.]+)", done.stdout)[0]) < 3.1
