#!/usr/bin/env bash
# torchao 0.18.0: the state dict of an 8-bit optimizer cannot be copied, and one of torch.optim is loaded without being coded.
# Seen: `copy.deepcopy(AdamW8bit(...).state_dict())` is NotImplementedError for aten.clone. Loading torch.optim.AdamW's dict
# goes through; the next step refuses the learning rate, which is a number now, and with a tensor in its place the state
# stays float32, four times as large, without a word.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 torchao==0.18.0
"$folder/venv/bin/python" - <<'PYTHON'
import copy

import torch
import torchao
from torchao.optim import AdamW8bit


def stepped(cls: type, p: torch.nn.Parameter) -> torch.optim.Optimizer:
    optimizer = cls([p], lr=1e-3)
    p.grad = torch.ones_like(p)
    optimizer.step()
    return optimizer


p, q = (torch.nn.Parameter(torch.ones(64, 64)) for _ in range(2))
ao, torchs = stepped(AdamW8bit, p), stepped(torch.optim.AdamW, q)
print(f"torchao {torchao.__version__}, torch {torch.__version__}")
try:
    copy.deepcopy(ao.state_dict())
except NotImplementedError as error:
    copied = str(error)
print(f"a copy: {copied[:90]}")
ao.load_state_dict(copy.deepcopy(torchs.state_dict()))
try:
    ao.step()
except RuntimeError as error:
    refused = str(error)
print(f"a step: {refused[:60]}")
ao.param_groups[0]["lr"] = torch.tensor(1e-3)
ao.step()
print(f"memory afterwards: {type(ao.state[p]['exp_avg']).__name__}")
assert torchao.__version__.partition("+")[0] == "0.18.0"
assert "aten.clone" in copied or "clone" in copied
assert "lr was changed" in refused
assert type(ao.state[p]["exp_avg"]) is torch.Tensor
print("as seen before: no copy, and memory of float32")
PYTHON
