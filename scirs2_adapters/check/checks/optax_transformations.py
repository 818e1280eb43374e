"""What JAX and optax do with a transformation besides calling it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..drivers.optax import OptaxDriver, OptaxRun, Tree
from ..outcome import expect
from ..problem import MOVES, STEPS, distance, same_bits

_CLOSE = 1e-5


def scan(driver: OptaxDriver) -> None:
    """Steps in `jax.lax.scan` walk as one by one: the state keeps its structure, shapes and dtypes."""
    run, plain = driver.start(), driver.start()
    fixed = [driver.problem.gradients(driver.problem.params, step) for step in range(STEPS)]
    for grads in fixed:
        plain.step(grads)
    stacked = {k: jnp.array(np.stack([g[i] for g in fixed]), "float32") for i, k in enumerate(run.names)}

    def body(carried: tuple[Tree, object], grads: Tree) -> tuple[tuple[Tree, object], None]:
        return run.once(grads, carried[1], carried[0]), None

    (run.tree, run.state), _ = jax.lax.scan(body, (run.tree, run.state), stacked)
    expect(distance(run.params(), plain.params()) < _CLOSE, "the walk of single steps", "another walk")


def chain(driver: OptaxDriver) -> None:
    """In a chain behind `clip_by_global_norm` it sees the clipped gradients."""
    run = driver.over(optax.chain(optax.clip_by_global_norm(0.5), driver.create()))
    plain = driver.start()
    grads = [3 * g for g in driver.problem.gradients(driver.problem.params, 0)]
    norm = float(np.sqrt(sum(float((g * g).sum()) for g in grads)))
    for _ in range(MOVES):
        run.step(grads)
        plain.step([g * (0.5 / norm) for g in grads])
    expect(distance(run.params(), plain.params()) < _CLOSE, "the walk over clipped gradients", "another walk")


def masked(driver: OptaxDriver) -> None:
    """Under `optax.masked`, parameters that are masked get their gradient as the update, and others are stepped."""
    mask = dict.fromkeys(driver.problem.names, True) | {driver.problem.names[0]: False}
    run = driver.over(optax.masked(driver.create(), mask))
    grads = driver.problem.gradients(driver.problem.params, 0)
    before = run.params()
    tree = run.by_name(grads)
    updates, run.state = run.transformation.update(tree, run.state, run.tree)
    name = driver.problem.names[0]
    expect(np.array_equal(updates[name], tree[name]), "the masked gradient unchanged", "another update")
    for _ in range(MOVES):
        run.step(grads)
    moved = [not np.array_equal(a, b) for a, b in zip(run.params()[1:], before[1:], strict=True)]
    expect(all(moved), "all others moved", "some did not")


def injected(driver: OptaxDriver) -> None:
    """Under `inject_hyperparams` it walks as without."""
    run, plain = driver.settable(), driver.start()
    for each in (run, plain):
        each.advance(STEPS)
    expect(distance(run.params(), plain.params()) < _CLOSE, "the walk without it", "another walk")


def overflow(driver: OptaxDriver) -> None:
    """Under `apply_if_finite` a step whose gradients are not finite is left out, and the next one is taken."""
    run = driver.over(optax.apply_if_finite(driver.create(), max_consecutive_errors=5))
    run.stepped = jax.jit(run.once)
    grads = driver.problem.gradients(driver.problem.params, 0)
    before = run.params()
    run.step([g * np.nan for g in grads])
    expect(same_bits(run.params(), before), "no step", "a step")
    for _ in range(MOVES):
        run.step(grads)
    expect(not same_bits(run.params(), before), "steps", "no step")


def accumulated(driver: OptaxDriver) -> None:
    """Under `optax.MultiSteps` two halves of a gradient are one step."""
    run = driver.over(optax.MultiSteps(driver.create(), every_k_schedule=2).gradient_transformation())
    run.stepped = jax.jit(run.once)
    plain = driver.start()
    grads = driver.problem.gradients(driver.problem.params, 0)
    for _ in range(STEPS):
        run.step([2 * g for g in grads])
        run.step([0 * g for g in grads])
        plain.step(grads)
    expect(distance(run.params(), plain.params()) < _CLOSE, "the walk over whole gradients", "another walk")


def numpy_arrays(driver: OptaxDriver) -> None:
    """Gradients and parameters may be numpy's, and are not written into."""
    params = {k: p.astype("float32") for k, p in zip(driver.problem.names, driver.problem.params, strict=True)}
    run: OptaxRun = driver.start()
    before = {k: p.copy() for k, p in params.items()}
    state = run.transformation.init(params)
    grads = {k: np.ones_like(p) for k, p in params.items()}
    updates, _ = run.transformation.update(grads, state, params)
    kept = all(np.array_equal(params[k], before[k]) and bool((grads[k] == 1).all()) for k in params)
    expect(kept, "arrays unchanged", "other numbers in them")
    expect(set(updates) == set(params), "an update for each", "others")


CHECKS = (scan, chain, masked, injected, overflow, accumulated, numpy_arrays)
