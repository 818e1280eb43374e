"""torch: what an optimizer costs apart from arithmetic: a step of ten tiny tensors, and constructing it for a thousand
parameters. Every elementwise rule, beside torch's class of that name as it comes and in its fastest form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from scirs2_adapters import get
from scirs2_adapters import torch as ours

from .row import Model, Row, measure
from .torch_steps import USUAL, Class, Parameters, call, elementwise, forms, parameters, stepper, theirs, words

TINY, MANY = Model("step of 10 tensors x 16", (16,) * 10), Model("construct, 1,000 tensors", (16,) * 1_000)


def rows(quick: bool) -> Iterator[Row]:
    """Both cases of each rule."""
    for model, make, rounds in ((TINY, stepper, (60, 50)), (MANY, _builder, (30, 1))):
        for name in elementwise():
            yield from _compare(name, model, make, (3, 2) if quick else rounds)


def _compare(
    name: str, model: Model, make: Callable[..., Callable[[], object]], rounds: tuple[int, int]
) -> Iterator[Row]:
    params, arguments, cls = parameters(model), USUAL.get(name, {}), theirs(name)
    mine = make(getattr(ours, get(name).__name__), params, **arguments)
    choices = [{}, *(form for form in forms(cls) if form)] if cls else []
    baselines = {call(cls, arguments | form): make(cls, params, **arguments, **form) for form in choices} if cls else {}
    yield from measure("overhead", f"{words(get(name).__name__, arguments)}, {model.name}", mine, baselines, rounds)


def _builder(optimizer: Class, params: Parameters, **arguments: Any) -> Callable[[], object]:
    return lambda: optimizer(params, lr=1e-6, **arguments)
