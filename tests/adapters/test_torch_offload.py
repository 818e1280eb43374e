"""Parameters whose memory and step are the host's: what is refused, what is left as it is, how copies are known to be
right; and the steps themselves, on a device that is registered in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed
from torch.distributed.tensor import DTensor, Shard, init_device_mesh

from scirs2_adapters.adapters.torch.dispatch.offload import WIDTH, bits
from tests.adapters.torch_support import ALL, ids, ours, plain, walk
from tests.boundaries.support import ROOT
from tests.sampling import samples

HERE = Path(__file__).parent
pytestmark = pytest.mark.usefixtures("one_thread")


def test_on_a_device(request: pytest.FixtureRequest) -> None:
    """The tests of these files; a device is registered for a whole process."""
    files = [str(HERE / f"torch_offload_{name}.py") for name in ("steps", "around", "dicts")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--adapters", "torch", *files]
    command += ["--sample"] if samples(request.config) else []
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout[-5000:]


@pytest.mark.parametrize("name", ALL)
def test_parameters_of_the_cpu_are_stepped_as_always(name: str) -> None:
    here, there = plain(), plain()
    a, b = ours(name)(here), ours(name)(there, offload=True)
    walk(a, b, steps=3)
    assert all(map(torch.equal, here, there))
    assert b._offloading().allocated == 0  # type: ignore[attr-defined]
    assert not any("host" in note for note in b.memory().notes)  # type: ignore[attr-defined]


@pytest.mark.parametrize("flag", ["foreach", "fused", "capturable", "differentiable"])
def test_flags_of_steps_on_the_device_are_refused(flag: str) -> None:
    match = rf"`AdamW\(offload=...\)` must be False where {flag}=True.*Use {flag}="
    with pytest.raises(ValueError, match=match):
        ours("AdamW")(plain(), offload=True, **{flag: True})
    optimizer = ours("AdamW")(plain())
    with pytest.raises(ValueError, match=match):
        optimizer.add_param_group({"params": plain(), "offload": True, flag: True})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("value", [None, 1, "cpu"])
def test_another_value_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"`SGD\(offload=...\)` must be True or False. Received: "):
        ours("SGD")(plain(), offload=value)


@pytest.fixture
def mesh() -> Iterator[Any]:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


def test_a_dtensor_is_refused(mesh: Any) -> None:
    p = torch.nn.Parameter(DTensor.from_local(torch.ones(4), mesh, [Shard(0)]))
    match = r"`AdamW\(offload=...\)` must be False for parameters that are a DTensor.*CPUOffloadPolicy"
    with pytest.raises(ValueError, match=match):
        ours("AdamW")([p], offload=True)
    optimizer = ours("AdamW")(some := plain(), offload=True)
    with pytest.raises(ValueError, match=match):
        optimizer.add_param_group({"params": [p]})
    assert len(optimizer.param_groups) == 1
    optimizer.param_groups[0]["params"].append(p)  # as `fully_shard` puts it there
    p.grad, some[0].grad = torch.ones_like(p), torch.ones_like(some[0])
    with pytest.raises(ValueError, match=match):
        optimizer.step()
    assert not optimizer.state


def test_the_report_of_shapes_alone() -> None:
    layer = torch.nn.Linear(64, 64, device="meta")
    optimizer: Any = ours("AdamW")(layer.parameters(), offload=True)
    memory, usual = optimizer.memory(), ours("AdamW")(layer.parameters()).memory()  # type: ignore[attr-defined]
    assert (memory.total, memory.state) == (usual.total, usual.state)
    assert set(memory.notes) - set(usual.notes)


def test_the_scale_of_a_scaler_is_asked_for() -> None:
    assert ours("AdamW")(plain(), offload=True)._step_supports_amp_scaling  # type: ignore[attr-defined]
    assert not hasattr(ours("AdamW")(plain()), "_step_supports_amp_scaling")


DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex64, torch.int8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (2,), (WIDTH - 1,), (WIDTH,), (2 * WIDTH + 3,), (64, 96), (3, 40, 50)])
def test_any_change_of_a_number_is_noticed(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    real = torch.randint(-100, 100, shape, generator=generator) if dtype == torch.int8 else None
    x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) if real is None else real.to(dtype)
    before, numbers = bits(x), x.numel()
    assert torch.equal(before, bits(x.clone()))
    assert len(before) <= 4 * WIDTH
    flat = x.view(-1)
    for place in {0, numbers // 2, numbers - 1}:
        held = flat[place].clone()
        flat[place] = -held if held != 0 else 1
        assert not torch.equal(before, bits(x))
        flat[place] = held
    changes = [x.neg(), x * 2 if dtype != torch.int8 else x + 1, x.roll(1, 0) if shape and numbers > 1 else x.neg()]
    for other in changes:
        assert torch.equal(other, x) or not torch.equal(before, bits(other))
    assert torch.equal(before, bits(x))


def test_zeros_of_both_signs_and_numbers_that_are_none_are_told_apart() -> None:
    x = torch.tensor([0.0, 1.0, torch.nan])
    assert not torch.equal(bits(x), bits(torch.tensor([-0.0, 1.0, torch.nan])))
    assert torch.equal(bits(x), bits(x.clone()))


@pytest.mark.parametrize("moved", ["rows", "columns", "halves"])
@pytest.mark.parametrize("shape", [(4096, 64), (50, 7000), (1020, 1022)], ids=ids)
def test_numbers_that_change_places_are_noticed(moved: str, shape: tuple[int, int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    before = bits(x)
    first, second = (x[0], x[-1]) if moved == "rows" else (x[:, 0], x[:, -1]) if moved == "columns" else x.chunk(2)
    held = first.clone()
    first.copy_(second)
    second.copy_(held)
    assert not torch.equal(before, bits(x))


def test_the_memory_of_strides_is_walked_as_it_lies() -> None:
    x = torch.randn(70, 60)
    assert torch.equal(bits(x), bits(x.t()))
    part = torch.randn(70, 120)[:, ::2]
    assert torch.equal(bits(part), bits(part.contiguous()))
