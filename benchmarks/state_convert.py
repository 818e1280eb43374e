"""Memory that `scirs2 state convert` takes for a large file: `python -m benchmarks.state_convert`.

Writes a file of 2 GiB, sixteen matrices of 4096 x 4096 in float32 with both moments of AdamW, into a temporary folder,
and converts it in a process for each target; then the same as a `.pt`. Printed is by how much the process grows between
its imports and its largest (Linux' VmHWM). The folder needs 4 GiB.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from scirs2_adapters.core import get
from scirs2_adapters.core.matrix import OUTPUTS_FIRST
from scirs2_adapters.core.portable.file import held
from scirs2_adapters.core.portable.state import ParameterState, described, save

MATRICES, SIDE = 16, 4096
#: The frameworks, and the endings of what is written for them.
TARGETS = [(to, ".safetensors") for to in ("numpy", "torch", "keras", "optax")] + [("torch", ".pt")]
_CONVERT = """
import re, sys
from scirs2_adapters.commands.app import app
import numpy
if any(path.endswith(".pt") for path in sys.argv[1:3]):
    import torch

def megabytes(key):
    return int(re.search(key + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1e3

before = megabytes("VmRSS")
app(["state", "convert", *sys.argv[1:]], standalone_mode=False)
print(round(megabytes("VmHWM") - before))
"""


def written(folder: Path) -> Path:
    """The large file; all matrices are one in memory."""
    one = held(np.ones((SIDE, SIDE), np.float32), "float32")
    parameter = ParameterState({"exp_avg": one, "exp_avg_sq": one}, 1, (SIDE, SIDE), "float32")
    parameters = {f"layers.{i}.weight": parameter for i in range(MATRICES)}
    save(described(get("adamw")(), parameters, step_count=1, layout=OUTPUTS_FIRST), folder / "large.safetensors")
    return folder / "large.safetensors"


def growth(source: Path, target: Path, to: str) -> str:
    """By how many MB a process grows that converts a file."""
    command = [sys.executable, "-c", _CONVERT, str(source), str(target), "--to", to]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]


def told(source: Path) -> None:
    """Print the growth for each target."""
    for to, ending in TARGETS:
        target = source.with_name(f"converted{ending}")
        megabytes = growth(source, target, to)
        print(f"{source.stat().st_size / 1e6:.0f} MB, {source.suffix}, to {to}, {ending}: {megabytes} MB", flush=True)
        target.unlink()


def main() -> None:
    """Print what a portable file takes, and a state dict of the same numbers."""
    with tempfile.TemporaryDirectory() as folder:
        source = written(Path(folder))
        told(source)
        growth(source, source.with_suffix(".pt"), "torch")
        source.unlink()
        told(source.with_suffix(".pt"))


if __name__ == "__main__":
    main()
