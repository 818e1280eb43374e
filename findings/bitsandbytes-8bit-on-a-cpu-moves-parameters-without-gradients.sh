#!/usr/bin/env bash
# bitsandbytes 0.50.2 on the CPU: a gradient of exactly 0 does not leave a parameter where it is under an 8-bit optimizer. A 0
# comes back from its codes as another number as soon as something else in its block of 256 is not 0.
# Seen: 20 steps of AdamW8bit without weight decay move elements whose gradient is always 0, as in an embedding of which only
# some rows are used. torchao 0.18.0 leaves them at 1.0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 bitsandbytes==0.50.2
"$folder/venv/bin/python" - <<'PYTHON'
import bitsandbytes as bnb
import torch

p = torch.nn.Parameter(torch.ones(64, 64))
optimizer = bnb.optim.AdamW8bit([p], lr=1e-3, weight_decay=0.0)
torch.manual_seed(0)
g = torch.zeros(64, 64)
g[:, 0] = torch.randn(64)
for _ in range(20):
    p.grad = g.clone()
    optimizer.step()
held = optimizer.state[p]
first = held["qmap1"][held["state1"][0, 1].int()] * held["absmax1"][0]
print(f"bitsandbytes {bnb.__version__}")
print(f"a parameter whose gradient was 0: {p[0, 1].item()}, its first moment: {first.item()}")
assert bnb.__version__ == "0.50.2"
assert (p[:, 1:] != 1.0).any()
assert first != 0
print("as seen before: it has moved")
PYTHON
