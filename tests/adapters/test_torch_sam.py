"""SAM and ASAM beside the loop that one would write by hand around torch's optimizers."""

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch

from scirs2_adapters.core import Lion
from scirs2_adapters.torch import SAM, AdamW
from tests.adapters.torch_closures import Closure, logistic, off, train

pytestmark = pytest.mark.usefixtures("one_thread")

BASES: list[tuple[str, str, dict[str, Any]]] = [
    ("sgd", "SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    ("adamw", "AdamW", {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.95)}),
    ("rmsprop", "RMSprop", {"lr": 0.01, "alpha": 0.9}),
    ("sgd", "SGD", {"lr": 0.1, "maximize": True}),
]


def by_hand(optimizer: Any, closure: Closure, adaptive: bool) -> torch.Tensor:
    """A step of SAM; each group has its `rho`."""
    loss = closure()
    with torch.no_grad():
        pairs = [(p, g["rho"]) for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        norm = torch.sqrt(sum((((p.abs() if adaptive else 1) * p.grad) ** 2).sum() for p, _ in pairs)) + 1e-12
        before = [p.clone() for p, _ in pairs]
        for p, rho in pairs:
            sign = -1 if optimizer.param_groups[0]["maximize"] else 1
            p += sign * rho * (p**2 if adaptive else 1) * p.grad / norm
    closure()
    with torch.no_grad():
        for (p, _), old in zip(pairs, before, strict=True):
            p.copy_(old)
    optimizer.step()
    return loss


def network(make: Callable[[Any], Any], dtype: torch.dtype = torch.float64) -> tuple[torch.nn.Module, Any, Closure]:
    torch.manual_seed(0)
    x, y = torch.randn(32, 4, dtype=dtype), torch.randn(32, 1, dtype=dtype)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1)).to(dtype)
    return train(model, make, lambda: torch.nn.functional.mse_loss(model(x), y))


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize(("base", "native", "options"), BASES, ids=str)
def test_the_trajectory_is_that_of_a_loop_by_hand(
    base: str, native: str, options: dict[str, Any], adaptive: bool
) -> None:
    def groups(params: Any) -> list[dict[str, Any]]:
        first, *rest = params
        return [{"params": [first], "rho": 0.2, "lr": 0.05}, {"params": rest, "rho": 0.5}]

    model, ours, closure = network(lambda p: SAM(groups(p), base=base, adaptive=adaptive, **options))
    twin, theirs, other = network(lambda p: getattr(torch.optim, native)(groups(p), **options))
    for _ in range(20):
        assert ours.step(closure).item() == pytest.approx(by_hand(theirs, other, adaptive).item(), rel=1e-11)
        assert off(model, twin) <= 1e-11
    assert closure.calls == 40


def test_nothing_but_the_gradient_differs_from_the_base() -> None:
    model, ours, closure = network(lambda p: SAM(p, base="adamw", rho=0.0, lr=0.01))
    twin, theirs, other = network(lambda p: AdamW(p, lr=0.01))
    for _ in range(5):
        ours.step(closure)
        theirs.step(other)
    assert off(model, twin) == 0
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert list(ours.state[p]) == list(theirs.state[q])
        assert all(torch.equal(x, theirs.state[q][k]) for k, x in ours.state[p].items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.complex64])
def test_parameters_come_back_from_the_worst_point_to_the_very_bits(dtype: torch.dtype) -> None:
    start = torch.tensor([1e-6, 1.0, -0.0, 3e3, 1e-3]).to(dtype)
    p, unused = torch.nn.Parameter(start.clone()), torch.nn.Parameter(torch.ones(2))
    places: list[torch.Tensor] = []

    def closure() -> torch.Tensor:
        places.append(p.detach().clone())
        p.grad = torch.ones_like(p)
        return torch.tensor(0.0)

    optimizer = SAM([p, unused], base="sgd", rho=100.0, lr=0.0)
    address = p.data_ptr()
    optimizer.step(closure)
    assert not torch.equal(places[1], start)
    assert torch.equal(p.detach().view(torch.uint8), start.view(torch.uint8))
    assert p.data_ptr() == address
    assert unused.tolist() == [1, 1]


