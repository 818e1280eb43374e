"""An optax transformation that measures its steps: the numbers are in its state, as all that a function can give."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import optax

from scirs2_adapters.adapters._xla.ops import Tree
from scirs2_adapters.core.errors import bad_type
from scirs2_adapters.core.monitor.monitor import Monitor
from scirs2_adapters.core.monitor.record import GroupRecord, Record, Seen

from .state import exportable
from .transform.fused import OwnStep, seen_through, step
from .transform.update import Skipping, Update


class Measured(NamedTuple):
    """The numbers of the last step that was measured, a rate of NaN where none can be seen; `step` is 0 before it."""

    step: jax.Array
    learning_rate: jax.Array
    gradient_norm: jax.Array
    update_norm: jax.Array
    parameter_norm: jax.Array
    nonfinite_gradients: jax.Array


class MonitorState(NamedTuple):
    """The state around a transformation that is watched: its steps, the last measured numbers, and its state."""

    steps: jax.Array
    measured: Measured
    inner_state: Tree


class Monitored(optax.GradientTransformationExtraArgs):
    """A transformation that measures each N-th step; `monitor` has the records that were taken from states.

    It makes the very steps of the one that it is made from, whose state is `state.inner_state`. `step` of
    `scirs2_adapters.jax` takes it as it is.
    """

    monitor: Monitor

    def __new__(cls, watching: Watching, monitor: Monitor) -> Self:
        new: Self = super().__new__(cls, watching.init, watching)
        new.monitor = monitor
        return new

    def take(self, state: Tree) -> Record | None:
        """The record of the last measured step in a state outside `jit`, kept, logged and passed on; None if there is
        none, or if it was taken before.
        """
        states = [x for x in jax.tree.leaves(state, is_leaf=_is_state) if _is_state(x)]
        if not states:
            raise bad_type("take", "state", "must be a state of this transformation", state)
        measured, inner = states[0].measured, states[0].inner_state
        if (known := _inside(self.update.tx, inner)) is not None:
            self.monitor.optimizer = type(known[0].rule).__name__
        at, records = int(measured.step), self.monitor.records
        if at == 0 or (records and records[-1].step == at):
            return None
        rate, grads, update, params, bad = (float(x) for x in measured[1:])
        group = GroupRecord("group 0", _rate_known(rate), grads, update, params)
        size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(inner))
        return self.monitor.take(at, None, Seen([group], int(bad), _skipped(inner), size))


def _is_state(x: object) -> bool:
    return isinstance(x, MonitorState)


def watch(tx: optax.GradientTransformation, monitor: Monitor) -> Monitored:
    """The transformation that measures what this one does."""
    if not isinstance(tx, optax.GradientTransformation):
        raise bad_type("monitor", "optimizer", "must be an optax transformation, not a state or a pair", tx)
    return Monitored(Watching(optax.with_extra_args_support(tx), monitor.every), monitor)


@dataclass(frozen=True, eq=False)
class Watching(OwnStep):
    """The update of a transformation that is watched."""

    tx: optax.GradientTransformationExtraArgs
    every: int

    def init(self, params: Tree) -> MonitorState:
        """The state before the first step."""
        exportable(MonitorState)
        exportable(Measured)
        zero = functools.partial(jnp.zeros, (), jnp.int32)
        unknown = [jnp.full((), jnp.nan, jnp.float32) for _ in Measured._fields[1:-1]]
        numbers = Measured._make([zero(), *unknown, zero()])
        return MonitorState(zero(), numbers, self.tx.init(params))

    def __call__(self, updates: Tree, state: Tree, params: Tree = None, **extra: object) -> tuple[Tree, Tree]:
        """What to add to the parameters, and the new state."""
        due, count = self._due(state)
        change, inner = self.tx.update(updates, state.inner_state, params, **extra)

        def numbers() -> Measured:
            after = None if params is None else optax.apply_updates(params, change)
            return self._measured(count, state, updates, change, after)

        measured = jax.lax.cond(due, numbers, lambda: state.measured)
        return change, MonitorState(count, measured, inner)

    def step(self, grads: Tree, state: Tree, params: Tree, **extra: object) -> tuple[Tree, Tree]:
        """The new parameters and state, where steps that are not measured change them in the memory they are in."""
        due, count = self._due(state)
        run: Callable[[], tuple[Tree, Tree]] = functools.partial(
            step, self.tx, grads, state.inner_state, params, **extra
        )

        def recorded() -> tuple[Tree, Tree, Measured]:
            new, inner = run()
            change = jax.tree.map(lambda p, q: _wide(p) - _wide(q), new, params)
            return new, inner, self._measured(count, state, grads, change, new)

        new, inner, measured = jax.lax.cond(due, recorded, lambda: (*run(), state.measured))
        return new, MonitorState(count, measured, inner)

    def _due(self, state: Tree) -> tuple[jax.Array, jax.Array]:
        """Whether this step is measured, and its count."""
        if not _is_state(state):
            raise bad_type("monitor", "state", "must be as `init` makes it", state)
        count = optax.safe_increment(state.steps)
        return count % self.every == 0, count

    def _measured(self, count: jax.Array, state: MonitorState, grads: Tree, change: Tree, after: Tree) -> Measured:
        bad = sum((jnp.sum(~jnp.isfinite(g)) for g in jax.tree.leaves(grads)), jnp.zeros((), jnp.int32))
        size = jnp.full((), jnp.nan) if after is None else _norm(after)
        numbers = (self._rate(state.inner_state), _norm(grads), _norm(change), size)
        return Measured._make([count, *(jnp.asarray(x, jnp.float32) for x in numbers), bad.astype(jnp.int32)])

    def _rate(self, inner: Tree) -> jax.Array | float:
        """The learning rate of the step before which this is the state."""
        inside = _inside(self.tx, inner)
        if inside is None:
            return jnp.nan
        ours, state = inside
        counts, schedule = ours.layout.read(state).counts, ours.hyper.schedules.get("learning_rate")
        if schedule is not None:
            return jnp.asarray(schedule(counts[-1] if counts else None))
        return jnp.asarray(ours.hyper.traced.get("learning_rate", ours.rule.learning_rate))


def _inside(tx: optax.GradientTransformation, state: Tree) -> tuple[Update, Tree] | None:
    """The one of ours in a transformation, and its state."""
    inside = seen_through(tx.update, state)
    if inside is None:
        return None
    ours, inner = inside[1], inside[2]
    return (ours.inner, inner.inner_state) if isinstance(ours, Skipping) else (ours, inner)


def _wide(x: jax.Array) -> jax.Array:
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _norm(tree: Tree) -> jax.Array:
    squares = [jnp.sum(jnp.square(jnp.abs(_wide(x)))) for x in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares, jnp.zeros(())))


def _rate_known(rate: float) -> float | None:
    """The learning rate; NaN says that the transformation has none to be seen."""
    return None if rate != rate else rate


def _skipped(inner: Tree) -> int:
    kinds = (optax.ApplyIfFiniteState,)
    states = [x for x in jax.tree.leaves(inner, is_leaf=lambda x: isinstance(x, kinds)) if isinstance(x, kinds)]
    return sum(int(x.total_notfinite) for x in states)
