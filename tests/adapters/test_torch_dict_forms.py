"""State dicts of memory of fewer bits: the compressed form, the wide one, and the way between them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import scirs2_adapters.torch as ours
from scirs2_adapters.adapters.torch.state import coded
from scirs2_adapters.core.registry import get

from .test_torch_storage import BOTH, INT8, RULES, made, parameters, walk
from .torch_dicts import FORMATS, assert_equal, copied, each_format, each_rule, params_of, stepped, twin

# -- the wide form


@each_format
@each_rule
def test_the_wide_form_has_numbers_of_32_bits_and_no_word_on_formats(name: str, form: str) -> None:
    optimizer = stepped(name, FORMATS[form])
    wide, narrow = optimizer.state_dict(wide=True), optimizer.state_dict()
    plain = made(name, parameters())
    walk(plain, params_of(plain), 3)
    for key, held in plain.state_dict()["state"].items():
        dtypes = {k: x.dtype for k, x in wide["state"][key].items()}
        assert {"step": torch.float32} | dtypes == {"step": torch.float32} | {k: x.dtype for k, x in held.items()}
    (group,) = wide["param_groups"]
    assert group.keys() == narrow["param_groups"][0].keys() - {"state_dtype", "rounding", "rounded_dtypes"}
    assert_equal(optimizer, stepped(name, FORMATS[form]))  # which asking for it has not changed


@each_format
@each_rule
def test_a_wide_dict_goes_on_in_the_formats_of_whoever_loads_it(name: str, form: str) -> None:
    """Stored in the formats it came from, it is what it was; in float32 memory the numbers are kept as they are."""
    options = FORMATS[form]
    optimizer = stepped(name, options)
    options = {k: optimizer.param_groups[0][k] for k in options}
    wide = copied(optimizer.state_dict(wide=True))
    untold = (
        [torch.bfloat16] if isinstance(options["state_dtype"], dict) else []
    )  # the parameters' dtype, not asked for
    back, plain = twin(name, optimizer, **options), twin(name, optimizer)
    back.load_state_dict(copied(wide))
    plain.load_state_dict(copied(wide))
    for key, (p, q, r) in enumerate(zip(*map(params_of, (optimizer, back, plain)), strict=True)):
        for slot, x in optimizer.state.get(p, {}).items():
            if slot not in coded.ROUNDINGS and x.dtype not in untold:
                assert torch.equal(x, back.state[q][slot]), slot
                assert x.dtype == back.state[q][slot].dtype
        for slot, x in plain.state.get(r, {}).items():
            assert x.dtype == torch.float32
            assert slot == "step" or torch.equal(x, wide["state"][key][slot])
    assert {k: back.param_groups[0][k] for k in options} == options
    for o in (back,) if get(name).first_step else (back, plain):  # which does not step 16 bits without errors
        walk(o, params_of(o), 2, seed=2)


@pytest.mark.parametrize("name", [n for n in RULES if hasattr(torch.optim, get(n).__name__) and n != "muon"])
def test_torchs_class_takes_a_wide_dict_and_ours_takes_torchs(name: str) -> None:
    """From the same numbers torch goes on as ours does with memory of float32; back here it is coded again."""
    optimizer = stepped(name, INT8)
    wide = copied(optimizer.state_dict(wide=True))
    params = [torch.nn.Parameter(p.detach().clone()) for p in params_of(optimizer)]
    theirs = getattr(torch.optim, get(name).__name__)(params)
    theirs.load_state_dict(copied(wide))
    plain = twin(name, optimizer)
    plain.load_state_dict(wide)
    before = torch.cat([p.detach().flatten().clone() for p in params])
    for o in (theirs, plain):
        walk(o, params_of(o), 2, seed=2)
    ends = [torch.cat([p.detach().flatten() for p in params_of(o)]) for o in (theirs, plain)]
    assert (ends[0] - ends[1]).norm() <= 1e-4 * (ends[0] - before).norm()
    coded = twin(name, optimizer, **INT8)
    coded.load_state_dict(copied(theirs.state_dict()))
    assert coded.param_groups[0]["state_dtype"] == "int8"
    form = [{k: x.dtype for k, x in o.state.get(params_of(o)[0], {}).items()} for o in (coded, optimizer)]
    assert form[0] == form[1]
    walk(coded, params_of(coded), 2, seed=2)


def test_a_dict_of_ours_brings_its_formats_along() -> None:
    """Float32 memory that says so stays float32, and codes stay codes, whatever the optimizer was made with."""
    plain, coded = stepped("adamw", {}), stepped("adamw", INT8)
    for source, options in ((plain, INT8), (coded, {})):
        other = twin("adamw", source, **options)
        other.load_state_dict(copied(source.state_dict()))
        assert_equal(source, other)
        assert other.param_groups[0]["state_dtype"] == source.param_groups[0]["state_dtype"]


def test_slots_that_are_not_asked_for_stay() -> None:
    params = parameters()
    theirs = torch.optim.AdamW(params)
    walk(theirs, params, 2)
    optimizer = ours.AdamW(parameters(), state_dtype={"exp_avg_sq": "int8"})
    optimizer.load_state_dict(copied(theirs.state_dict()))
    state = optimizer.state[params_of(optimizer)[0]]
    assert [state[k].dtype for k in ("exp_avg", "exp_avg_sq")] == [torch.float32, torch.uint8]
    assert torch.equal(state["exp_avg"], theirs.state[params[0]]["exp_avg"])


# -- files


@pytest.mark.parametrize("form", ["int8", "stochastic"])
@each_rule
def test_safetensors_goes_on_bit_for_bit(name: str, form: str, tmp_path: Path) -> None:
    """Tensors under joined names, and the groups as JSON beside them."""
    optimizer = stepped(name, FORMATS[form])
    saved = optimizer.state_dict()
    flat = {f"{key}.{slot}": x.contiguous() for key, held in saved["state"].items() for slot, x in held.items()}
    save_file(flat, tmp_path / "state.safetensors")
    groups = json.dumps(saved["param_groups"])
    state: dict[str, dict[str, torch.Tensor]] = {}
    for joined, x in load_file(tmp_path / "state.safetensors").items():
        key, slot = joined.split(".")
        state.setdefault(key, {})[slot] = x
    other = twin(name, optimizer)
    other.load_state_dict({"state": state, "param_groups": json.loads(groups)})
    for o in (optimizer, other):
        walk(o, params_of(o), 2, seed=2)
    assert_equal(optimizer, other)


@pytest.mark.parametrize("wide", [False, True])
def test_a_full_disk_changes_nothing(wide: bool, tmp_path: Path) -> None:
    optimizer, same = stepped("adamw", BOTH), stepped("adamw", BOTH)
    saved = optimizer.state_dict(wide=wide)
    with pytest.raises((OSError, RuntimeError)):
        torch.save(saved, "/dev/full")
    assert_equal(optimizer, same)
    good = tmp_path / "good.pt"
    torch.save(saved, good)
    loaded = torch.load(good, weights_only=True)
    assert loaded["state"].keys() == saved["state"].keys()
    for o in (optimizer, same):
        walk(o, params_of(o), 2, seed=2)
    assert_equal(optimizer, same)


def test_a_file_is_read_by_torch_with_weights_only() -> None:
    optimizer = stepped("adamw", BOTH)
    for wide in (False, True):
        file = io.BytesIO()
        torch.save(optimizer.state_dict(wide=wide), file)
        file.seek(0)
        twin("adamw", optimizer, **BOTH).load_state_dict(torch.load(file, weights_only=True))


# -- Prodigy, whose first steps are of 1e-6


def run(dtype: torch.dtype, grads: list[torch.Tensor], **options: Any) -> tuple[torch.Tensor, float]:
    """Where these gradients, or 200 that lead to a target, take Prodigy, with rounding errors; the estimated distance.
    All gradients are numbers of bfloat16, and are put into the list.
    """
    generator = torch.Generator().manual_seed(0)
    target, start = (torch.randn(5000, generator=generator) * size for size in (0.3, 0.02))
    p = torch.nn.Parameter(start.bfloat16().to(dtype))
    optimizer = ours.Prodigy([p], **options)
    replayed = list(grads)
    for step in range(len(replayed) or 200):
        p.grad = replayed[step].to(dtype) if replayed else (p.detach() - target).bfloat16().to(dtype)
        grads += [] if replayed else [p.grad]
        optimizer.step()
    return coded.load("p", p.detach(), optimizer.state[p]), optimizer.param_groups[0]["d"]


def test_prodigy_steps_16_bit_parameters_with_errors_of_16_bits() -> None:
    """bfloat16 with 16 bits of error is float32: the same numbers, but for the order of sums."""
    grads: list[torch.Tensor] = []
    wide = dict.fromkeys(("s", "exp_avg", "exp_avg_sq"), "float32")
    options = {"rounding": "compensated", "state_dtype": {"rounding_error": "int16", **wide}}
    (q, e), (p, d) = run(torch.float32, grads), run(torch.bfloat16, grads, **options)
    assert d == pytest.approx(e, rel=1e-6)
    assert d > 1e-2
    assert (p - q).norm() <= 1e-6 * q.norm()


@pytest.mark.parametrize("options", [{}, BOTH], ids=["nearest", "errors of 8 bits"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_prodigy_refuses_16_bits_that_its_first_steps_are_lost_in(dtype: torch.dtype, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="rounding errors of int16"):
        run(dtype, [torch.ones(5000)], **options)
    run(dtype, [torch.ones(5000)], d0=2.0**-7, **options)