def test_sixteen_bit_parameters_are_moved_as_float32_and_rounded_once() -> None:
    start, slope = torch.full((3,), 1.0), torch.tensor([3.0, 4.0, 0.0])
    p = torch.nn.Parameter(start.bfloat16())
    places: list[torch.Tensor] = []

    def closure() -> torch.Tensor:
        places.append(p.detach().clone())
        p.grad = slope.bfloat16()
        return torch.tensor(0.0)

    SAM([p], rho=0.05).step(closure)
    assert torch.equal(places[1], (start + 0.05 * slope / 5).bfloat16())


def test_a_base_may_be_a_rule_and_its_arguments_are_taken() -> None:
    p = torch.nn.Parameter(torch.ones(2))
    optimizer = SAM([p], base=Lion(beta1=0.5), rho=0.1, lr=0.25)
    assert (optimizer.param_groups[0]["betas"], optimizer.param_groups[0]["lr"]) == ((0.5, 0.99), 0.25)
    assert (optimizer.param_groups[0]["rho"], optimizer.param_groups[0]["base"]) == (0.1, "lion")


def test_the_radius_is_read_from_the_group_at_every_step() -> None:
    model, ours, closure = network(lambda p: SAM(p, lr=0.1, rho=0.5))
    twin, theirs, other = network(lambda p: torch.optim.SGD([{"params": list(p), "rho": 0.5}], lr=0.1))
    for rho in (0.1, 0.3, 0.0):
        ours.param_groups[0]["rho"] = theirs.param_groups[0]["rho"] = rho
        ours.step(closure)
        by_hand(theirs, other, False)
        assert off(model, twin) <= 1e-12


def test_gradients_are_clipped_where_the_base_steps() -> None:
    p = torch.nn.Parameter(torch.zeros(2))

    def closure() -> torch.Tensor:
        p.grad = torch.tensor([3.0, 4.0])
        return torch.tensor(0.0)

    SAM([p], lr=1.0, max_grad_norm=1.0).step(closure)
    assert torch.allclose(p, torch.tensor([-0.6, -0.8]))


def test_the_dict_of_another_optimizer_is_refused_and_that_of_another_base_too() -> None:
    _, optimizer, closure = logistic(lambda p: SAM(p, base="adamw"))
    optimizer.step(closure)
    _, other, _ = logistic(lambda p: SAM(p, base="sgd"))
    _, plain, _ = logistic(AdamW)
    for wrong in (other, plain):
        with pytest.raises(ValueError, match="must be a state dict of"):
            wrong.load_state_dict(optimizer.state_dict())
        with pytest.raises(ValueError, match="must be a state dict of"):
            optimizer.load_state_dict(wrong.state_dict())


def test_memory_keeps_its_dtype_through_a_checkpoint() -> None:
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))

    def closure() -> torch.Tensor:
        p.grad = torch.ones_like(p)
        return torch.tensor(0.0)

    optimizer = SAM([p], base="adamw", state_dtype="float32")
    optimizer.step(closure)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    other = SAM([p], base="adamw", state_dtype="float32")
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.state[p]["exp_avg"].dtype == torch.float32
    assert torch.equal(other.state[p]["exp_avg"], optimizer.state[p]["exp_avg"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rho": -1.0}, r"`SAM\(rho=...\)` must be a finite number >= 0"),
        ({"lr": -1.0}, "Invalid learning rate: -1"),
        ({"base": "lbfgs"}, r"`SAM\(base=...\)` must be .* needs no closure"),
        ({"base": "swa"}, r"`SAM\(base=...\)` must be an optimizer that evaluates what it trains"),
        ({"base": "adadelta"}, r"`SAM\(base=...\)` must have no argument `rho`, for SAM has one"),
        ({"nesterov_": True}, "has no argument `nesterov_`"),
    ],
    ids=str,
)
def test_arguments_that_do_not_fit_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        SAM([torch.nn.Parameter(torch.ones(1))], **options)
