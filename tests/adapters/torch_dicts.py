"""What tests of state dicts of fewer bits share: optimizers of every rule and format that have taken steps."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from scirs2_adapters import get

from .test_torch_storage import BOTH, INT8, RANDOM, RULES, made, parameters, walk

each_rule = pytest.mark.parametrize("name", RULES)
FORMATS: dict[str, dict[str, Any]] = {
    "int8": INT8,
    "bfloat16": {"state_dtype": "bfloat16"},
    "compensated": BOTH,
    "stochastic": RANDOM,
    "errors of 16 bits": {"rounding": "compensated", "state_dtype": {"rounding_error": "int16"}},
}
each_format = pytest.mark.parametrize("form", FORMATS)


def stepped(name: str, options: dict[str, Any], steps: int = 3) -> Any:
    """An optimizer that has stepped parameters of the dtype that its options are for."""
    if get(name).first_step and options in (BOTH, RANDOM):  # too coarse for its first steps
        options = FORMATS["errors of 16 bits"]
    params = parameters(torch.bfloat16 if "rounding" in options else torch.float32)
    optimizer = made(name, params, **options)
    walk(optimizer, params, steps)
    return optimizer


def params_of(optimizer: Any) -> list[torch.nn.Parameter]:
    return optimizer.param_groups[0]["params"]


def twin(name: str, optimizer: Any, **options: Any) -> Any:
    """A fresh one with parameters of the same numbers."""
    return made(name, [torch.nn.Parameter(p.detach().clone()) for p in params_of(optimizer)], **options)


def assert_equal(a: Any, b: Any) -> None:
    """Parameters and all memory, bit for bit, of two optimizers."""
    for p, q in zip(params_of(a), params_of(b), strict=True):
        assert torch.equal(p, q)
        mine, other = a.state.get(p, {}), b.state.get(q, {})
        assert mine.keys() == other.keys()
        for slot in mine:
            assert mine[slot].dtype == other[slot].dtype
            assert torch.equal(mine[slot], other[slot]), slot


def copied(saved: Any) -> Any:
    """A dict whose tensors are nobody else's."""
    return copy.deepcopy(saved)
