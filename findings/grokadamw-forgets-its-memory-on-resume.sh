#!/usr/bin/env bash
# grokadamw 0.1.2: the memory is kept in the parameter groups, under the parameters themselves. A state dict has none under
# "state", and what `load_state_dict` copies belongs to copies of the parameters: a resumed run begins with no memory.
# Seen: ten steps end elsewhere if the optimizer is saved and loaded after five; the moments are those of five steps.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 grokadamw==0.1.2
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import copy
import importlib.metadata

import torch
from grokadamw import GrokAdamW


def walk(resumed: bool) -> tuple[torch.Tensor, GrokAdamW]:
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = GrokAdamW([p], lr=0.1)
    for t in range(10):
        if resumed and t == 5:
            saved = copy.deepcopy(optimizer.state_dict())
            optimizer = GrokAdamW([p], lr=0.1)
            optimizer.load_state_dict(saved)
        p.grad = torch.cos(torch.arange(3) + t)
        optimizer.step()
    return p, optimizer


(whole, kept), (resumed, loaded) = walk(False), walk(True)
steps = [o.param_groups[0]["state"][p]["step"] for p, o in ((whole, kept), (resumed, loaded))]
print(f"grokadamw {importlib.metadata.version('grokadamw')}, torch {torch.__version__}")
print(f"ends at {whole.tolist()}, resumed at {resumed.tolist()}; steps counted: {steps}; state: {kept.state_dict()['state']}")
assert importlib.metadata.version("grokadamw") == "0.1.2"
assert steps == [10, 5]
assert kept.state_dict()["state"] == {}
assert not torch.allclose(whole, resumed)
print("as seen before: the loaded memory is not used")
PYTHON
