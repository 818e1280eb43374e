"""optax: a transformation of gradients, its state a tree of arrays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..driver import ArrayRun, Driver
from ..outcome import NotApplicable
from ..problem import Array, Arrays, Grads, Problem
from ..subject import NOTHING, Changes

Tree = dict[str, jax.Array]


@contextlib.contextmanager
def double(wanted: bool) -> Iterator[None]:
    """JAX's setting for arrays of float64."""
    before = bool(jax.config.read("jax_enable_x64"))
    jax.config.update("jax_enable_x64", wanted or before)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


class OptaxRun(ArrayRun):
    """Parameters by name, and the state of a transformation."""

    def __init__(self, walked: Problem, dtype: str, transformation: object) -> None:
        super().__init__(walked)
        self.dtype, self.names, self.traced = dtype, walked.names, 0
        self.transformation = cast("optax.GradientTransformationExtraArgs", transformation)
        with double(dtype == "float64"):
            self.tree = self.by_name(walked.params)
            self.state = self.transformation.init(self.tree)
        self.stepped: Callable[..., tuple[Tree, object]] = self.once

    def by_name(self, arrays: Arrays) -> Tree:
        """Arrays in JAX's memory."""
        return {k: jnp.array(x, dtype=self.dtype) for k, x in zip(self.names, arrays, strict=True)}

    def once(self, grads: Tree, state: object, params: Tree) -> tuple[Tree, object]:
        """One step."""
        self.traced += 1
        updates, state = self.transformation.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    def params(self) -> Arrays:
        return [self.numbers(self.tree[k]) for k in self.names]

    def numbers(self, x: object) -> Array:
        return np.array(x).astype(np.float64)

    def native(self, grads: Grads) -> Sequence[object]:
        if any(g is None for g in grads):
            raise NotApplicable("a tree of gradients has one for each parameter")
        with double(self.dtype == "float64"):
            return [jnp.array(g, dtype=self.dtype) for g in grads]

    def apply(self, grads: Sequence[object]) -> None:
        tree = cast("Tree", dict(zip(self.names, grads, strict=True)))
        with double(self.dtype == "float64"):
            self.tree, self.state = self.stepped(tree, self.state, self.tree)

    def saved(self) -> object:
        return self.params(), [np.array(x) for x in jax.tree.leaves(self.state)], self.at

    def restore(self, saved: object) -> None:
        params, leaves, self.at = cast("tuple[Arrays, list[Array], int]", saved)
        self.tree = self.by_name(params)
        self.state = jax.tree.unflatten(jax.tree.structure(self.state), [jnp.array(x) for x in leaves])

    def owned(self) -> object:
        return self.tree, self.state

    def adopt(self, owned: object) -> None:
        self.tree, self.state = cast("tuple[Tree, object]", owned)

    def dtypes(self) -> set[str]:
        return {str(x.dtype) for x in self.tree.values()}

    def set_rate(self, rate: float) -> None:
        """As `inject_hyperparams` keeps it in the state."""
        kept = self.state.hyperparams
        kept["learning_rate"] = jnp.asarray(rate, kept["learning_rate"].dtype)


class OptaxDriver(Driver):
    """optax on JAX."""

    framework = "optax"
    gaps = {
        "gradients.not_held": "arrays cannot be changed, so a state may share them",
        "state.shared": "arrays cannot be changed, so states may share them",
        "running.dropped": "a transformation is functions without memory",
        "running.threads": "XLA's threads are set before it starts",
    }

    def create(self, changes: Changes = NOTHING) -> object:
        """A transformation."""
        return self.subject.factory(**self.subject.arguments(self.takes, changes))

    def start(self, changes: Changes = NOTHING, walked: Problem | None = None, dtype: str = "float32") -> OptaxRun:
        return self.over(self.create(changes), walked, dtype)

    def over(self, transformation: object, walked: Problem | None = None, dtype: str = "float32") -> OptaxRun:
        """One with a transformation that there is already."""
        return OptaxRun(walked or self.problem, dtype, transformation)

    def kind(self) -> tuple[str, bool]:
        return "an optax.GradientTransformation", isinstance(self.create(), optax.GradientTransformation)

    def settable(self) -> OptaxRun:
        """One whose learning rate is in its state."""
        rate = {self.rate(): self.subject.rate_value}
        return self.over(optax.inject_hyperparams(self.subject.factory)(**self.subject.arguments(changes=rate)))

    def scheduled(self, factors: Sequence[float]) -> OptaxRun:
        rate = self.subject.rate_value

        def schedule(count: jax.Array) -> jax.Array:
            return rate * jnp.asarray(factors)[count % len(factors)]

        return self.start({self.rate(): schedule})

    def compiled(self) -> OptaxRun:
        run = self.start()
        run.stepped = jax.jit(run.once)
        return run

    def times_compiled(self, run: object) -> int:
        assert isinstance(run, OptaxRun)
        return run.traced


DRIVER = OptaxDriver
