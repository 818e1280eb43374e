"""torch: our step against `torch.optim`: AdamW beside each of its forms, all other elementwise rules beside the
fastest one that torch has: `fused=True` where there is one, else the faster of `foreach=True` and the loop.

Bandwidth: a step of AdamW must move 28 bytes for each float32 parameter (reads p g m v, writes p m v). The triad
beside it is torch's own `a += s * b` in all threads, 12 bytes a number, over arrays as large as the model; like the
step it writes where it has read, so that both are counted without the hidden reads that a write to other memory
costs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import torch

from scirs2_adapters import get, names
from scirs2_adapters import torch as ours
from scirs2_adapters.core import Rule
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.slots import Leaf
from scirs2_adapters.demo.timing import side_by_side

from .row import Model, Row, measure, models

Class = Callable[..., torch.optim.Optimizer]
Parameters = list[torch.nn.Parameter]
Triad = tuple[Callable[[], object], int] | None

#: What a rule is commonly given; without momentum SGD would hardly be one.
USUAL: dict[str, dict[str, Any]] = {"sgd": {"momentum": 0.9}}


def rows(quick: bool) -> Iterator[Row]:
    """AdamW on three models, then every other elementwise rule; those that torch lacks on the mixed model only."""
    mixed = models(quick)[1]
    for model in models(quick):
        yield from _adamw(model)
    for model in models(quick):
        params, triad = parameters(model), _triad(model)
        for name in elementwise():
            if name != "adamw" and (theirs(name) or model == mixed):
                yield from _rule(name, model, params, triad)
    yield from _narrow(mixed)


def elementwise() -> list[str]:
    """The rules whose step looks at one element at a time: those that one pass over memory can do."""
    return [name for name in names() if _is_elementwise(get(name)(**USUAL.get(name, {})))]


def _is_elementwise(rule: Rule) -> bool:
    if rule.sparse == "rows":  # takes no dense gradients
        return False
    leaves = [Leaf((8, 4)), Leaf((8,))]
    programs = [record(rule.route(leaf), leaf) for leaf in leaves]
    return not rule.model_slots() and not any(node.reduces for program in programs for node in program.nodes)


def theirs(name: str) -> Class | None:
    """torch's class of this name."""
    return getattr(torch.optim, get(name).__name__, None)


def forms(cls: Class) -> list[dict[str, Any]]:
    """What makes torch's class fast; of several, measuring tells."""
    known = inspect.signature(cls).parameters
    if "fused" in known:
        return [{"fused": True}]
    return [{"foreach": True}, {}] if "foreach" in known else [{}]


def _adamw(model: Model) -> Iterator[Row]:
    params, optim = parameters(model), torch.optim
    options: list[dict[str, Any]] = [{"fused": True}, {"foreach": True}, {}]
    baselines = {call(optim.AdamW, arguments): stepper(optim.AdamW, params, **arguments) for arguments in options}
    yield from measure(
        "torch", f"AdamW, {model.name}", stepper(ours.AdamW, params), baselines, model.rounds,
        28 * model.numbers, _triad(model),
    )  # fmt: skip


def _rule(name: str, model: Model, params: Parameters, triad: Triad) -> Iterator[Row]:
    arguments, cls = USUAL.get(name, {}), theirs(name)
    mine = stepper(getattr(ours, get(name).__name__), params, **arguments)
    baselines = _fastest(cls, params, arguments) if cls else {}
    slots = get(name)(**arguments).slots(Leaf((8,)))
    traffic = (12 + 8 * len(slots)) * model.numbers  # reads p, g and slots, writes p and slots
    case, (rounds, repeat) = f"{words(get(name).__name__, arguments)}, {model.name}", model.rounds
    yield from measure("torch", case, mine, baselines, (rounds * 3 // 5, repeat), traffic, triad)


def _fastest(cls: Class, params: Parameters, arguments: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """The fastest form of torch's class on these parameters; where there are several, a few rounds tell."""
    steppers = {call(cls, arguments | form): stepper(cls, params, **arguments, **form) for form in forms(cls)}
    times = side_by_side(list(steppers.values()), 3) if len(steppers) > 1 else [[0.0]]
    name, step = min(zip(steppers.items(), times, strict=True), key=lambda pair: median(pair[1]))[0]
    return {name: step}


def _narrow(model: Model) -> Iterator[Row]:
    """AdamW with memory of half and of a quarter of the size, which torch does not have; with the bytes of a number."""
    for dtype, moved in (("bfloat16", 20), ("int8", 16)):
        params, arguments = parameters(model), {"state_dtype": dtype}
        baseline = {call(torch.optim.AdamW, {"fused": True}): stepper(torch.optim.AdamW, params, fused=True)}
        case = f"{words('AdamW', arguments)}, {model.name}"
        step = stepper(ours.AdamW, params, **arguments)
        yield from measure("torch", case, step, baseline, model.rounds, moved * model.numbers, _triad(model))


def parameters(model: Model) -> Parameters:
    """A model's parameters, with gradients."""
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(n)) for n in model.sizes]
    for p in params:
        p.grad = torch.randn_like(p)
    return params


def stepper(optimizer: Class, params: Parameters, **arguments: Any) -> Callable[[], object]:
    """The step of an optimizer that hardly moves them."""
    return optimizer(params, lr=1e-6, **arguments).step


def call(optimizer: Class, arguments: dict[str, Any]) -> str:
    """How torch's class is called."""
    name: str = optimizer.__name__  # type: ignore[attr-defined]
    return f"torch.optim.{words(name, arguments) if arguments else f'{name}()'}"


def words(name: str, arguments: dict[str, Any]) -> str:
    """A name with the arguments it is given, if any."""
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in arguments.items())})" if arguments else name


def _triad(model: Model) -> Triad:
    """The triad beside a model too large for caches; for a small one it would say nothing."""
    if model.numbers < 5_000_000:
        return None
    a, b = torch.zeros(model.numbers), torch.ones(model.numbers)
    return lambda: a.add_(b, alpha=1e-6), 12 * model.numbers
