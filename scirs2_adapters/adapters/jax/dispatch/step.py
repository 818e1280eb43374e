"""One step as a function of arrays alone, compiled once for each kind of step.

Checks, routes, groups and coefficients are all made while it is traced: JAX remembers the outcome by structure, shapes
and dtypes, and a warm step makes none of them again.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import optax

from scirs2_adapters.core.program.recorded import SCALE

from ..executors.primitive import bind
from ..ops import Array, LeafArrays, Model, Number, wide
from ..state import Memory
from .leaves import load, unload
from .paths import choose
from .plan import Operands, Part, StepConfig, gather


def advance(
    config: StepConfig, numbers: dict[str, Number], grads: list[Array], params: list[Array | None], memory: Memory
) -> tuple[list[Array | None], Memory]:
    """What the step emits for each leaf, and the new memory. A slot's entry is None where it has not changed."""
    traced = {n: wide(x) for n, x in numbers.items()}
    scale = traced.pop(SCALE, None)
    rule = config.rule.replace(**traced) if traced else config.rule
    t = memory.counts[0].astype(float) + 1 if memory.counts else 1.0
    leaves = load(config, rule, grads, params, memory.slots)
    parts = gather(config, rule, t, leaves, scale)
    kernels = choose(config, rule, parts, leaves, bool(memory.model))
    results, model = _run(config, parts, kernels, leaves, memory.model)
    slots = unload(config, results, leaves, memory.slots)
    return slots.pop(config.emit), Memory(tuple(map(optax.safe_increment, memory.counts)), slots, model)


def _run(
    config: StepConfig, parts: Sequence[Part], kernels: Sequence[bool], leaves: Sequence[LeafArrays], model: Model
) -> tuple[list[dict[str, Array]], dict[str, Array]]:
    """The results of each leaf by name, and the model's numbers."""
    results: list[dict[str, Array]] = [{} for _ in leaves]
    new = dict(model)
    for kernel in (True, False):
        chosen = [part for part, k in zip(parts, kernels, strict=True) if k is kernel]
        if not chosen:
            continue
        groups, rows = zip(*chosen, strict=True)
        arrays = [{n: [leaves[i][n] for i in g.members] for n in g.dtypes} for g in groups]
        outputs, new = bind(config, groups, Operands(arrays, rows, new), kernel)
        for group, output in zip(groups, outputs, strict=True):
            for n, values in output.items():
                for i, x in zip(group.members, values, strict=True):
                    results[i][n] = x
    return results, new


#: Also where the user compiles nothing; inside the user's own `jit` it dissolves.
compiled = jax.jit(advance, static_argnums=0, inline=True)
