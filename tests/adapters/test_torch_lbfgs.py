"""L-BFGS beside torch's own."""

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from scirs2_adapters.torch import LBFGS, AdamW
from tests.adapters.torch_closures import logistic, off, same, train

pytestmark = pytest.mark.usefixtures("one_thread")

SEARCHES: list[dict[str, Any]] = [
    {"lr": 1, "max_iter": 4},
    {"lr": 0.5, "max_iter": 3, "history_size": 5},
    {"history_size": 1},
    {"max_iter": 1},
    {"line_search_fn": "strong_wolfe", "max_iter": 4},
    {"line_search_fn": "strong_wolfe", "history_size": 3},
    {"line_search_fn": "strong_wolfe", "max_eval": 3, "lr": 0.1},
]
each_search = pytest.mark.parametrize("options", SEARCHES, ids=str)


@each_search
def test_the_trajectory_is_torchs(options: dict[str, Any]) -> None:
    model, ours, closure = logistic(lambda p: LBFGS(p, **options))
    twin, theirs, other = logistic(lambda p: torch.optim.LBFGS(p, **options))
    for _ in range(30):
        assert ours.step(closure).item() == pytest.approx(theirs.step(other).item(), rel=1e-12)
        assert off(model, twin) <= 1e-12
    assert closure.calls == other.calls == ours.state_dict()["state"][0]["func_evals"]


def test_a_search_from_far_too_long_a_step_parts_from_torchs_by_its_rounding_only() -> None:
    options = {"line_search_fn": "strong_wolfe", "lr": 30.0, "max_iter": 5}  # torch divides by way of a reciprocal
    model, ours, closure = logistic(lambda p: LBFGS(p, **options))
    twin, theirs, other = logistic(lambda p: torch.optim.LBFGS(p, **options))
    for _ in range(10):
        ours.step(closure)
        theirs.step(other)
        assert off(model, twin) <= 1e-10
    assert closure.calls == other.calls


@each_search
def test_the_state_dict_is_torchs(options: dict[str, Any]) -> None:
    _, ours, closure = logistic(lambda p: LBFGS(p, **options))
    _, theirs, other = logistic(lambda p: torch.optim.LBFGS(p, **options))
    for _ in range(5):
        ours.step(closure)
        theirs.step(other)
    mine, others = ours.state_dict(), theirs.state_dict()
    assert mine["param_groups"] == others["param_groups"]
    held, expected = mine["state"][0], others["state"][0]
    if options.get("max_iter") != 1 and options.get("max_eval") != 3:  # "al" is last there, as it comes a step later
        assert list(held) == list(expected)
    assert held.keys() == expected.keys()
    assert float(held.pop("t")) == pytest.approx(float(expected.pop("t")))
    assert same(held, {k: expected[k] for k in held})


@each_search
@pytest.mark.parametrize("into_torch", [False, True])
def test_either_side_continues_the_others_checkpoint(options: dict[str, Any], into_torch: bool) -> None:
    kinds = (LBFGS, torch.optim.LBFGS) if into_torch else (torch.optim.LBFGS, LBFGS)
    model, one, closure = logistic(lambda p: kinds[0](p, **options))
    for _ in range(4):
        one.step(closure)
    file = io.BytesIO()
    torch.save((model.state_dict(), one.state_dict()), file)
    file.seek(0)
    weights, saved = torch.load(file, weights_only=True)
    twin, two, other = logistic(kinds[1])
    twin.load_state_dict(weights)
    two.load_state_dict(saved)
    for _ in range(10):
        one.step(closure)
        two.step(other)
        assert off(twin, model) <= 1e-12


def test_a_float32_model_reaches_torchs_minimum() -> None:
    model, ours, closure = logistic(lambda p: LBFGS(p, line_search_fn="strong_wolfe"), torch.float32)
    twin, theirs, other = logistic(lambda p: torch.optim.LBFGS(p, line_search_fn="strong_wolfe"), torch.float32)
    for _ in range(10):
        mine, others = ours.step(closure), theirs.step(other)
    assert mine.item() == pytest.approx(others.item(), rel=1e-5)
    assert off(model, twin) < 0.05


