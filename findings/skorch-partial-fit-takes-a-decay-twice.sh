#!/usr/bin/env bash
# skorch 1.4.0, torch 2.13.0: with the callback LRScheduler a decay of StepLR that is due between two calls of `partial_fit` is taken
# twice: after the last epoch of the one, and by the constructor of the new scheduler that the callback makes for the other, with
# last_epoch=len(history) - 1.
# Seen: step_size=2, gamma=0.5 gives 0.1, 0.1, 0.05, 0.05, 0.025, 0.025 in one call of six epochs, and 0.1, 0.1, 0.025, 0.025, 0.00625,
# 0.00625 in three calls of two. MultiStepLR does the same; ExponentialLR and CosineAnnealingLR go on as they should.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check skorch==1.4.0 torch==2.13.0 scikit-learn==1.9.1 \
  numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import skorch
import torch
from skorch import NeuralNetRegressor
from skorch.callbacks import LRScheduler

x = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")


def rates(calls: int, policy: str, **arguments: object) -> list[float]:
    net = NeuralNetRegressor(
        torch.nn.Linear, module__in_features=3, module__out_features=1, optimizer=torch.optim.AdamW, lr=0.1,
        max_epochs=6 // calls, train_split=None, verbose=0, callbacks=[LRScheduler(policy, **arguments)],
    )  # fmt: skip
    for _ in range(calls):
        net.partial_fit(x, x[:, :1])
    return [epoch["event_lr"] for epoch in net.history]


one, three = rates(1, "StepLR", step_size=2, gamma=0.5), rates(3, "StepLR", step_size=2, gamma=0.5)
milestones = rates(3, "MultiStepLR", milestones=[2, 4], gamma=0.5)
others = {"ExponentialLR": {"gamma": 0.5}, "CosineAnnealingLR": {"T_max": 6}}
print(f"skorch {skorch.__version__}, torch {torch.__version__}: six epochs, StepLR(step_size=2, gamma=0.5)")
print(f"one call: {one}")
print(f"three calls of two epochs: {three}; MultiStepLR: {milestones}")
assert skorch.__version__ == "1.4.0"
assert np.allclose(one, [0.1, 0.1, 0.05, 0.05, 0.025, 0.025])
assert np.allclose(three, [0.1, 0.1, 0.025, 0.025, 0.00625, 0.00625]) and np.allclose(milestones, three)
assert all(np.allclose(rates(1, name, **settings), rates(3, name, **settings)) for name, settings in others.items())
print("as seen before: a decay that is due between two calls of partial_fit is taken twice")
PYTHON
