#!/usr/bin/env bash
# prodigyopt 1.1.2, torch 2.13.0: a parameter group whose learning rate is set to 0 while it trains goes on moving, and a
# group whose learning rate is 0 from the start is shrunk by weight decay. The package takes 0 beside one other learning
# rate and learns nothing of that group, but its last loop steps and decays every group by the largest rate of all.
# Seen: both groups move; with one learning rate of 0 for all of them none does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check prodigyopt==1.1.2 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import torch
from prodigyopt import Prodigy


def moved(frozen_from: int, weight_decay: float) -> float:
    """How far a group moves in steps at a learning rate of 0."""
    trained, frozen = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    groups = [{"params": [trained]}, {"params": [frozen], "lr": 0.0 if frozen_from == 0 else 1.0}]
    optimizer = Prodigy(groups, d0=0.1, weight_decay=weight_decay)
    for step in range(6):
        if step == frozen_from:
            optimizer.param_groups[1]["lr"] = 0.0
            before = frozen.detach().clone()
        trained.grad, frozen.grad = torch.ones(3), torch.ones(3)
        optimizer.step()
    return float((frozen.detach() - before).abs().max())


found = moved(3, 0.0), moved(0, 0.1), moved(0, 0.0)
print(f"prodigyopt {version('prodigyopt')}: moved {found[0]:.3g} after training, {found[1]:.3g} by decay, {found[2]:.3g}")
assert version("prodigyopt") == "1.1.2"
assert found[0] > 1e-3 and found[1] > 1e-3 and found[2] == 0
print("as seen before: a learning rate of 0 does not stop a group")
PYTHON
