#!/usr/bin/env bash
# torch 2.13.0: constructing any optimizer imports the compiler front end, `torch._dynamo`, and some 70 MiB with it.
# Seen: `import torch` leaves it out; `torch.optim.SGD([p], lr=0.1)` of one number has it in `sys.modules`, hundreds of
# modules more, and the process's memory up by more than 30 MiB. Measure an optimizer's memory after a first one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from pathlib import Path

import torch


def resident() -> float:
    """MiB of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


before, modules = resident(), len(sys.modules)
assert "torch._dynamo" not in sys.modules
torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
grown, more = resident() - before, len(sys.modules) - modules
print(f"torch {torch.__version__}: one SGD of one number loads {more} modules and {grown:.0f} MiB")
assert torch.__version__.startswith("2.13.0")
assert "torch._dynamo" in sys.modules
assert more > 300
assert grown > 30
PYTHON
echo "as seen before: an optimizer loads the compiler"
