#!/usr/bin/env bash
# accelerate 1.15.0, torch 2.13.0: `step(closure)` of a prepared optimizer runs the closure and returns None, where torch's
# returns the loss.
# Seen: torch.optim.LBFGS moves the parameter in both, `optimizer.step(closure)` is a tensor before `prepare` and None behind it. A
# loop that reads the loss there, or stops by it, has nothing to read.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check accelerate==1.15.0 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import accelerate
import torch


def stepped(prepared: bool) -> tuple[object, float, int]:
    parameter = torch.nn.Parameter(torch.full((2,), 2.0))
    optimizer, evaluations = torch.optim.LBFGS([parameter], lr=0.1, max_iter=3), []
    if prepared:
        optimizer = accelerate.Accelerator(cpu=True).prepare(optimizer)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        evaluations.append(loss.item())
        return loss

    loss = optimizer.step(closure)
    return loss if loss is None else loss.item(), parameter[0].item(), len(evaluations)


plain, prepared = stepped(False), stepped(True)
print(f"accelerate {accelerate.__version__}, torch {torch.__version__}")
for name, (loss, value, evaluations) in (("torch", plain), ("prepared", prepared)):
    print(f"{name}: step returned {loss}, the parameter is {value:.4f}, the closure ran {evaluations} times")
assert accelerate.__version__ == "1.15.0"
assert plain[0] == 8.0 and prepared[0] is None
assert plain[1:] == prepared[1:] and plain[1] < 2
print("as seen before: behind prepare the step is taken and its loss is not returned")
PYTHON
