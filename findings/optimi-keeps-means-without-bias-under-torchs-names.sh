#!/usr/bin/env bash
# torch-optimi 0.3.3: its AdamW takes the steps of torch's and keeps `exp_avg` and `exp_avg_sq` too, but these are the means after the
# correction of their bias, and the number of steps is in the group. So its state dict has torch's names and other numbers.
# Seen: after one step with the gradient 2 both have moved by 0.1, torch's means are 0.2 and 0.004, and optimi's 2 and 4. A state dict
# of optimi's with the step put into place loads into torch's AdamW without a word; the next step is 0.024 long, where both take 0.1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 packaging==26.3 torch-optimi==0.3.3
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import copy
import importlib.metadata

import optimi
import torch

SAME = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}


def step(optimizer: torch.optim.Optimizer, weight: torch.nn.Parameter) -> float:
    before, weight.grad = weight.item(), torch.full((1,), 2.0)
    optimizer.step()
    return before - weight.item()


weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(3)]
theirs, torchs = optimi.AdamW(weights[:1], **SAME, triton=False), torch.optim.AdamW(weights[1:2], **SAME)
first = step(theirs, weights[0]), step(torchs, weights[1])
means = [[o.state[w][k].item() for k in ("exp_avg", "exp_avg_sq")] for o, w in ((theirs, weights[0]), (torchs, weights[1]))]
print(f"torch-optimi {importlib.metadata.version('torch-optimi')}, torch {torch.__version__}")
print(f"first steps: {first[0]:.3f} and {first[1]:.3f}; means: {means[0]} and {means[1]}")

saved = copy.deepcopy(theirs.state_dict())
group = torchs.state_dict()["param_groups"][0]
memory = {k: saved["state"][0][k] for k in ("exp_avg", "exp_avg_sq")} | {"step": torch.tensor(1.0)}
loaded = torch.optim.AdamW(weights[2:], **SAME)
loaded.load_state_dict({"state": {0: memory}, "param_groups": [group]})
second = step(loaded, weights[2]), step(theirs, weights[0]), step(torchs, weights[1])
print(f"next steps: {second[0]:.3f} after loading, {second[1]:.3f} and {second[2]:.3f} without")
assert importlib.metadata.version("torch-optimi") == "0.3.3"
assert all(abs(x - 0.1) < 1e-4 for x in (*first, *second[1:]))
assert means[0] == [2.0, 4.0]
assert abs(means[1][0] - 0.2) < 1e-6
assert abs(second[0] - 0.024) < 1e-3
print("as seen before: the same names, other numbers")
PYTHON
