"""One step as a function of arrays alone, compiled once for each kind of step.

Checks, routes, groups and coefficients are all made while it is traced: JAX remembers the outcome by structure, shapes
and dtypes, and a warm step makes none of them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import optax

from scirs2_adapters.core.program.recorded import SCALE
from scirs2_adapters.core.step.plan import choose_paths

from ..executors.primitive import bind
from ..ops import Array, Arrays, LeafArrays, Number, Row, wide
from ..state import Memory
from .leaves import load, unload
from .obstacles import kernel_obstacle
from .plan import LeafGroup, StepConfig, gather
from .report import lines, report_path, report_routes

#: Above this many bytes `update` alone is traced: XLA adds the change without writing it down, a kernel needs fresh
#: memory for it, and memory fresh from the system costs more than the step.
LARGEST_CHANGE = 1 << 18
#: A group of leaves and its rows of coefficients.
Part = tuple[LeafGroup, list[Row]]


def _advance(
    config: StepConfig,
    numbers: Mapping[str, Number],
    grads: Sequence[Array],
    params: Sequence[Array | None],
    memory: Memory,
) -> tuple[list[Array | None], Memory]:
    """What the step emits for each leaf, and the new memory. A slot's entry is None where it has not changed."""
    traced = {n: wide(x) for n, x in numbers.items()}
    scale = traced.pop(SCALE, None)
    rule = config.rule.replace(**traced) if traced else config.rule
    t = memory.counts[0].astype(float) + 1 if memory.counts else 1.0
    leaves = load(config, rule, grads, params, memory.slots)
    parts = gather(config, rule, t, leaves, scale)
    kernels = _choose(config, parts, leaves, bool(memory.model))
    report_routes(config, rule, leaves)
    results, model = _run(config, parts, kernels, leaves, memory.model)
    slots = unload(config, results, leaves, memory.slots)
    return slots.pop(config.emit), Memory(tuple(map(optax.safe_increment, memory.counts)), slots, model)


def _choose(config: StepConfig, parts: Sequence[Part], leaves: Sequence[LeafArrays], one_path: bool) -> list[bool]:
    """For each group whether the kernel steps it, where it can in the program that comes of it."""
    obstacles: list[str | None] = [None] * len(parts)
    if config.kernel != "traced":
        obstacles = [kernel_obstacle(group, rows, leaves) for group, rows in parts]
    if one_path:  # numbers shared by all leaves
        obstacles = [next(filter(None, obstacles), None)] * len(parts)
    if config.kernel == "auto" and config.emit == "delta" and sum(x["g"].nbytes for x in leaves) > LARGEST_CHANGE:
        obstacles = ["the change is large"] * len(parts)
    for (group, _), obstacle in zip(parts, obstacles, strict=True):
        report_path(config, group, obstacle)
    return choose_paths(config.call, [config.kernel] * len(parts), obstacles, one_path)


def _run(
    config: StepConfig,
    parts: Sequence[Part],
    kernels: Sequence[bool],
    leaves: Sequence[LeafArrays],
    model: dict[str, Array],
) -> tuple[list[dict[str, Array]], dict[str, Array]]:
    """The results of each leaf by name, and the model's numbers."""
    results: list[dict[str, Array]] = [{} for _ in leaves]
    for kernel in (True, False):
        chosen = [part for part, k in zip(parts, kernels, strict=True) if k is kernel]
        if not chosen:
            continue
        groups, rows = zip(*chosen, strict=True)
        arrays = [{n: [leaves[i][n] for i in g.members] for n in g.dtypes} for g in groups]
        outputs, model = bind(config, groups, arrays, rows, model, kernel)
        for group, output in zip(groups, outputs, strict=True):
            _scatter(group, output, results)
    return results, model


def _scatter(group: LeafGroup, output: Arrays, results: Sequence[dict[str, Array]]) -> None:
    """Puts the results of a group in their places among all leaves."""
    for n, values in output.items():
        for i, x in zip(group.members, values, strict=True):
            results[i][n] = x


#: Also where the user compiles nothing; inside the user's own `jit` it dissolves.
compiled = jax.jit(_advance, static_argnums=0, inline=True)


def advance(
    config: StepConfig,
    numbers: Mapping[str, Number],
    grads: Sequence[Array],
    params: Sequence[Array | None],
    memory: Memory,
) -> tuple[list[Array | None], Memory]:
    """One step, as `_advance`; looked at anew where a report of it is wanted."""
    return (compiled if lines() is None else _advance)(config, numbers, grads, params, memory)