def quadratic(dtype: torch.dtype) -> tuple[torch.Tensor, Any]:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(20, 20, generator=generator, dtype=torch.float64)
    matrix = (root @ root.T / 20 + 0.1 * torch.eye(20, dtype=torch.float64)).to(dtype)
    target = torch.randn(20, generator=generator, dtype=torch.float64).to(dtype)
    return torch.zeros(20, dtype=dtype), lambda p: 0.5 * p @ matrix @ p - target @ p


def rosenbrock(dtype: torch.dtype) -> tuple[torch.Tensor, Any]:
    start = torch.full((6,), -0.5, dtype=dtype)
    return start, lambda p: (100 * (p[1:] - p[:-1] ** 2) ** 2 + (1 - p[:-1]) ** 2).sum()


def digits(dtype: torch.dtype) -> tuple[torch.Tensor, Any]:
    X, y = load_digits(return_X_y=True)
    x, classes = torch.tensor(X / 16, dtype=dtype), torch.tensor(y)
    cross_entropy = torch.nn.functional.cross_entropy
    return torch.zeros(640, dtype=dtype), lambda p: cross_entropy(x @ p.view(64, 10), classes) + 1e-3 * (p * p).sum()


#: A gradient of this size is rounding: that of the parameters, times the curvature.
ROUNDING = {quadratic: 20, rosenbrock: 2000, digits: 2}


def searched(kind: Any, problem: Any, dtype: torch.dtype, constant: float, seed: int, steps: int, until: float) -> Any:
    """The largest element of the gradient at each evaluation, until it is as small as that or the steps are over."""
    start, loss = problem(dtype)
    noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    p = torch.nn.Parameter(start + 0.1 * noise.to(dtype))
    optimizer = kind([p], line_search_fn="strong_wolfe", tolerance_change=0, tolerance_grad=0, max_iter=10)
    largest: list[float] = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(p) + constant
        value.backward()
        largest.append(float(p.grad.abs().max()))
        return value

    for _ in range(steps):
        optimizer.step(closure)
        if min(largest) <= until:
            break
    return largest


