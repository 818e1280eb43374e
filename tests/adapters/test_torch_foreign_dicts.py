"""State dicts of low-bit optimizers of bitsandbytes and torchao, real ones (`foreign_dicts/make.py`), loaded here."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import scirs2_adapters.torch as ours
from scirs2_adapters.adapters.torch.files.loading import InertTensor, loaded

FOLDER = Path(__file__).parent / "foreign_dicts"
BNB, AO, AO4, AO8F = "bitsandbytes-AdamW8bit", "torchao-AdamW8bit", "torchao-AdamW4bit", "torchao-AdamWFp8"
FILES = (BNB, "bitsandbytes-Lion8bit", AO, AO4, AO8F)
NESTED = "__bnb_optimizer_quant_state__"
FORMATS = (None, "float32", "bfloat16", "int8")


def read(name: str) -> dict[str, Any]:
    """Read as `scirs2 state` reads it, with classes of ours in the place of torchao's, which is not installed."""
    saved = loaded("test", FOLDER / f"{name}.pt")
    assert isinstance(saved, dict)
    return saved


def tensors(saved: dict[str, Any]) -> list[torch.Tensor]:
    """A parameter for each that was stepped."""
    return [torch.nn.Parameter(torch.ones(x["exp_avg"].shape)) for x in saved["numbers"]]


def made(name: str, params: list[torch.Tensor], **options: Any) -> Any:
    return getattr(ours, re.sub("8bit|4bit|Fp8", "", name.partition("-")[2]))(params, **options)


def snapshot(optimizer: Any) -> Any:
    return copy.deepcopy((optimizer.param_groups, dict(optimizer.state)))


def walk(optimizer: Any, steps: int = 3) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for p in optimizer.param_groups[0]["params"]:
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()


@pytest.mark.parametrize("name", FILES)
def test_numbers_are_those_that_the_library_reads_itself(name: str) -> None:
    saved = read(name)
    params = tensors(saved)
    optimizer = made(name, params, lr=1.0)
    optimizer.load_state_dict(saved["state_dict"])
    coded = 0
    for p, numbers in zip(params, saved["numbers"], strict=True):
        for slot, x in numbers.items():
            assert torch.equal(optimizer.state[p][slot], x), slot
            coded += p.numel() > 4096
        assert optimizer.state[p]["step"] == 3
        assert optimizer.state[p].keys() == {"step", *numbers}
    assert coded == len(saved["numbers"][0])
    (group,) = saved["state_dict"]["param_groups"]
    for key in ("lr", "betas", "weight_decay"):
        torch.testing.assert_close(torch.tensor(optimizer.param_groups[0][key]), torch.as_tensor(group[key]))
    assert not optimizer.param_groups[0].keys() & {"alpha", "t_alpha", "t_beta3"}


@pytest.mark.parametrize("state_dtype", FORMATS)
@pytest.mark.parametrize("name", FILES)
def test_it_goes_on_in_our_formats_as_from_the_same_numbers(name: str, state_dtype: str | None) -> None:
    """As an optimizer that is given the library's numbers by hand."""
    saved = read(name)
    params, others = tensors(saved), tensors(saved)
    loaded, by_hand = made(name, params, state_dtype=state_dtype), made(name, others, state_dtype=state_dtype)
    loaded.load_state_dict(saved["state_dict"])
    assert loaded.param_groups[0]["state_dtype"] == state_dtype
    plain = loaded.state_dict(wide=True)
    for i, numbers in enumerate(saved["numbers"]):
        plain["state"][i] = {"step": torch.tensor(3.0), **{k: x.clone() for k, x in numbers.items()}}
    by_hand.load_state_dict(plain)
    walk(loaded)
    walk(by_hand)
    assert all(map(torch.equal, params, others))
    wanted = {None: torch.float32, "int8": torch.int8}.get(state_dtype) or getattr(torch, str(state_dtype))
    assert loaded.state[params[0]]["exp_avg"].dtype == wanted


def test_parameters_that_were_not_stepped_have_no_memory() -> None:
    saved = read("bitsandbytes-AdamW8bit")
    del saved["state_dict"]["state"][1]
    optimizer = made("-AdamW8bit", tensors(saved))
    optimizer.load_state_dict(saved["state_dict"])
    assert len(optimizer.state) == 1


def test_older_dicts_of_bitsandbytes_have_their_memory_beside_the_step() -> None:
    saved = read("bitsandbytes-AdamW8bit")
    for held in saved["state_dict"]["state"].values():
        held |= held.pop(NESTED)
    optimizer = made("-AdamW8bit", tensors(saved))
    optimizer.load_state_dict(saved["state_dict"])
    assert torch.equal(optimizer.state_dict()["state"][0]["exp_avg"], saved["numbers"][0]["exp_avg"])


