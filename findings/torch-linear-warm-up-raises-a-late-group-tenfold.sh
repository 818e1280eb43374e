#!/usr/bin/env bash
# torch 2.13.0: a parameter group that is added during a LinearLR warm-up, as layers are that are unfrozen, is multiplied by the
# rest of it without ever having been divided. ConstantLR does the same at its end; LambdaLR refuses the next step.
# Seen: with start_factor=0.1 a group that is added at the start with lr=1.0 ends the warm-up at 10.0, beside the first group at 1.0.
# ExponentialLR and CosineAnnealingLR take both groups along alike.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch.optim import lr_scheduler

SCHEDULES = {
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, start_factor=0.1, total_iters=5),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, factor=0.1, total_iters=5),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, gamma=0.9),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=20),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda step: min(1.0, 0.2 * step)),
}


def rates(name: str) -> list[float] | str:
    first, second = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    first.grad, second.grad = torch.ones(2), torch.ones(2)
    optimizer = torch.optim.AdamW([first], lr=1.0)
    scheduler = SCHEDULES[name](optimizer)
    optimizer.add_param_group({"params": [second], "lr": 1.0})
    for _ in range(5):
        optimizer.step()
        try:
            scheduler.step()
        except ValueError as error:
            return f"ValueError: {error}"
    return [round(group["lr"], 6) for group in optimizer.param_groups]


seen = {name: rates(name) for name in SCHEDULES}
print(f"torch {torch.__version__}: rates of both groups, lr=1.0, after 5 steps")
for name, both in seen.items():
    print(f"{name}: {both}")
assert torch.__version__.startswith("2.13.0")
assert seen["LinearLR"] == [1.0, 10.0] and seen["ConstantLR"] == [1.0, 10.0]
assert all(seen[name][0] == seen[name][1] for name in ("ExponentialLR", "CosineAnnealingLR"))
assert seen["LambdaLR"].startswith("ValueError")
print("as seen before: a group that is added during a warm-up from a tenth ends at ten times its rate")
PYTHON
