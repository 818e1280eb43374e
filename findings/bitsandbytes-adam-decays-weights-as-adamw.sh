#!/usr/bin/env bash
# bitsandbytes 0.50.2: `Adam` and `Adam8bit` decay weights as AdamW does, apart from the gradient. torch.optim.Adam adds the
# decay to the gradient, where it is divided by the root of the second moment with it.
# Seen: with gradients of 1,000 ten steps at lr=0.01, weight_decay=0.1 move 1.0 to 0.9000 in torch and to 0.8905 here.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 bitsandbytes==0.50.2
"$folder/venv/bin/python" - <<'PYTHON'
import bitsandbytes as bnb
import torch


def end(cls: type, **options: float) -> float:
    p = torch.nn.Parameter(torch.ones(64, 64))
    optimizer = cls([p], lr=1e-2, **options)
    for _ in range(10):
        p.grad = torch.full_like(p, 1000.0)
        optimizer.step()
    return p[0, 0].item()


torchs, adamw = end(torch.optim.Adam, weight_decay=0.1), end(torch.optim.AdamW, weight_decay=0.1)
wide, coded = end(bnb.optim.Adam, weight_decay=0.1), end(bnb.optim.Adam8bit, weight_decay=0.1)
print(f"bitsandbytes {bnb.__version__}, torch {torch.__version__}")
print(f"torch Adam {torchs:.4f}, torch AdamW {adamw:.4f}, bitsandbytes Adam {wide:.4f}, Adam8bit {coded:.4f}")
assert bnb.__version__ == "0.50.2"
assert abs(torchs - 0.9) < 1e-4
assert max(abs(wide - adamw), abs(coded - adamw)) < 1e-4 < abs(adamw - torchs)
print("as seen before: Adam is AdamW")
PYTHON