def test_what_has_been_done_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "scirs2"):
        for name in FILES:
            saved = read(name)
            made(name, tensors(saved)).load_state_dict(saved["state_dict"])
    said = [record.getMessage() for record in caplog.records]
    assert [re.findall("the codes of (.*)'s optimizer", text) for text in said] == [
        [n.partition("-")[0]] for n in FILES
    ]


def held(saved: Any) -> dict[str, Any]:
    return saved["state"][0].get(NESTED, saved["state"][0])


def without(part: str) -> Callable[[Any], Any]:
    return lambda saved: held(saved).pop(part)


def put(part: str, value: Any) -> Callable[[Any], Any]:
    return lambda saved: held(saved).update({part: value})


def attribute(part: str, value: Any) -> Callable[[Any], Any]:
    return lambda saved: setattr(held(saved)["exp_avg"], part, value)


WRONG = [
    (BNB, without("absmax2"), r"\['state2'\].*must come with scales of shape \(17,\)"),
    (BNB, without("qmap1"), r"\['state1'\].*must come with the table of its 256 codes"),
    (BNB, put("absmax1", torch.ones(3)), "for blocks of 256 codes"),
    (BNB, put("qmap2", torch.ones(16)), "must come with the table of its 256 codes"),
    (BNB, put("state2", torch.ones(64, 65, dtype=torch.int16)), "must be a tensor of numbers or of uint8 codes"),
    (BNB, put("state2", "codes"), "must be a tensor of numbers or of uint8 codes"),
    (BNB, put("state1", torch.zeros(9, 5, dtype=torch.uint8)), r"must come with scales of shape \(1,\)"),
    (BNB, without("state2"), "must have 2 of bitsandbytes' states"),
    (AO, attribute("scale", torch.ones(3)), "for blocks of 256 codes"),
    (AO, attribute("codes", torch.ones(64, 68)), "must be a tensor of numbers or of uint8 codes"),
    (AO, attribute("qmap", torch.ones(16)), "must come with the table of its 256 codes"),
    (AO, attribute("qmap", None), "must come with the table of its 256 codes"),
    (AO, attribute("__class__", InertTensor), r"torchao's OptimState8bit.*dequantize"),
    (AO4, attribute("qmap", torch.ones(256)), "must come with the table of its 16 codes"),
    (AO4, attribute("_shape", (64, 70)), "must have a code for each number of shape"),
    (AO4, attribute("scale", torch.ones(3)), "for blocks of 128 codes"),
    (AO8F, attribute("codes", torch.ones(64, 68, dtype=torch.uint8)), "of float8_e4m3fn codes"),
    (AO8F, attribute("scale", None), "for blocks of 256 codes"),
    (AO, attribute("codes", torch.ones(4, 68, dtype=torch.uint8)), "must come with scales"),
]


@pytest.mark.parametrize(("name", "spoil", "words"), WRONG, ids=range(len(WRONG)))
@pytest.mark.parametrize("state_dtype", [None, "int8"])
def test_a_dict_that_cannot_be_read_changes_nothing(
    name: str, spoil: Callable[[Any], Any], words: str, state_dtype: str | None
) -> None:
    saved = read(name)
    optimizer = made(name, tensors(saved), state_dtype=state_dtype)
    walk(optimizer, 1)
    before = snapshot(optimizer)
    spoil(saved["state_dict"])
    with pytest.raises(ValueError, match=words):
        optimizer.load_state_dict(saved["state_dict"])
    groups, state = snapshot(optimizer)
    assert str(groups) == str(before[0])
    for (p, mine), (q, theirs) in zip(state.items(), before[1].items(), strict=True):
        assert torch.equal(p, q)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[k], theirs[k]) for k in mine)


@pytest.mark.parametrize(
    ("into", "name", "words"),
    [
        ("Lion", BNB, "must have 1 of bitsandbytes' states"),
        ("AdamW", "bitsandbytes-Lion8bit", "must have 2 of bitsandbytes' states"),
        ("Adam", BNB, "bitsandbytes' Adam decays weights as AdamW does"),
        ("RMSprop", "bitsandbytes-Lion8bit", "whose memory means the same here: Adam, AdamW, Lion"),
        ("LAMB", BNB, "whose memory means the same here: Adam, AdamW, Lion"),
        ("Lion", AO, "must be a state dict of Lion"),
    ],
)
def test_another_optimizers_dict_is_refused(into: str, name: str, words: str) -> None:
    saved = read(name)
    optimizer = getattr(ours, into)(tensors(saved))
    with pytest.raises(ValueError, match=words):
        optimizer.load_state_dict(saved["state_dict"])
    assert not optimizer.state


def test_adam_without_weight_decay_takes_bitsandbytes_adam() -> None:
    saved = read(BNB)
    saved["state_dict"]["param_groups"][0]["weight_decay"] = 0
    optimizer = ours.Adam(tensors(saved))
    optimizer.load_state_dict(saved["state_dict"])
    walk(optimizer)
