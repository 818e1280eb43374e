#!/usr/bin/env bash
# torch 2.13.0: a scheduler that is made after the optimizer has been loaded multiplies the loaded learning rate by its first factor,
# and its own `load_state_dict` does not take that back. LinearLR, ConstantLR and what they are chained or followed by go on from
# the number that stands there, so that it is no matter of one step.
# Seen: a run with a warm-up from 0.1, saved after it has ended, resumes at a tenth of its rate and stays there to its end. In the
# order scheduler, optimizer's state, scheduler's state it goes on as if nothing had been.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import copy
import math

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR


def scheduled(optimizer: torch.optim.Optimizer) -> SequentialLR:
    return SequentialLR(optimizer, [LinearLR(optimizer, 0.1, total_iters=2), CosineAnnealingLR(optimizer, 8)], [2])


def made() -> torch.optim.Optimizer:
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    return torch.optim.AdamW([parameter], lr=1.0)


def rates(optimizer: torch.optim.Optimizer, scheduler: SequentialLR, steps: int) -> list[float]:
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


whole = made()
schedule = scheduled(whole)
rates(whole, schedule, 4)
saved = copy.deepcopy((whole.state_dict(), schedule.state_dict()))
expected = rates(whole, schedule, 6)

late = made()
late.load_state_dict(copy.deepcopy(saved[0]))
of_late = scheduled(late)
of_late.load_state_dict(copy.deepcopy(saved[1]))
made_after = rates(late, of_late, 6)

early = made()
of_early = scheduled(early)
early.load_state_dict(copy.deepcopy(saved[0]))
of_early.load_state_dict(copy.deepcopy(saved[1]))
made_before = rates(early, of_early, 6)

print(f"torch {torch.__version__}, two steps of warm-up from 0.1, then a cosine; resumed after step 4")
for name, seen in (("in one piece", expected), ("scheduler made before", made_before), ("scheduler made after", made_after)):
    print(f"{name}: {[round(lr, 4) for lr in seen]}")
assert torch.__version__.startswith("2.13.0")
assert all(math.isclose(a, b) for a, b in zip(made_before, expected, strict=True))
assert made_after[0] == 0.1
assert all(lr < 0.12 * wanted for lr, wanted in zip(made_after[1:], expected[1:], strict=True) if wanted > 0.01)
print("as seen before: a scheduler that is made after loading holds the rest of the run at a tenth")
PYTHON
