#!/usr/bin/env bash
# pytorch_optimizer 4.1.0: many of its optimizers of Adam's kind (here AdamC, without decay) add 1e-15 to the mean of squares before the
# root, besides `eps` after it. The mean is the one before its correction, so in the first steps that is as an eps of 1e-6.
# Seen: with the gradient 1e-9 and eps=1e-12, torch's Adam moves by 0.999 of the learning rate and AdamC by 0.001 of it. With the
# gradient 1 both move by the learning rate.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 pytorch-optimizer==4.1.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import importlib.metadata

import pytorch_optimizer
import torch


def first_step(optimizer: type[torch.optim.Optimizer], gradient: float) -> float:
    """How far it moves, by the learning rate."""
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    weight.grad = torch.full((1,), gradient, dtype=torch.float64)
    optimizer([weight], lr=1.0, eps=1e-12, weight_decay=0.0).step()
    return -weight.item()


print(f"pytorch_optimizer {importlib.metadata.version('pytorch-optimizer')}, torch {torch.__version__}, eps=1e-12")
steps = {g: [first_step(cls, g) for cls in (torch.optim.Adam, pytorch_optimizer.AdamC)] for g in (1.0, 1e-9)}
for gradient, (torchs, theirs) in steps.items():
    print(f"gradient {gradient:g}: torch.optim.Adam moves {torchs:.4f}, AdamC {theirs:.4f} of the learning rate")
assert importlib.metadata.version("pytorch-optimizer") == "4.1.0"
assert all(abs(x - 1) < 1e-6 for x in steps[1.0])
assert abs(steps[1e-9][0] - 0.999) < 1e-3
assert abs(steps[1e-9][1] - 0.001) < 1e-4
print("as seen before: the smallest gradients hardly move a parameter, whatever eps is")
PYTHON
