#!/usr/bin/env bash
# bitsandbytes 0.50.2: `LAMB8bit` has no trust ratio. Its 8-bit step is given no norm, and does what `AdamW8bit` does.
# Seen on the CPU: ten steps of both, with a weight decay, end at the same bits, for tensors of different sizes of numbers.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 bitsandbytes==0.50.2
"$folder/venv/bin/python" - <<'PYTHON'
import bitsandbytes as bnb
import torch


def end(cls: type) -> torch.Tensor:
    torch.manual_seed(0)
    params = [torch.nn.Parameter(size * torch.randn(64, 64)) for size in (0.01, 1.0, 100.0)]
    optimizer = cls(params, lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
    for _ in range(10):
        for p in params:
            p.grad = torch.randn(64, 64)
        optimizer.step()
    return torch.stack([p.detach() for p in params])


lamb, adamw = end(bnb.optim.LAMB8bit), end(bnb.optim.AdamW8bit)
print(f"bitsandbytes {bnb.__version__}; largest difference: {(lamb - adamw).abs().max().item()}")
assert bnb.__version__ == "0.50.2"
assert torch.equal(lamb, adamw)
print("as seen before: LAMB8bit is AdamW8bit")
PYTHON
