"""The class of a name, with the constructor and the docstring that its rule declares."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

from torch.optim import Optimizer

from scirs2_adapters.core.document import document
from scirs2_adapters.core.errors import ArgumentTypeError, bad_type
from scirs2_adapters.core.registry import get, names, plain
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.wrapper import Wrapper

from ..argument_names import TORCH, constructor_signature, native_class
from .closures import AroundOptimizer, SearchOptimizer
from .estimates import EstimatingOptimizer
from .evaluation import EvaluatingOptimizer
from .rules import RuleOptimizer

#: Where users import from, which is the module that classes say they are of.
SHOWN = "scirs2_adapters.torch"
STEP = ("model(torch.ones(3, 2)).sum().backward()", "optimizer.step()")
ROWS = ("model(torch.tensor([0, 2])).sum().backward()", "optimizer.step()")
CLOSURE = (
    "def closure():",
    "    optimizer.zero_grad()",
    "    loss = model(torch.ones(3, 2)).square().sum()",
    "    loss.backward()",
    "    return loss",
    "loss = optimizer.step(closure)",
)


def _example(rule: type[Rule]) -> list[str]:
    name, rows = rule.__name__, rule.sparse == "rows"
    lines = CLOSURE if rule.needs_closure or rule.needs_value else ROWS if rows else STEP
    return [
        ">>> import torch",
        f">>> from {SHOWN} import {name}",
        f">>> model = torch.nn.{'Embedding(4, 2, sparse=True)' if rows else 'Linear(2, 2)'}",
        f">>> optimizer = {name}(model.parameters())",
        *(f"{'...' if line.startswith(' ') else '>>>'} {line}" for line in lines),
    ]


def _constructor(kind: type, name: str, shown: inspect.Signature) -> Callable[..., None]:
    """A constructor that shows its arguments, as an attribute that subclasses with another one do not inherit."""

    def __init__(self: Optimizer, params: object, *args: object, **keywords: object) -> None:
        if isinstance(params, Optimizer):
            raise _around_an_optimizer(name, params)
        kind.__init__(self, params, *args, **keywords)  # type: ignore[misc]

    __init__.__qualname__ = f"{name}.__init__"  # Python's errors say it
    self = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    __init__.__signature__ = shown.replace(parameters=[self, *shown.parameters.values()])  # type: ignore[attr-defined]
    return __init__


def _around_an_optimizer(name: str, params: Optimizer) -> ArgumentTypeError:
    """The error for an optimizer in the place of parameters, where other packages' wrappers take one."""
    worded, way_out = "must be parameters or groups of them, and is an optimizer", ""
    if issubclass(get(name), Wrapper):
        base = plain(type(params).__name__)
        way_out = f'Write `{name}(parameters, base="{base if base in names() else "adamw"}")`, with its arguments.'
    return bad_type(name, "params", worded, type(params).__name__, way_out)


def _kind(rule: type[Rule]) -> type[RuleOptimizer | SearchOptimizer]:
    if not rule.needs_closure:
        return RuleOptimizer if rule.evaluation is None else EvaluatingOptimizer
    return AroundOptimizer if issubclass(rule, Wrapper) else SearchOptimizer


@functools.cache
def optimizer(name: str) -> type[RuleOptimizer | SearchOptimizer]:
    """The torch class of the rule of this name."""
    rule = get(name)
    kind, fields, native = _kind(rule), rule.fields_with(), native_class(rule)
    ours = ("max_grad_norm", "skip_nonfinite", "kernel", "state_dtype", "rounding", "offload")
    options = () if kind is SearchOptimizer else (*rule.options, *ours)
    shown = constructor_signature(rule)
    body: dict[str, object] = {
        "__module__": SHOWN,
        "__doc__": document(rule.text, fields, _example(rule), lambda k: TORCH.spell(k, fields), options),
        "__init__": _constructor(kind, rule.__name__, shown),
        "_signature": shown,
        "rule_class": rule,
    }
    estimated = "estimating" in rule.fields or issubclass(rule, Wrapper)
    bases = (*[EstimatingOptimizer] * estimated, kind, *[native] * (native is not Optimizer))
    return type(rule.__name__, bases, body)
