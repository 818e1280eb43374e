"""Shared by the tests of the JAX adapter: a tree of awkward shapes, walks over gradients, distances of trees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import contrib

import scirs2_adapters
from scirs2_adapters import jax as adapter
from scirs2_adapters.adapters.jax.argument_names import argument_names, factory_name
from scirs2_adapters.core.slots import Leaf
from tests.conformance.cells import by_rows
from tests.conformance.options import brisk, still_steps

Tree = Any
STEPS = 6
SHAPES = {"w": (8, 5), "b": (7,), "s": (), "t": {"c": (2, 3, 4)}, "e": (0, 3)}
PATHS = ("traced", "host")
#: Rules of which a host kernel can do every step; the others mix rows, columns or matrices in.
KERNEL = [n for n in scirs2_adapters.names() if not by_rows(n)]
#: What optax has: rule -> arguments that both take, in the variants worth comparing.
PEERS: dict[str, list[dict[str, Any]]] = {
    "adadelta": [{"learning_rate": 0.5}, {"learning_rate": 0.5, "rho": 0.7, "eps": 1e-4, "weight_decay": 0.1}],
    "adagrad": [{"learning_rate": 1e-2}, {"learning_rate": 1e-2, "initial_accumulator_value": 0.5, "eps": 1e-3}],
    "adam": [{"learning_rate": 1e-2}, {"learning_rate": 1e-2, "eps_root": 1e-6}],
    "adamax": [{"learning_rate": 1e-2}],
    "adamw": [{"learning_rate": 1e-2, "weight_decay": 0.1}],
    "lamb": [{"learning_rate": 1e-2, "weight_decay": 0.1}],
    "lion": [{"learning_rate": 1e-2, "weight_decay": 0.1}],
    "nadam": [{"learning_rate": 1e-2}, {"learning_rate": 1e-2, "b1": 0.8, "eps_root": 1e-6}],
    "prodigy": [{"estim_lr0": 1e-2, "weight_decay": 0.01}, {"estim_lr0": 1e-2, "safeguard_warmup": True}],
    "radam": [{"learning_rate": 1e-2, "b2": 0.9}, {"learning_rate": 1e-2, "eps_root": 1e-6, "threshold": 5.5}],
    "rmsprop": [
        {"learning_rate": 1e-2},
        {"learning_rate": 1e-2, "momentum": 0.9, "centered": True},
        {"learning_rate": 1e-2, "momentum": 0.9, "nesterov": True, "initial_scale": 0.5, "eps_in_sqrt": False},
        {"learning_rate": 1e-2, "bias_correction": True, "eps": 1e-3},
        # eps so large because the first centered variance is 0 but for rounding
        {"learning_rate": 1e-2, "bias_correction": True, "centered": True, "eps": 1e-1},
    ],
    "rprop": [{"learning_rate": 1e-2}, {"learning_rate": 1e-2, "eta_plus": 1.5, "max_step_size": 0.02}],
    "sgd": [
        {"learning_rate": 1e-2},
        {"learning_rate": 1e-2, "momentum": 0.9},
        {"learning_rate": 1e-2, "momentum": 0.9, "nesterov": True},
    ],
}
CASES = [(name, kwargs) for name, variants in PEERS.items() for kwargs in variants]


def theirs(name: str) -> Callable[..., optax.GradientTransformation]:
    """optax's own function of this name."""
    return getattr(optax, factory_name(name), None) or getattr(contrib, factory_name(name))


def tree(seed: int, dtype: Any = jnp.float32) -> Tree:
    """Random numbers in awkward shapes."""
    rng = np.random.default_rng(seed)
    make = lambda shape: jnp.asarray(rng.standard_normal(shape), dtype)  # noqa: E731
    return jax.tree.map(make, SHAPES, is_leaf=lambda x: isinstance(x, tuple))


def small(seed: int) -> Tree:
    """Random numbers in the fewest shapes that rules tell apart, so that steps compile fast."""
    return {k: x for k, x in tree(seed).items() if k in ("w", "b")}


SMALL = small(0)


