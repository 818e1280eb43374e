#!/usr/bin/env bash
# transformers 5.23.0: `min_lr` of the schedule "cosine_with_min_lr" and `lr_end` of "polynomial" are divided by the optimizer's
# default learning rate, and each group ends at that share of its own. The rate that was asked for is reached by groups of the default.
# Seen: with min_lr=1e-4 groups of 1e-3, the default, and 1e-5 end at 1e-4 and 1e-6. Where all groups say their rate, 1e-2 and 1e-5, the
# default is torch's 1e-3 and none of them ends at 1e-4: they end at 1e-3 and 1e-6.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check transformers==5.23.0 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
import transformers

SCHEDULES = {"cosine_with_min_lr": {"min_lr": 1e-4}, "polynomial": {"lr_end": 1e-4}}


def last_rates(schedule: str, first: float | None) -> list[float]:
    one, two = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    groups = [{"params": [one]} if first is None else {"params": [one], "lr": first}, {"params": [two], "lr": 1e-5}]
    optimizer = torch.optim.AdamW(groups)
    assert optimizer.defaults["lr"] == 1e-3
    scheduler = transformers.get_scheduler(schedule, optimizer, 0, 10, scheduler_specific_kwargs=SCHEDULES[schedule])
    for _ in range(10):
        optimizer.step()
        scheduler.step()
    return [float(f"{group['lr']:.3g}") for group in optimizer.param_groups]


seen = {schedule: [last_rates(schedule, None), last_rates(schedule, 1e-2)] for schedule in SCHEDULES}
print(f"transformers {transformers.__version__}, torch {torch.__version__}: a lowest rate of 1e-4 is asked for")
for schedule, (default, all_said) in seen.items():
    print(f"{schedule}: groups of 1e-3 (default) and 1e-5 end at {default}; groups of 1e-2 and 1e-5 end at {all_said}")
assert transformers.__version__ == "5.23.0"
assert all(both == [[1e-4, 1e-6], [1e-3, 1e-6]] for both in seen.values())
print("as seen before: the lowest rate is a share of the default, and each group ends at its share")
PYTHON
