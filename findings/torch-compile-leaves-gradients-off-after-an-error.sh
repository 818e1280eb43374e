#!/usr/bin/env bash
# torch 2.13.0: a function that `torch.compile` has compiled leaves gradient mode off when an operation inside its `no_grad` block raises.
# Seen: after a caught ValueError `torch.is_grad_enabled()` is True for the plain function and False for the compiled one, in the "eager" backend,
# so that every later forward pass of the process records no graph.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch


@torch.library.custom_op("finding::refuse", mutates_args=())
def refuse(x: torch.Tensor) -> torch.Tensor:
    raise ValueError("refused")


@refuse.register_fake
def _(x):
    return torch.empty_like(x)


def function(x):
    with torch.no_grad():
        return refuse(x)


modes = {}
for name, call in (("plain", function), ("compiled", torch.compile(function, backend="eager", fullgraph=True))):
    try:
        call(torch.ones(2))
    except ValueError as error:
        assert "refused" in str(error)
    modes[name] = torch.is_grad_enabled()
    torch.set_grad_enabled(True)
print(f"torch {torch.__version__}; gradient mode after a caught error: {modes}")
assert torch.__version__.startswith("2.13.0")
assert modes == {"plain": True, "compiled": False}
print("as seen before: the compiled function leaves gradients off")
PYTHON
