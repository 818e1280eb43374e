"""Docstrings of optimizers: what the author wrote, with the arguments and an example put in from the declaration.

The author of a rule states formula, paper and differences; whatever the fields already say is never typed twice, so it
cannot go stale. An adapter passes its spelling and example and gets the same text in the framework's words.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping

from .fields import Field, Value

#: What the arguments mean that every adapter adds to the fields of a rule.
OPTIONS = {
    "base": "the optimizer inside, by name or as a rule; its own arguments are taken here too.",
    "match": "None, or the framework whose own formula and defaults of this optimizer are taken.",
    "mask": "None, a tree of True and False in the parameters' form, or a function that makes one: what decays.",
    "dimensions": "None, or optax's MuonDimensionNumbers, a tree of them, or a function that makes it.",
    "axis_name": "None, or the mapped axes (of shard_map, vmap) over which a formula's norms and sums go as well.",
    "max_grad_norm": "None, or the norm of all gradients together to which larger ones are scaled as they are read.",
    "kernel": '"host" is the compiled kernel, "traced" the framework\'s operations, "auto" the first where it can run.',
    "skip_nonfinite": "leave parameters and state as they are at a step with a gradient that is not finite; count it.",
    "rounding": 'of parameters of 16 bits: "nearest", "stochastic", or "compensated", where a slot keeps what is lost.',
    "offload": "keep memory and step of parameters on an accelerator on the host; gradients and parameters are copied.",
    "state_dtype": "dtype in which memory is stored: None is the parameter's, a name, or names by slot.",
    "moment_dtype": "dtype in which first moments are stored, whatever the rest is; None is that of the rest.",
}


def shown(value: Value) -> str:
    """A default as one would type it; infinity has no literal."""
    return f'float("{value}")' if value in (float("inf"), -float("inf")) else repr(value).replace("e-0", "e-")


def range_of(field: Field) -> str:
    """The values a field takes, in words."""
    return field.worded.removeprefix("must be ")


def argument(name: str, field: Field) -> str:
    """One line: what the argument means, its default and its range."""
    return f"{name}: {field.means}. Default {shown(field.default)}; {range_of(field)}."


def numpy_example(rule: type) -> list[str]:
    """How to step numpy arrays by a rule."""
    ours = rule.__module__.startswith(f"{__package__}.")
    if rule.needs_closure:  # type: ignore[attr-defined]
        return [
            ">>> import numpy as np",
            f">>> from {__package__} import ClosureOptimizer, {rule.__name__}",
            '>>> params = {"w": np.ones(2)}',
            ">>> def closure():",
            '...     return float(np.sum(params["w"] ** 2)), {"w": 2 * params["w"]}',
            f">>> loss = ClosureOptimizer({rule.__name__}(), params).step(closure)",
        ]
    value = ", value=4.0" if rule.needs_value else ""  # type: ignore[attr-defined]
    imports = f"HostOptimizer, {rule.__name__}" if ours else "HostOptimizer"
    return [
        ">>> import numpy as np",
        f">>> from {__package__} import {imports}",
        *([] if ours else [f">>> from {rule.__module__} import {rule.__name__}"]),
        '>>> params = {"w": np.ones((2, 2))}',
        f'>>> HostOptimizer({rule.__name__}(), params).step({{"w": np.ones((2, 2))}}{value})',
    ]


def document(
    text: str | None,
    fields: Mapping[str, Field],
    example: Iterable[str] = (),
    spell: Callable[[str], str] = str,
    also: Iterable[str] = ("match",),
) -> str | None:
    """`text` with the sections Arguments and Example before its Paper; None, as under -OO, stays None."""
    if text is None:
        return None
    rows = [argument(spell(k), f) for k, f in fields.items()] + [f"{spell(k)}: {OPTIONS[k]}" for k in also]
    sections = "\n".join(["Arguments:", *(f"  {row}" for row in rows)])
    lines = list(example)
    sections += "\n".join(["\n\nExample:", *(f"  {line}" for line in lines)]) if lines else ""
    before, paper, after = inspect.cleandoc(text).partition("\nPaper:")
    return f"{before.rstrip()}\n\n{sections}\n" + (f"\nPaper:{after}\n" if paper else "")
