"""One step as a function of arrays alone, compiled once for each kind of step.

Checks, routes, groups and coefficients are all made while it is traced: JAX remembers the outcome by structure, shapes
and dtypes, and a warm step makes none of them again. Memory is a list for each slot here, with an entry for each leaf
that has a gradient.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from scirs2_adapters.adapters._xla.coded import FORMAT_OPS, change, companions_of
from scirs2_adapters.adapters._xla.executors import bind
from scirs2_adapters.adapters._xla.groups import Operands
from scirs2_adapters.adapters._xla.ops import Array, LeafArrays, Leaves, Model, Number, Tree, wide
from scirs2_adapters.core.declaration import VALUE
from scirs2_adapters.core.errors import bad_type, bad_value
from scirs2_adapters.core.fields import is_number
from scirs2_adapters.core.formats import DITHER, counted_dither
from scirs2_adapters.core.program.recorded import SCALE, record
from scirs2_adapters.core.rounding import ROUNDING_ERROR, ROUNDING_SEED
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import Leaf, Slot
from scirs2_adapters.core.step.options import value_scalars

from ..state import Memory, dense, stored
from .paths import choose
from .plan import Part, StepConfig, gather, leaf_of

#: optax's words, which callers may look for; it has no public name.
NO_PARAMS = (
    "You are using a transformation that requires the current value of parameters, "
    "but you are not passing `params` when calling `update`."
)


class MissingParameterError(ValueError):
    """The step needs a parameter that is missing; raised while the step is traced."""


def advance(
    config: StepConfig, numbers: dict[str, Number], grads: list[Array], params: list[Array | None], memory: Memory
) -> tuple[list[Array | None], Memory]:
    """What the step emits for each leaf, and the new memory. A slot's entry is None where it has not changed."""
    traced = {n: wide(x) for n, x in numbers.items()}
    extra = {SCALE: traced.pop(SCALE, None)}
    loss = traced.pop(VALUE, None)
    rule = config.rule.replace(**traced) if traced else config.rule
    later = tuple(map(optax.safe_increment, memory.counts))
    t = later[0].astype(float) if later else 1.0
    leaves = _load(config, rule, grads, params, memory)
    extra |= value_scalars(rule, loss)
    if memory.companions:
        extra[DITHER] = counted_dither(FORMAT_OPS, memory.counts[-1].astype(jnp.int32) + 1)
    parts = gather(config, rule, t, leaves, extra)
    kernels = choose(config, rule, parts, leaves, any(group.program.sums for group, _ in parts))
    results, model = _run(config, parts, kernels, leaves, memory.model)
    columns = _unload(config, results, leaves, memory)
    slots, companions = ({n: columns[n] for n in names} for names in (memory.slots, memory.companions))
    counts = memory.counts if rule.estimating else later
    return columns[config.emit], Memory(counts, slots, model, companions)


def _run(
    config: StepConfig, parts: Sequence[Part], kernels: Sequence[bool], leaves: Leaves, model: Model
) -> tuple[list[dict[str, Array]], dict[str, Array]]:
    """The results of each leaf by name, and the model's numbers."""
    results: list[dict[str, Array]] = [{} for _ in leaves]
    new = dict(model)
    for kernel in (True, False):
        chosen = [part for part, k in zip(parts, kernels, strict=True) if k is kernel]
        if not chosen:
            continue
        groups, rows = zip(*chosen, strict=True)
        arrays = [{n: [leaves[i][n] for i in g.members] for n in (*g.dtypes, *g.companions.values())} for g in groups]
        outputs, new = bind(config.call, config.kernel, groups, Operands(arrays, rows, new), kernel)
        for group, output in zip(groups, outputs, strict=True):
            for n, values in output.items():
                for i, x in zip(group.members, values, strict=True):
                    results[i][n] = x
    for leaf, result in zip(leaves, results, strict=True):
        if config.emit not in result:  # a parameter that only the step knows how to round
            result["delta"], exact = change(leaf["p"], result.pop("p"))
            if (error := result.get(ROUNDING_ERROR)) is not None:
                result[ROUNDING_ERROR] = jnp.where(exact, error, jnp.zeros_like(error))
    return results, new


#: Compiled even if the user compiles nothing; inside the user's `jit` it is inlined.
compiled = jax.jit(advance, static_argnums=0, inline=True)


