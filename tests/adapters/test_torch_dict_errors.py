"""State dicts of memory of fewer bits: what is refused before anything has changed, and other parameters."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch

import scirs2_adapters.torch as ours
from scirs2_adapters.core.formats import BLOCK_DTYPES
from scirs2_adapters.core.registry import get
from scirs2_adapters.core.slots import Leaf
from scirs2_adapters.core.step.options import slot_dtype

from .test_torch_storage import BOTH, INT8, RULES, made, parameters, walk
from .torch_dicts import assert_equal, copied, params_of, stepped, twin

# -- what is refused, before anything has changed


def refused(optimizer: Any, saved: Any, words: str) -> None:
    walk(optimizer, params_of(optimizer), 1)
    before = copy.deepcopy(optimizer)
    with pytest.raises(ValueError, match=words):
        optimizer.load_state_dict(saved)
    assert_equal(optimizer, before)
    assert str([{**g, "params": 0} for g in optimizer.param_groups]) == str(
        [{**g, "params": 0} for g in before.param_groups]
    )


LEAF = Leaf((64, 64), "float32", "weight")
#: The optimizers of which some slot is codes where 8 bits are asked for.
CODED = [name for name in RULES if {slot_dtype(s, LEAF, "int8") for s in get(name)().slots(LEAF)} & {*BLOCK_DTYPES}]


@pytest.mark.parametrize("wrong", ["the other codes", "int16", "bool", "float8", "shape"])
@pytest.mark.parametrize("name", CODED)
def test_memory_of_an_unknown_storage_is_refused(name: str, wrong: str) -> None:
    saved = copied(stepped(name, INT8).state_dict())
    held = saved["state"][3]
    slots = [k for k, x in held.items() if str(x.dtype).removeprefix("torch.") in BLOCK_DTYPES]
    assert slots, "a rule without codes tests nothing"
    for slot in slots:
        x = held[slot]
        other = {
            "the other codes": x.view(torch.int8 if x.dtype == torch.uint8 else torch.uint8),
            "int16": x.to(torch.int16),
            "bool": x.bool(),
            "float8": x.to(torch.float8_e4m3fn),
            "shape": x[:-1],
        }[wrong]
        words = rf"\['{slot}'\].*must be a tensor of {'shape' if wrong == 'shape' else 'numbers of 16 bits or more'}"
        bad = {**saved, "state": {**saved["state"], 3: {**held, slot: other}}}
        refused(made(name, parameters(), **INT8), bad, words)


@pytest.mark.parametrize("wrong", ["none", "blocks of 128", "float64", "a number"])
@pytest.mark.parametrize("name", CODED)
def test_codes_need_their_scales(name: str, wrong: str) -> None:
    saved = copied(stepped(name, INT8).state_dict())
    held = saved["state"][3]
    scales = [k for k in held if k.endswith("_scale")]
    assert scales, "a rule without codes tests nothing"
    for scale in scales:
        x = held[scale]
        other = {"none": None, "blocks of 128": x.repeat(2), "float64": x.double(), "a number": 1.0}[wrong]
        bad = {**saved, "state": {**saved["state"], 3: {**held, scale: other}}}
        refused(made(name, parameters(), **INT8), bad, rf"\['{scale}'\].*the scales of blocks of 256 numbers")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("state_dtype", "int4", r"state_dtype=.*must be None, one of .*'int8'"),
        ("state_dtype", {"exp_avg": "int2"}, r"state_dtype=.*must be None, one of .*'int8'"),
        ("state_dtype", {"nothing": "int8"}, "names a slot that is none of"),
        ("state_dtype", {"rounding_error": "int4"}, "must keep the 'rounding_error'"),
        ("rounding", "kahan", "rounding=.*must be one of 'nearest', 'stochastic', 'compensated'"),
    ],
)
def test_formats_that_are_not_known_are_refused(key: str, value: Any, words: str) -> None:
    saved = copied(stepped("adamw", INT8).state_dict())
    saved["param_groups"][0][key] = value
    refused(made("adamw", parameters(), **INT8), saved, words)


def test_a_partial_load_reports_memory_that_cannot_be_read() -> None:
    saved = copied(stepped("adamw", INT8).state_dict())
    del saved["state"][0]["exp_avg_scale"]
    optimizer = ours.AdamW(parameters(), **INT8)
    report = optimizer.load_state_dict(saved, strict=False)
    assert report is not None
    assert report.mismatched == ["0"]
    assert [len(optimizer.state.get(p, {})) > 0 for p in params_of(optimizer)] == [False, True, True, True]


# -- other parameters


@pytest.mark.parametrize("kernel", ["host", "traced"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_rounding_errors_end_where_parameters_have_another_dtype(
    dtype: torch.dtype, kernel: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They are in units of the last place of bfloat16: in float16 they would be another number."""
    optimizer = stepped("adamw", BOTH)
    saved = copied(optimizer.state_dict())
    assert saved["param_groups"][0]["rounded_dtypes"] == "bfloat16"
    others = [torch.nn.Parameter(p.detach().to(dtype)) for p in params_of(optimizer)]
    other = ours.AdamW(others, kernel=kernel)
    with caplog.at_level(logging.WARNING, "scirs2"):
        other.load_state_dict(saved)
    assert len(caplog.records) == len(others)
    assert "rounding took from bfloat16 parameters" in caplog.records[0].getMessage()
    assert not any("rounding_error" in held for held in other.state.values())
    assert "rounded_dtypes" not in other.param_groups[0]
    before = [p.detach().clone() for p in others]
    walk(other, others, 1)
    for p, start in zip(others, before, strict=True):
        assert ("rounding_error" in other.state[p]) == (dtype == torch.float16)
        assert 0 < (p - start).abs().max() < 0.01


def test_a_dict_that_does_not_say_whose_errors_they_are_is_taken_as_it_is() -> None:
    optimizer = stepped("adamw", BOTH)
    saved = copied(optimizer.state_dict())
    del saved["param_groups"][0]["rounded_dtypes"]
    other = twin("adamw", optimizer)
    other.load_state_dict(saved)
    assert_equal(optimizer, other)


def test_parameters_of_another_size_are_refused() -> None:
    saved = copied(stepped("adamw", INT8).state_dict())
    params = [torch.nn.Parameter(torch.ones(96, 97)), *parameters()[1:]]
    refused(ours.AdamW(params, **INT8), saved, r"must be a tensor of shape \(96, 97\)")
