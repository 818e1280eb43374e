"""Parameters on a CUDA device: the generated kernel, bundles of torch's operations, and captured steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scirs2_adapters import get

from .torch_support import EVERY, each_optimizer, ours

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")

SHAPES = [(257, 33), (9000,), (), (0, 3), (4, 3, 2, 2)]


def parameters(device: str, dtype: torch.dtype = torch.float32) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    return [torch.nn.Parameter(x.to(device, dtype)) for x in made]


def walk(optimizer: torch.optim.Optimizer, steps: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for _ in range(steps):
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.device, p.dtype)
        optimizer.step()
    return [p.detach().double().cpu() for p in params]


def made(name: str, params: Any, **options: Any) -> torch.optim.Optimizer:
    return ours(name)(params, **options)


def assert_close(actual: list[torch.Tensor], expected: list[torch.Tensor], rtol: float) -> None:
    start = [p.detach().double() for p in parameters("cpu", torch.float64)]
    for a, b, x in zip(actual, expected, start, strict=True):
        assert torch.isfinite(a).all()
        assert (a - b).norm() <= rtol * ((b - x).norm() + 1e-30) + 1e-7 * b.norm()


@pytest.mark.parametrize("kernel", ["auto", "traced"])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 2e-5), (torch.float64, 1e-12)], ids=str)
@each_optimizer
def test_it_walks_as_on_the_host(name: str, kernel: str, dtype: torch.dtype, rtol: float) -> None:
    there = walk(made(name, parameters("cuda", dtype), kernel=kernel))
    here = walk(made(name, parameters("cpu", dtype)))
    assert_close(there, here, rtol)


@each_optimizer
def test_sixteen_bits_compute_in_float32(name: str) -> None:
    options: dict[str, Any] = {"state_dtype": "float32"}
    there = walk(made(name, parameters("cuda", torch.bfloat16), **options))
    here = walk(made(name, parameters("cpu", torch.bfloat16), **options))
    for a, b in zip(there, here, strict=True):
        assert torch.allclose(a, b, rtol=2**-7, atol=1e-6)


@pytest.mark.parametrize("rounding", ["nearest", "compensated", "stochastic"])
@each_optimizer
def test_memory_of_fewer_bits_walks_as_on_the_host(name: str, rounding: str) -> None:
    """Rules without a kernel of their own there do so in torch's operations."""
    if get(name).first_step and rounding != "nearest":
        pytest.skip("refuses parameters of 16 bits: its first steps would be lost")
    dtype = torch.float32 if rounding == "nearest" else torch.bfloat16
    optimizers = [
        made(name, parameters(device, dtype), state_dtype="int8", rounding=rounding) for device in ("cuda", "cpu")
    ]
    there, here = map(walk, optimizers)
    assert_close(there, here, 0.02)
    states = [list(optimizer.state.values()) for optimizer in optimizers]
    for a, b in zip(*states, strict=True):
        assert {k: (x.dtype, x.shape) for k, x in a.items()} == {k: (x.dtype, x.shape) for k, x in b.items()}


