"""The steps of an optax transformation, written down by a call from the program: inside `jit`, too."""

from __future__ import annotations

import functools
from dataclasses import replace

import jax
import numpy as np
import optax
from jax.experimental import io_callback

from scirs2_adapters.adapters._xla.ops import Tree
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.portable.file import Array
from scirs2_adapters.core.portable.recording import Recorder, unknown, with_arrays
from scirs2_adapters.core.portable.state import ParameterState, State
from scirs2_adapters.core.rule import Rule

from .portable import array_of, read
from .transform.fused import seen_through
from .transform.leaves import name_of
from .transform.update import Skipping, Update


def recorded(
    tx: optax.GradientTransformation, recorder: Recorder, rule: Rule | str | None = None
) -> optax.GradientTransformationExtraArgs:
    """The transformation with the same state, which writes each update that it makes and what it leads to."""
    inner = optax.with_extra_args_support(tx)

    def update(grads: Tree, state: Tree, params: Tree = None, **extra: object) -> tuple[Tree, Tree]:
        if params is None:
            raise bad_value("update", "params", "must be the parameters, which are recorded", params)
        changes, new = inner.update(grads, state, params, **extra)
        stepped = optax.apply_updates(params, changes)
        write = functools.partial(_write, recorder, tx, rule)
        io_callback(write, None, grads, (params, state), (stepped, new), _rate(tx, state), ordered=True)
        return changes, new

    return optax.GradientTransformationExtraArgs(inner.init, update)


def _ours(tx: optax.GradientTransformation, state: Tree) -> tuple[Update, Tree] | None:
    """Our transformation in a chain, and its state."""
    inside = seen_through(tx.update, state)
    if inside is None:
        return None
    _, update, inner, _ = inside
    return (update.inner, inner.inner_state) if isinstance(update, Skipping) else (update, inner)


def _rate(tx: optax.GradientTransformation, state: Tree) -> Tree:
    """The learning rate of this step, where it can be known."""
    ours = _ours(tx, state)
    if ours is not None:
        update, inner = ours
        numbers = update._numbers(update.layout.read(inner), {})
        return numbers.get("learning_rate", update.rule.learning_rate)
    return getattr(state, "hyperparams", {}).get("learning_rate")


def _write(
    recorder: Recorder, tx: optax.GradientTransformation, rule: Rule | str | None,
    grads: Tree, before: tuple[Tree, Tree], after: tuple[Tree, Tree], rate: Tree,
) -> None:  # fmt: skip
    """The start before the first step, and each step."""
    if recorder.over:
        return
    if not recorder.started:
        recorder.write([_state(tx, rule, *before, {}, rate)])
    recorder.write([_state(tx, rule, *after, _leaves(grads), rate)])


def _state(
    tx: optax.GradientTransformation, rule: Rule | str | None, params: Tree, state: Tree, grads: dict[str, Array],
    rate: Tree,
) -> State:  # fmt: skip
    known = rule is not None or _ours(tx, state) is not None
    recorded = read((tx, state), rule, "record") if known else unknown("", {}, {}, source=_source())
    config = recorded.config if rate is None else {**recorded.config, "learning_rate": float(np.asarray(rate))}
    parameters = {}
    for name, x in _leaves(params).items():
        memory = recorded.parameters.get(name, ParameterState(steps=recorded.step_count if known else None))
        parameters[name] = with_arrays(memory, x, grads.get(name), x.dtype, x.shape)
    return replace(recorded, config=config, parameters=parameters)


def _source() -> dict[str, str]:
    return {"framework": "jax", "jax": jax.__version__, "optax": optax.__version__}


def _leaves(tree: Tree) -> dict[str, Array]:
    return {name_of(path): array_of(x) for path, x in jax.tree_util.tree_flatten_with_path(tree)[0]}
