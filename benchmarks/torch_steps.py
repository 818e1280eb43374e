"""torch: our step against `torch.optim` as it comes (a loop on the CPU), with `foreach=True`, and with `fused=True`.

Bandwidth: a step of AdamW must move 28 bytes for each float32 parameter (reads p g m v, writes p m v). The triad
beside it is torch's own `a += s * b` in all threads, 12 bytes a number, over arrays as large as the model; like the
step it writes where it has read, so that both are counted without the hidden reads that a write to other memory
costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from scirs2_adapters import torch as ours

from .row import Model, Row, measure, models

Class = Callable[..., torch.optim.Optimizer]


def rows(quick: bool) -> Iterator[Row]:
    """AdamW on three models; on the mixed one, other optimizers and other dtypes."""
    for model in models(quick):
        yield from _adamw(model)
    yield from _others(models(quick)[1])


def _adamw(model: Model) -> Iterator[Row]:
    parameters = _parameters(model)
    baselines = {
        "torch.optim.AdamW(fused=True)": _step(torch.optim.AdamW, parameters, fused=True),
        "torch.optim.AdamW(foreach=True)": _step(torch.optim.AdamW, parameters, foreach=True),
        "torch.optim.AdamW()": _step(torch.optim.AdamW, parameters),
    }
    yield from measure(
        "torch", f"AdamW float32, {model.name}", _step(ours.AdamW, parameters), baselines, model.rounds,
        28 * model.numbers, _triad(model),
    )  # fmt: skip


def _others(model: Model) -> Iterator[Row]:
    parameters, optim = _parameters(model), torch.optim
    fused = {"fused": True}
    cases: list[tuple[str, Class, dict[str, Any], Class | None, dict[str, Any], int]] = [
        ("SGD(momentum=0.9)", ours.SGD, {"momentum": 0.9}, optim.SGD, {"momentum": 0.9, **fused}, 20),
        ("Adam", ours.Adam, {}, optim.Adam, fused, 28),
        ("RMSprop", ours.RMSprop, {}, optim.RMSprop, {"foreach": True}, 20),
        ("Lion", ours.Lion, {}, None, {}, 20),
        ('AdamW(state_dtype="bfloat16")', ours.AdamW, {"state_dtype": "bfloat16"}, optim.AdamW, fused, 20),
    ]
    for case, mine, words, theirs, options, traffic in cases:
        baselines = {_call(theirs, options): _step(theirs, parameters, **options)} if theirs else {}
        step = _step(mine, parameters, **words)
        yield from measure(
            "torch", f"{case}, {model.name}", step, baselines, model.rounds, traffic * model.numbers,
            _triad(model),
        )  # fmt: skip


def _parameters(model: Model) -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(n)) for n in model.sizes]
    for p in parameters:
        p.grad = torch.randn_like(p)
    return parameters


def _step(optimizer: Class, parameters: list[torch.nn.Parameter], **words: Any) -> Callable[[], object]:
    return optimizer(parameters, lr=1e-6, **words).step


def _call(optimizer: Class, words: dict[str, Any]) -> str:
    given = ", ".join(f"{k}={v}" for k, v in words.items())
    return f"torch.optim.{optimizer.__name__}({given})"  # type: ignore[attr-defined]


def _triad(model: Model) -> tuple[Callable[[], object], int] | None:
    """The triad beside a model too large for caches; for a small one it would say nothing."""
    if model.numbers < 5_000_000:
        return None
    a, b = torch.zeros(model.numbers), torch.ones(model.numbers)
    return lambda: a.add_(b, alpha=1e-6), 12 * model.numbers
