#!/usr/bin/env bash
# kron_torch 0.3.3: the noise that damps what the preconditioner learns from is added to the momentum in place, and the step is made of
# that. psgd_jax, by the same authors, steps without the noise.
# Seen: with a preconditioner that learns nothing (precond_lr=0) the first step is the gradient, which no seed should change; two
# seeds give steps that differ by 2e-4 or more of the gradient's mean size. With momentum_into_precond_update=False they are the same.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 kron-torch==0.3.3
TORCHDYNAMO_DISABLE=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import importlib.metadata

import torch
from kron_torch import Kron

GRADIENT = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)


def stepped(seed: int, momentum: bool) -> torch.Tensor:
    torch.manual_seed(seed)
    weight = torch.nn.Parameter(torch.zeros(4, 3, dtype=torch.float64))
    weight.grad = GRADIENT.clone()
    Kron([weight], lr=1.0, precond_lr=0.0, momentum_into_precond_update=momentum).step()
    return -weight.detach()


by_momentum, by_gradient = ([stepped(seed, momentum) for seed in (0, 1)] for momentum in (True, False))
gaps = [float((a - b).abs().max()) for a, b in (by_momentum, by_gradient)]
print(f"kron_torch {importlib.metadata.version('kron-torch')}, torch {torch.__version__}, gradients of mean size 0.5")
print(f"two seeds: first steps differ by {gaps[0]:.2g} with the default, by {gaps[1]:.2g} if it learns from gradients")
assert importlib.metadata.version("kron-torch") == "0.3.3"
assert gaps[0] > 1e-4
assert gaps[1] == 0.0
print("as seen before: the noise of the preconditioner's damping is in the step")
PYTHON
