#!/usr/bin/env bash
# torch 2.13.0: `type(o)(params, **o.defaults)` makes every optimizer again, but not AdamW.
# Seen: AdamW inherits Adam's constructor, whose `defaults` hold `decoupled_weight_decay`; AdamW's own takes no such
# argument, and raises TypeError. All other classes below accept their own defaults. Code that wraps an optimizer and
# makes it anew from `defaults` works until someone uses the most common one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch

NAMES = ["Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "Muon", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD"]


def rebuilt(name: str) -> str:
    cls = getattr(torch.optim, name)
    first = cls([torch.nn.Parameter(torch.ones(2, 2))])
    try:
        cls([torch.nn.Parameter(torch.ones(2, 2))], **first.defaults)
    except TypeError as error:
        return str(error)
    return "rebuilt"


seen = {name: rebuilt(name) for name in NAMES}
print(f"torch {torch.__version__}")
for name, outcome in seen.items():
    print(f"{name}: {outcome}")
assert torch.__version__.startswith("2.13.0")
refused = {name: outcome for name, outcome in seen.items() if outcome != "rebuilt"}
assert refused.keys() == {"AdamW"}, refused
assert "unexpected keyword argument 'decoupled_weight_decay'" in refused["AdamW"]
print("as seen before: AdamW alone refuses its own defaults")
PYTHON
