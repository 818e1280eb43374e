#!/usr/bin/env bash
# torch 2.13.0: `clip_grad_norm_` sets finite float16 gradients to zero where their norm exceeds what float16 can hold.
# Seen: 1,000 gradients of 30,000 have the norm 948,683, which is taken in float16 and is infinite; the factor
# max_norm / inf is 0, and every gradient becomes 0, without a warning (error_if_nonfinite is False by default). In float32
# the same gradients are clipped to 0.0316 each.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch


def clipped(dtype: torch.dtype) -> tuple[float, float]:
    p = torch.nn.Parameter(torch.zeros(1000, dtype=dtype))
    p.grad = torch.full_like(p, 30_000.0)
    norm = torch.nn.utils.clip_grad_norm_([p], max_norm=1.0)
    return float(norm), float(p.grad[0])


print(f"torch {torch.__version__}")
seen = {dtype: clipped(dtype) for dtype in (torch.float16, torch.float32)}
for dtype, (norm, gradient) in seen.items():
    print(f"{dtype}: norm {norm}, each gradient afterwards {gradient}")
assert torch.__version__.startswith("2.13.0")
assert seen[torch.float16] == (float("inf"), 0.0)
assert abs(seen[torch.float32][1] - 1000**-0.5) < 1e-6
print("as seen before: float16 gradients that are all finite become zero")
PYTHON
