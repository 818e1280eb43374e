"""torch parameters with memory of 8 bits and with rounding errors: the steps of `HostOptimizer`, saved and loaded as
torch does.
"""

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch

import scirs2_adapters.torch as ours
from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.core.registry import get, names
from scirs2_adapters.core.slots import Leaf
from scirs2_adapters.core.step.options import counts_steps
from tests.conformance.cells import by_library
from tests.conformance.options import still_steps

RULES = [name for name in names() if not get(name).needs_closure and name not in ("sparseadam", "lookahead")]
SHAPES = ((96, 96), (80,), (16, 32, 3, 3), (4173,))
INT8 = {"state_dtype": "int8"}
BOTH = {"state_dtype": "int8", "rounding": "compensated"}
RANDOM = {"state_dtype": "int8", "rounding": "stochastic"}


def parameters(dtype: torch.dtype = torch.float32) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]


def made(name: str, params: Any, **options: Any) -> torch.optim.Optimizer:
    cls = getattr(ours, get(name).__name__)
    return cls(params, **({"match": None} | options) if name == "muon" else options)


def walk(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter], steps: int = 4, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)
        optimizer.step()


def bits(x: torch.Tensor) -> np.ndarray:
    x = x.detach()
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()


@pytest.mark.parametrize("options", [INT8, BOTH, RANDOM], ids=["int8", "compensated", "stochastic"])
@pytest.mark.parametrize("name", RULES)
def test_steps_are_those_of_numpy_arrays_bit_for_bit(name: str, options: dict[str, Any]) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    if get(name).first_step and options not in (INT8, BOTH):
        pytest.skip("refuses parameters of 16 bits without rounding errors: its first steps would be lost")
    if get(name).first_step and options is BOTH:  # and those of 8 bits are too coarse
        options = BOTH | {"state_dtype": {"rounding_error": "int16"}}
    dtype = torch.float32 if options is INT8 else torch.bfloat16
    params = parameters(dtype)
    optimizer = made(name, params, **options)
    arrays = [bits(p).copy() for p in params]
    arrays = [x if options is INT8 else x.view(ml_dtypes.bfloat16) for x in arrays]
    rule = optimizer._group_rule(0, optimizer.param_groups[0]).rule  # torch's defaults differ from the core's
    host = HostOptimizer(rule, arrays, **options)
    steps = max(4, 1 + still_steps(name))
    walk(optimizer, params, steps)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        grads = [bits(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]
        host.step([g if options is INT8 else g.view(ml_dtypes.bfloat16) for g in grads])
    for k, (p, x) in enumerate(zip(params, arrays, strict=True)):
        if by_library(name):  # torch multiplies matrices here, and AdaMuon divides by squares of such entries
            np.testing.assert_allclose(p.detach().float().numpy(), x.astype(np.float32), rtol=0.02, atol=2e-3)
            continue
        np.testing.assert_array_equal(bits(p), x if options is INT8 else x.view(np.uint16))
        for slot, memory in host.state.get(k, {}).items():
            np.testing.assert_array_equal(bits(optimizer.state[p][slot]), memory)


@pytest.mark.parametrize("name", RULES)
def test_torch_operations_lead_to_the_same(name: str) -> None:
    ends = []
    for kernel in ("host", "traced"):
        params = parameters()
        walk(made(name, params, kernel=kernel, **INT8), params, max(4, 1 + still_steps(name)))
        ends.append(torch.cat([p.detach().flatten() for p in params]))
    way = (ends[0] - torch.cat([p.detach().flatten() for p in parameters()])).norm()
    assert way > 0
    assert (ends[1] - ends[0]).norm() <= 2e-3 * way


@pytest.mark.parametrize("rounding", ["compensated", "stochastic"])
@pytest.mark.parametrize("kernel", ["host", "traced"])
@pytest.mark.parametrize("name", ["AdamW", "Lion", "LAMB", "Muon", "NAdam"])
def test_a_state_dict_goes_on_bit_for_bit(name: str, kernel: str, rounding: str) -> None:
    options = {"state_dtype": "int8", "rounding": rounding, "kernel": kernel}
    params = parameters(torch.bfloat16)
    optimizer = getattr(ours, name)(params, **options)
    walk(optimizer, params)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    others = [torch.nn.Parameter(p.detach().clone()) for p in params]
    other = getattr(ours, name)(others, kernel=kernel)  # formats come with the groups
    other.load_state_dict(torch.load(file, weights_only=True))
    copied_params, copied = copy.deepcopy((params, optimizer))
    for o, ps in ((optimizer, params), (other, others), (copied, copied_params)):
        walk(o, ps, seed=2)
    for p, q, r in zip(params, others, copied_params, strict=True):
        assert torch.equal(p, q)
        assert torch.equal(p, r)
        for slot, memory in optimizer.state[p].items():
            assert torch.equal(memory, other.state[q][slot]), slot
            assert memory.dtype == other.state[q][slot].dtype


@pytest.mark.parametrize("kernel", ["host", "traced"])
def test_other_layouts_of_memory(kernel: str) -> None:
    """Codes lie as contiguous numbers do, wherever the parameter's are."""
    ends = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        p = torch.nn.Parameter(torch.randn(16, 32, 4, 4).to(memory_format=layout))
        optimizer = ours.AdamW([p], kernel=kernel, **INT8)
        walk(optimizer, [p])
        ends.append(p.detach().contiguous())
    assert torch.equal(*ends)


def test_groups_have_formats_of_their_own() -> None:
    params = parameters(torch.bfloat16)
    groups = [{"params": params[:1], **BOTH}, {"params": params[1:3], "state_dtype": "float32"}, {"params": params[3:]}]
    optimizer = ours.AdamW(groups)
    walk(optimizer, params)
    assert [optimizer.state[p]["exp_avg"].dtype for p in params] == [torch.int8, *[torch.float32] * 2, torch.bfloat16]
    assert ["rounding_error" in optimizer.state[p] for p in params] == [True, False, False, False]


def test_float32_parameters_beside_those_of_16_bits_are_stepped_as_ever() -> None:
    p, q, alone = (
        torch.nn.Parameter(torch.ones(5000, dtype=d)) for d in (torch.float32, torch.bfloat16, torch.float32)
    )
    both, one = ours.AdamW([p, q], rounding="compensated"), ours.AdamW([alone])
    for _ in range(20):
        for x in (p, q, alone):
            x.grad = torch.ones_like(x)
        both.step()
        one.step()
    assert torch.equal(p, alone)
    assert "rounding_error" not in both.state[p]
    assert (q - alone).abs().max() <= 2**-9


#: Of two parameters the second alone counts its steps: its dtype is rounded by chance, or its size has codes of 8 bits.
BY_DTYPE = [((40,), torch.float32), ((40,), torch.bfloat16)]
BY_SIZE = [((10,), torch.float32), ((5000,), torch.float32)]
UNTIMED = [n for n in RULES if get(n).time_dependence != "step" and not get(n)().model_slots()]
DITHERED = [n for n in UNTIMED if counts_steps(get(n)(), Leaf((5000,)), "nearest", "int8")]
COUNTED = [*((n, BY_DTYPE, {"rounding": "stochastic"}) for n in UNTIMED), *((n, BY_SIZE, INT8) for n in DITHERED)]


@pytest.mark.parametrize("kernel", ["host", "traced"])
@pytest.mark.parametrize(("name", "forms", "options"), COUNTED)
def test_a_parameter_that_counts_its_steps_walks_as_alone_beside_one_that_does_not(
    name: str, forms: list[tuple[tuple[int], torch.dtype]], options: dict[str, Any], kernel: str
) -> None:
    ends = []
    for stepped in ((0, 1), (0,), (1,)):
        generator = torch.Generator().manual_seed(0)
        params = [torch.nn.Parameter(torch.randn(s, generator=generator).to(d)) for s, d in forms]
        optimizer = made(name, params, kernel=kernel, **options)
        for _ in range(4):
            grads = [torch.randn(p.shape, generator=generator).to(p.dtype) for p in params]
            for i in stepped:
                params[i].grad = grads[i]
            optimizer.step()
        ends.append([[p, *optimizer.state[p].values()] for p in params])
    assert ["step" in optimizer.state[p] for p in params] == [False, True]
    both, *alone = ends
    for i, tensors in enumerate(alone):
        assert all(map(torch.equal, both[i], tensors[i]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"state_dtype": "int4"}, "'int8'"),
        ({"rounding": "compensated"}, "needs parameters of 16 bits"),
        ({"rounding": "kahan"}, "must be one of 'nearest', 'stochastic', 'compensated'"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ours.AdamW(parameters(), **options)


def test_sparse_gradients_of_coded_memory_are_refused_before_anything_moves() -> None:
    p = torch.nn.Parameter(torch.ones(5000, 2))
    optimizer = ours.Adagrad([p], **INT8)
    p.grad = torch.sparse_coo_tensor(torch.tensor([[1]]), torch.ones(1, 2), p.shape, check_invariants=True)
    with pytest.raises(RuntimeError, match="sparse gradient"):
        optimizer.step()
    assert not optimizer.state.get(p)
    assert torch.equal(p, torch.ones(5000, 2))


def test_scales_of_another_block_size_are_refused() -> None:
    params = parameters()
    optimizer = ours.AdamW(params, **INT8)
    walk(optimizer, params, 1)
    saved = copy.deepcopy(optimizer.state_dict())
    saved["state"][0]["exp_avg_scale"] = torch.ones(72)
    fresh = ours.AdamW(parameters(), **INT8)
    with pytest.raises(ValueError, match=r"exp_avg_scale.*scales of blocks of 256"):
        fresh.load_state_dict(saved)
    assert not fresh.state


@pytest.mark.parametrize("wrong", [torch.ones(3, dtype=torch.int8), torch.ones(4173)], ids=["shape", "dtype"])
def test_rounding_errors_of_another_form_are_refused(wrong: torch.Tensor) -> None:
    params = parameters(torch.bfloat16)
    optimizer = ours.AdamW(params, **BOTH)
    walk(optimizer, params, 1)
    saved = copy.deepcopy(optimizer.state_dict())
    saved["state"][3]["rounding_error"] = wrong
    with pytest.raises(ValueError, match=r"rounding_error.*int8 or int16 tensor"):
        ours.AdamW(parameters(torch.bfloat16), **BOTH).load_state_dict(saved)
    optimizer.state[params[3]]["rounding_error"] = wrong
    with pytest.raises(ValueError, match=r"rounding_error.*int8 or int16 tensor"):
        walk(optimizer, params, 1)


@pytest.mark.parametrize("wrong", [torch.tensor(3), torch.zeros(2, dtype=torch.int32)], ids=["dtype", "shape"])
def test_seeds_of_another_form_are_refused(wrong: torch.Tensor) -> None:
    params = parameters(torch.bfloat16)
    optimizer = ours.SGD(params, rounding="stochastic")
    walk(optimizer, params, 1)
    assert [optimizer.state[p]["rounding_seed"].item() for p in params] == [0, 1, 2, 3]
    saved = copy.deepcopy(optimizer.state_dict())
    saved["state"][3]["rounding_seed"] = wrong
    with pytest.raises(ValueError, match=r"rounding_seed.*int32 tensor of shape \(\), the seed"):
        ours.SGD(parameters(torch.bfloat16), rounding="stochastic").load_state_dict(saved)


@pytest.mark.parametrize("kernel", ["host", "traced"])
def test_a_rounding_that_changes_takes_its_memory_along(kernel: str) -> None:
    params = parameters(torch.bfloat16)
    optimizer = ours.AdamW(params, kernel=kernel, rounding="compensated")
    walk(optimizer, params, 1)
    for rounding, name in (("stochastic", "rounding_seed"), ("nearest", None), ("compensated", "rounding_error")):
        optimizer.param_groups[0]["rounding"] = rounding
        walk(optimizer, params, 1)
        for p in params:
            assert [x for x in optimizer.state[p] if x.startswith("rounding")] == [name] * (name is not None)
    optimizer.param_groups[0]["rounding"] = "randomly"
    before = [p.detach().clone() for p in params]
    with pytest.raises(ValueError, match=r"rounding=.*must be one of"):
        walk(optimizer, params, 1)
    assert all(map(torch.equal, params, before))


@pytest.mark.parametrize("kernel", ["host", "traced"])
def test_a_model_made_float32_goes_on_without_rounding_errors(kernel: str) -> None:
    model = torch.nn.Linear(80, 80).to(torch.bfloat16)
    params = list(model.parameters())
    optimizer = ours.AdamW(params, kernel=kernel, **BOTH)
    walk(optimizer, params, 3)
    model.float()
    before = [p.detach().clone() for p in params]
    walk(optimizer, params, 1)
    for p, start in zip(params, before, strict=True):
        assert "rounding_error" not in optimizer.state[p]
        assert (p - start).abs().max() < 0.01


def test_memory_is_a_fraction() -> None:
    p = torch.nn.Parameter(torch.ones(1 << 20, dtype=torch.bfloat16))
    optimizer = ours.AdamW([p], **BOTH)
    walk(optimizer, [p], 1)
    size = sum(x.numel() * x.element_size() for x in optimizer.state[p].values())
    assert size <= (3 + 8 / 256) * p.numel() + 8
