#!/usr/bin/env bash
# torch 2.13.0: an optimizer that loads another one's `state_dict()` in the same process has the other's very tensors.
# Seen: after `b.load_state_dict(a.state_dict())` a step of `a` alone changes the moments and the step count of `b`.
# A copy is made only where dtype or device differ, so the same two lines are safe between a bfloat16 and a float32 model.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch

p, q = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
a, b = torch.optim.Adam([p]), torch.optim.Adam([q])
p.grad = torch.ones(2)
a.step()
b.load_state_dict(a.state_dict())
before = {name: x.clone() for name, x in b.state[q].items()}
p.grad = torch.full((2,), 5.0)
a.step()  # b is not stepped
after = b.state[q]
print(f"torch {torch.__version__}")
for name in before:
    print(f"{name} of b, before and after a step of a: {before[name].tolist()} {after[name].tolist()}")
assert torch.__version__.startswith("2.13.0")
assert all(not torch.equal(before[name], after[name]) for name in ("step", "exp_avg", "exp_avg_sq"))
assert after["exp_avg"] is a.state[p]["exp_avg"] or after["exp_avg"].data_ptr() == a.state[p]["exp_avg"].data_ptr()
print("as seen before: the two optimizers share their memory")
PYTHON