@each_optimizer
def test_strides_and_neighbors_are_kept(name: str) -> None:
    base = torch.randn(64, 80, device="cuda")
    kept = base.clone()
    p = torch.nn.Parameter(base[:, ::2])
    q = torch.nn.Parameter(kept[:, ::2].cpu())
    p.grad, q.grad = (torch.ones_like(q).t().contiguous().t().to(x.device) for x in (p, q))
    for x in (p, q):
        made(name, [x]).step()
    assert torch.equal(base[:, 1::2], kept[:, 1::2])
    assert torch.allclose(p.detach().cpu(), q.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel", ["auto", "traced"])
@each_optimizer
def test_a_captured_step_counts_on_the_device(name: str, kernel: str) -> None:
    params, others = ([torch.nn.Parameter(torch.ones(300, 7, device="cuda")) for _ in range(3)] for _ in range(2))
    captured, eager = (made(name, ps, capturable=True, kernel=kernel) for ps in (params, others))
    for p, q in zip(params, others, strict=True):
        p.grad = torch.full_like(p, 0.3)
        q.grad = p.grad.clone()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            captured.step()
            eager.step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    if kernel == "traced" and ours(name).rule_class().model_slots():  # type: ignore[attr-defined]
        with pytest.raises(RuntimeError, match="on the device"), torch.cuda.graph(graph):
            captured.step()
        return
    with torch.cuda.graph(graph):
        captured.step()
    for _ in range(4):
        graph.replay()
        eager.step()
    torch.cuda.synchronize()
    for p, q in zip(params, others, strict=True):
        assert torch.allclose(p, q, rtol=1e-5, atol=1e-7)
        assert all(torch.allclose(v, eager.state[q][k], rtol=1e-5, atol=1e-7) for k, v in captured.state[p].items())


@each_optimizer
def test_a_first_step_is_not_captured(name: str) -> None:
    """Replays would begin anew; a formula that keeps nothing has no need of a step before."""
    first, other = (torch.nn.Parameter(torch.ones(300, 7, device="cuda")) for _ in range(2))
    first.grad, other.grad = torch.ones_like(first), torch.ones_like(other)
    optimizer, eager = made(name, [first], capturable=True), made(name, [other])
    eager.step()
    graph = torch.cuda.CUDAGraph()
    if any(eager.state.values()) or ours(name).rule_class().model_slots():  # type: ignore[attr-defined]
        with pytest.raises(RuntimeError, match="Take one step"), torch.cuda.graph(graph):
            optimizer.step()
        optimizer.step()
    else:
        with torch.cuda.graph(graph):
            optimizer.step()
        graph.replay()
    assert torch.allclose(first, other, rtol=1e-5, atol=1e-7)


@each_optimizer
def test_a_state_dict_moves_between_devices(name: str) -> None:
    there, here = made(name, parameters("cuda")), made(name, parameters("cpu"))
    walk(there)
    saved = there.state_dict()
    with torch.no_grad():
        for p, q in zip(there.param_groups[0]["params"], here.param_groups[0]["params"], strict=True):
            q.copy_(p)
    here.load_state_dict(saved)
    assert_close(walk(here), walk(there), 2e-5)


@pytest.mark.parametrize("fused", [None, True])
def test_a_loss_scale_and_a_limit_are_read_on_the_way(fused: bool | None) -> None:
    results = []
    for cls, options in ((ours("AdamW"), {"max_grad_norm": 1.0, "fused": fused}), (torch.optim.AdamW, {})):
        params = parameters("cuda")
        optimizer, scaler = cls(params, **options), torch.amp.GradScaler("cuda", init_scale=256.0)
        for step in range(4):
            scaler.scale(torch.zeros((), device="cuda"))
            for k, p in enumerate(params):
                p.grad = torch.full_like(p, 256.0 * (k + 1) * (float("inf") if step == 2 else 1.0))
            if not options:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(params, 1.0)
            scaler.step(optimizer)
            scaler.update()
        results.append([p.detach().double().cpu() for p in params])
    assert_close(*results, rtol=2e-5)


@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 1.0}, {"kernel": "traced"}], ids=str)
@each_optimizer
def test_a_step_that_is_not_finite_is_left_out_and_counted(name: str, options: dict[str, Any]) -> None:
    optimizer, other = (made(name, parameters("cuda"), **options, **more) for more in ({"skip_nonfinite": True}, {}))
    for at in range(2):
        for p in optimizer.param_groups[0]["params"]:
            p.grad = torch.ones_like(p)
        optimizer.param_groups[0]["params"][at].grad.view(-1)[-1] = (float("inf"), float("nan"))[at]
        optimizer.step()
        assert optimizer.param_groups[0]["skipped_steps"] == at + 1
        assert not optimizer.state
    assert all(torch.equal(a, b) for a, b in zip(walk(optimizer), walk(other), strict=True))


def test_sam_steps_under_a_scaler() -> None:
    ends = []
    for scaler in (torch.amp.GradScaler("cuda", init_scale=1024.0), None):
        params = parameters("cuda")
        optimizer = ours("SAM")(params, base="adamw")

        def closure(scaler: Any = scaler, params: Any = params, optimizer: Any = optimizer) -> torch.Tensor:
            optimizer.zero_grad()
            loss = sum((p - 1).square().sum() for p in params)
            (loss if scaler is None else scaler.scale(loss)).backward()
            return loss

        for _ in range(3):
            optimizer.step(closure, **({"scaler": scaler} if scaler else {}))
            if scaler:
                scaler.update()
        ends.append([p.detach().double().cpu() for p in params])
    assert_close(*ends, rtol=1e-6)


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize("name", [name for name in EVERY if ours(name).rule_class.sparse])
def test_sparse_rows_are_stepped_where_they_are(name: str) -> None:
    tables = []
    for device in ("cuda", "cpu"):
        p = torch.nn.Parameter(torch.linspace(-1, 1, 60).reshape(20, 3).to(device))
        optimizer = made(name, [p])
        for step in range(4):
            index = torch.tensor([[step, 7, 7, 19]])
            p.grad = torch.sparse_coo_tensor(index, torch.full((4, 3), 0.5), (20, 3)).to(device)
            optimizer.step()
        tables.append(p.detach().cpu())
    assert torch.allclose(*tables, rtol=1e-5, atol=1e-7)
    assert not torch.equal(tables[0][19], torch.linspace(-1, 1, 60).reshape(20, 3)[19])