def gradients(steps: int = STEPS, dtype: Any = jnp.float32) -> list[Tree]:
    return [tree(100 + i, dtype) for i in range(steps)]


def lively_arguments(name: str) -> dict[str, Any]:
    """First values of what a rule learns of the model that 16 bits resolve."""
    cls = scirs2_adapters.get(name)
    return argument_names(cls).to_framework(
        {k: v for k, v in brisk(cls).items() if k != "learning_rate"}, cls.fields_with()
    )


def lively(name: str, **options: Any) -> Any:
    """The optimizer that moves numbers of 16 bits too."""
    return getattr(adapter, name)(**lively_arguments(name), **options)


def two_calls(tx: Any) -> Callable[..., Any]:
    """`update` and `apply_updates`, as users of optax write it."""

    def step(grads: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree]:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def one_call(tx: Any) -> Callable[..., Any]:
    return lambda grads, state, params: adapter.step(tx, grads, state, params)


def walk(step: Callable[..., Any], state: Tree, params: Tree, grads: Sequence[Tree]) -> tuple[Tree, Tree]:
    """Parameters and state after all gradients, jitted."""
    jitted = jax.jit(step)
    for g in grads:
        params, state = jitted(g, state, params)
    return params, state


def begun(name: str, tx: Any, params: Tree, grads: Tree) -> Tree:
    """The state from which the next step is one that moves."""
    state = tx.init(params)
    for _ in range(still_steps(name)):
        _, state = tx.update(grads, state, params)
    return state


def flat(x: Tree) -> np.ndarray:
    return np.concatenate([np.zeros(0), *(np.ravel(np.asarray(a)).astype(complex) for a in jax.tree.leaves(x))])


def gap(a: Tree, b: Tree, start: Tree) -> float:
    """The distance of two trees, relative to the way that the second one has gone."""
    return float(np.linalg.norm(flat(a) - flat(b)) / max(1e-30, np.linalg.norm(flat(b) - flat(start))))


def takes_complex(name: str, *shapes: tuple[int, ...]) -> bool:
    """Whether each rule that steps a parameter of these shapes has a meaning for complex numbers; others refuse them.
    A rule for matrices may leave vectors to one that has it.
    """
    rule = scirs2_adapters.get(name)()
    return all(rule.route(Leaf(shape)).moduli is not None for shape in shapes)


def kinds(x: Tree) -> Tree:
    """Shape and dtype of every leaf, arrays or their shapes; weakly typed ones are marked."""
    return jax.tree.map(lambda a: f"{a.dtype}{a.shape}{' weak' * a.weak_type}", x)


def shapes(x: Tree) -> Tree:
    """The tree, and the kinds of its leaves: comparable whatever nodes it has."""
    return jax.tree.structure(x), jax.tree.leaves(kinds(x))


def steps_alike(tx: Any, params: Tree, grads: Tree) -> None:
    """Both forms of the step keep tree, shapes and dtypes, and `init` makes the same of arrays and of their shapes."""
    state = jax.eval_shape(tx.init, params)
    for step in (one_call(tx), two_calls(tx)):
        new, after = jax.eval_shape(step, grads, state, params)
        assert shapes(new) == shapes(jax.tree.map(jnp.asarray, params))
        assert shapes(after) == shapes(state)
    updates, _ = jax.eval_shape(tx.update, grads, state, params)
    wide = lambda g, p: jnp.zeros(g.shape, jnp.promote_types(*(jnp.asarray(x).dtype for x in (g, p))))  # noqa: E731
    assert shapes(updates) == shapes(jax.tree.map(wide, grads, params))


def same_bits(a: Tree, b: Tree) -> bool:
    """Whether two trees are equal, NaN included."""
    alike = jax.tree.structure(a) == jax.tree.structure(b) and kinds(a) == kinds(b)
    return alike and all(
        np.array_equal(np.asarray(x).view(np.uint8), np.asarray(y).view(np.uint8))
        for x, y in zip(map(np.atleast_1d, jax.tree.leaves(a)), map(np.atleast_1d, jax.tree.leaves(b)), strict=True)
    )