def _load(config: StepConfig, rule: Rule, grads: list[Array], params: list[Array | None], stored: Memory) -> Leaves:
    """The arrays of each leaf by name, checked; `rule` has the hyperparameters of this step."""
    leaves, call = [], config.call
    for i, (g, p) in enumerate(zip(grads, params, strict=True)):
        memory = {n: x[i] for n, x in stored.slots.items()}
        memory = {n: x for n, x in memory.items() if x is not None and not isinstance(x, optax.MaskedNode)}
        g = as_array(call, "updates", g)
        companions = {n: x[i] for n, x in stored.companions.items()}
        if p is None and {ROUNDING_ERROR, ROUNDING_SEED} & companions.keys():
            raise MissingParameterError(NO_PARAMS)
        p = _absent_parameter(config, rule, i, g, memory) if p is None else as_array(call, "params", p)
        check_pair(call, "updates", g, p)
        in_sparse = _sparse_slots(config, i, p)
        memory = {n: dense(in_sparse[n], x) if n in in_sparse else x for n, x in memory.items()}
        absent = config.sparse - in_sparse.keys()
        leaf = {"p": p, "g": g, **memory}
        leaf = {n: -x if n in config.negative else x for n, x in leaf.items() if n not in absent}
        leaves.append(leaf | companions_of(call, p, memory, companions))
    return leaves


def _sparse_slots(config: StepConfig, i: int, p: Array) -> dict[str, Slot]:
    """Of the slots that the state has in a sparse form, those of leaf `i`."""
    if not config.sparse:
        return {}
    leaf = leaf_of(p, config.names[i] if config.names else "")
    return {s.name: s for s in config.rule.route(leaf).slots(leaf) if s.name in config.sparse}


def _unload(config: StepConfig, results: Leaves, leaves: Leaves, memory: Memory) -> dict[str, list[Array | None]]:
    """The results of all leaves by name, as a state has them; None where a leaf has no such result."""
    names = config.emit, *memory.slots, *memory.companions
    columns: dict[str, list[Array | None]] = {n: [None] * len(leaves) for n in names}
    for i, (result, leaf) in enumerate(zip(results, leaves, strict=True)):
        in_sparse = _sparse_slots(config, i, leaf["p"])
        for n, x in result.items():
            x = -x if n in config.negative else x
            columns[n][i] = stored(in_sparse[n], x) if n in in_sparse else x
    return columns


def as_array(call: str, argument: str, x: Tree) -> Array:
    """A floating array; Python's numbers become one."""
    array: Array = x if hasattr(x, "shape") and hasattr(x, "dtype") else jnp.asarray(x)
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        raise bad_type(call, argument, "must be a floating or complex array", array)
    return array


def check_pair(call: str, argument: str, g: Array, p: Array) -> None:
    """Refuse a gradient of another shape than its parameter, or a complex one of a real parameter."""
    if g.shape != p.shape:
        raise bad_value(call, argument, f"must have the parameter's shape {p.shape}", g)
    if jnp.iscomplexobj(g) != jnp.iscomplexobj(p):
        raise bad_value(call, argument, f"must be real or complex as the parameter, {p.dtype}", g)


def _absent_parameter(config: StepConfig, rule: Rule, i: int, g: Array, memory: LeafArrays) -> Array:
    """Zeros for a missing parameter that would only decay, in the dtype of its memory if that is wider than the
    gradient's.
    """
    leaf = config.leaf(i, {"p": g})
    if not _only_decayed(rule.route(leaf), leaf):
        raise MissingParameterError(NO_PARAMS)
    dtypes = [x.dtype for x in memory.values() if getattr(x, "shape", None) == g.shape]
    return jnp.zeros_like(g, functools.reduce(jnp.promote_types, dtypes, g.dtype))


def _only_decayed(rule: Rule, leaf: Leaf) -> bool:
    """Whether nothing but a decay of 0 needs the parameter."""
    if not is_number(rule.weight_decay) or rule.weight_decay:
        return False
    program = record(rule, leaf)
    outputs = [i for name, i in program.outputs.items() if name != "p"]
    for i in program.order(outputs):
        node = program.nodes[i]
        other = [program.nodes[a].name for a in node.args if program.nodes[a].name != "p"]
        if len(other) < len(node.args) and (node.op != "mul" or other not in (["l2"], ["decay"])):
            return False
    return True
