#!/usr/bin/env bash
# kron_torch 0.3.3: a gradient of zeros says nothing, but Kron's preconditioner grows by a tenth at each step that has one, until it is
# infinite, and infinity times 0 is NaN. So ends a bias that some models do not use, if its gradients are zeros and not None.
# Seen: with the default arguments a bias whose gradient is always 0 is NaN after about 910 steps, in all of its numbers.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 kron-torch==0.3.3
TORCHDYNAMO_DISABLE=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import importlib.metadata

import torch
from kron_torch import Kron

bias = torch.nn.Parameter(torch.ones(4))
optimizer = Kron([bias])
end = 0
for t in range(1, 1001):
    bias.grad = torch.zeros(4)
    optimizer.step()
    if not end and bias.isnan().all():
        end = t
    if t == 100:
        print(f"after 100 steps the bias is {bias.tolist()}, its preconditioner {optimizer.state[bias]['Q'][0].max():.3g}")

print(f"kron_torch {importlib.metadata.version('kron-torch')}, torch {torch.__version__}; the bias is NaN after step {end}")
assert importlib.metadata.version("kron-torch") == "0.3.3"
assert 800 < end < 1000
print("as seen before: gradients of zeros make a parameter NaN in fewer than 1,000 steps")
PYTHON