@pytest.mark.parametrize("constant", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("problem", list(ROUNDING), ids=lambda f: f.__name__)
def test_a_search_reaches_what_torchs_does_in_no_more_evaluations(problem: Any, dtype: Any, constant: float) -> None:
    """From five starts, because at the end the last bits of the loss decide, which differ between processors."""
    spent = []
    for seed in range(5):
        theirs = searched(torch.optim.LBFGS, problem, dtype, constant, seed, 12, 0.0)
        best = max(min(theirs), ROUNDING[problem] * torch.finfo(dtype).eps)
        mine = searched(LBFGS, problem, dtype, constant, seed, 24, best)
        assert min(mine) <= best
        spent.append([1 + next(i for i, g in enumerate(search) if g <= best) for search in (mine, theirs)])
    assert np.median([ours / its for ours, its in spent]) <= 1.05


def test_it_is_a_torch_lbfgs_with_torchs_arguments() -> None:
    p = torch.nn.Parameter(torch.ones(2))
    optimizer = LBFGS([p], 0.5, 7, None, 1e-3, 1e-4, 9, "strong_wolfe")
    assert isinstance(optimizer, torch.optim.LBFGS)
    assert optimizer.defaults == torch.optim.LBFGS([p], 0.5, 7, None, 1e-3, 1e-4, 9, "strong_wolfe").defaults
    assert list(optimizer.defaults) == list(torch.optim.LBFGS([p]).defaults)


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_parameters_of_any_form_are_stepped(search: str | None) -> None:
    def forms(lay: Any) -> list[torch.nn.Parameter]:
        generator = torch.Generator().manual_seed(0)
        grid = torch.randn(4, 6, generator=generator, dtype=torch.float64)
        made = [grid.clone(), grid.t(), grid[:, ::2], grid[0, 0].clone(), grid[:0], torch.complex(grid, grid.flip(0))]
        return [torch.nn.Parameter(lay(x)) for x in made]

    ends = []
    for kind, lay in ((LBFGS, lambda x: x), (torch.optim.LBFGS, torch.Tensor.contiguous)):  # theirs takes no other
        params = torch.nn.ParameterList(forms(lay))
        unused = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
        _, optimizer, closure = train(
            params,
            lambda p, kind=kind, unused=unused: kind([*p, unused], line_search_fn=search),
            lambda params=params: sum(((p - 1).abs() ** 2 * 3 + (p - 1).abs() ** 4).sum() for p in params),
        )
        optimizer.step(closure)
        assert unused.tolist() == [1, 1]
        ends.append(params)
    assert all(torch.allclose(p, q, rtol=1e-12) for p, q in zip(*ends, strict=True))


def test_memory_comes_back_in_the_dtype_it_was_saved_in() -> None:
    params = [torch.nn.Parameter(torch.ones(2, dtype=d)) for d in (torch.bfloat16, torch.float32)]
    _, optimizer, closure = train(torch.nn.ParameterList(params), LBFGS, lambda: sum((p**4).sum() for p in params))
    optimizer.step(closure)
    saved = copy.deepcopy(optimizer.state_dict())
    assert saved["state"][0]["d"].dtype == torch.float32
    other = LBFGS([torch.nn.Parameter(p.detach().clone()) for p in params])
    other.load_state_dict(saved)
    assert same(other.state_dict()["state"][0], saved["state"][0])


def test_a_gradient_without_a_value_moves_nothing() -> None:
    p = torch.nn.Parameter(torch.ones(3))
    for search in (None, "strong_wolfe"):
        optimizer = LBFGS([p], line_search_fn=search)

        def closure() -> torch.Tensor:
            p.grad = torch.full_like(p, torch.nan)
            return torch.tensor(torch.nan)

        assert optimizer.step(closure).isnan()
        assert p.tolist() == [1, 1, 1]


@pytest.mark.parametrize("max_iter", [1, 3])
@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_no_step_ends_off_the_finite_points(search: str | None, max_iter: int) -> None:
    p = torch.nn.Parameter(torch.full((3,), 9.0))
    optimizer = LBFGS([p], lr=1e9, max_iter=max_iter, line_search_fn=search)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (p * p).sum() if p.abs().max() < 10 else (p * torch.inf).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    optimizer.param_groups[0]["lr"] = 0.01
    for _ in range(3):
        optimizer.step(closure)
    assert p.abs().max() < 9


def test_the_learning_rate_may_be_a_tensor_and_is_read_at_every_step() -> None:
    rate = torch.tensor(0.5)
    model, ours, closure = logistic(lambda p: LBFGS(p, lr=rate, max_iter=2))
    twin, theirs, other = logistic(lambda p: torch.optim.LBFGS(p, lr=0.5, max_iter=2))
    for _ in range(4):
        ours.step(closure)
        theirs.step(other)
        rate.mul_(0.5)
        theirs.param_groups[0]["lr"] *= 0.5
    assert ours.param_groups[0]["lr"] is rate
    assert off(model, twin) <= 1e-12


def test_groups_are_refused_in_torchs_words() -> None:
    p, q = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    words = r"LBFGS doesn't support per-parameter options \(parameter groups\)\. Received: '2 groups'"
    with pytest.raises(ValueError, match=words):
        LBFGS([{"params": [p]}, {"params": [q]}])
    optimizer = LBFGS([p])
    optimizer.add_param_group({"params": [q]})
    with pytest.raises(ValueError, match=words):
        optimizer.step(lambda: p.sum())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": -1}, r"`LBFGS\(lr=...\)` must be .* Invalid learning rate: -1"),
        ({"lr": torch.ones(2)}, "Tensor lr must be 1-element"),
        ({"max_iter": 0}, r"`LBFGS\(max_iter=...\)` must be a whole number >= 1"),
        ({"line_search_fn": "armijo"}, r'`LBFGS\(line_search_fn=...\)` must be "strong_wolfe"'),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LBFGS([torch.nn.Parameter(torch.ones(1))], **options)


def test_a_closure_without_a_loss_is_refused() -> None:
    with pytest.raises(TypeError, match=r"`LBFGS.step\(closure=...\)` must return the loss. Received: None"):
        LBFGS([torch.nn.Parameter(torch.ones(1))]).step(lambda: None)


def test_the_dict_of_another_optimizer_or_model_is_refused() -> None:
    p = torch.nn.Parameter(torch.ones(3))
    _, optimizer, closure = logistic(LBFGS)
    optimizer.step(closure)
    small = LBFGS([p, torch.nn.Parameter(torch.ones(1))])
    other = AdamW([p])
    p.sum().backward()
    other.step()
    for saved, words in ((other.state_dict(), "its group has no 'max_iter'"), (optimizer.state_dict(), "4 elements")):
        with pytest.raises(ValueError, match=words):
            small.load_state_dict(saved)
        assert not small.state
