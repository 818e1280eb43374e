"""Bytes a parameter of GPT-2 by `optimizer.memory()`, as a line of JSON: run by generate.py in a process of its own.

Parameters and gradients are on the device "meta", so that nothing is allocated.
"""

import json
import math
from typing import Any

import torch

from benchmarks.state_bytes import gpt2
from scirs2_adapters import torch as adapter
from scirs2_adapters.adapters.torch.optimizer.released import TOGETHER

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "AdamW": {},
    "SGD": {"lr": 1e-3, "momentum": 0.9},
    "Lion": {},
    "Adafactor": {},
    "Muon": {"match": None},
}
COMPENSATED = {"rounding": "compensated", "state_dtype": "int8"}
#: The dtype of the model, the options, and whether gradients are released.
FORMATS: dict[str, tuple[torch.dtype, dict[str, Any], bool]] = {
    "float32": (torch.float32, {}, False),
    "bfloat16 state": (torch.float32, {"state_dtype": "bfloat16"}, False),
    "int8 state": (torch.float32, {"state_dtype": "int8"}, False),
    "stochastic": (torch.bfloat16, {"rounding": "stochastic", "state_dtype": "int8"}, False),
    "bfloat16 model": (torch.bfloat16, COMPENSATED, False),
    "released": (torch.bfloat16, COMPENSATED, True),
}


def weighed(name: str, dtype: torch.dtype, options: dict[str, Any], released: bool) -> dict[str, float]:
    """Bytes a parameter by what they are for."""
    shapes = gpt2()
    named = [(k, torch.nn.Parameter(torch.empty(s, dtype=dtype, device="meta"))) for k, s in shapes.items()]
    optimizer = getattr(adapter, name)(named, **OPTIMIZERS[name], **options)
    for _, p in named:
        p.grad = torch.empty_like(p)
    memory = optimizer.memory()
    gradients = memory.gradients
    if released:  # at most the largest, and what waits to be stepped with it
        gradients = (TOGETHER + max(map(math.prod, shapes.values()))) * dtype.itemsize
    parts = {"parameter": memory.parameters, "gradient": gradients}
    parts |= {"state": sum(sum(by_dtype.values()) for by_dtype in memory.state.values())}
    return {part: size / memory.numbers for part, size in (parts | {"correction": memory.corrections}).items()}


def facts() -> dict[str, dict[str, dict[str, float]]]:
    """By optimizer, then by format."""
    return {name: {key: weighed(name, *form) for key, form in FORMATS.items()} for name in OPTIMIZERS}


if __name__ == "__main__":
    print(json.dumps(facts()))
