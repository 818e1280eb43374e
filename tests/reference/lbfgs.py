"""L-BFGS: Liu and Nocedal 1989; Nocedal and Wright 2006, equations (7.17) to (7.20), with the matrix written out.

H is made anew for each direction, from a multiple of the identity by one BFGS update for each remembered pair, and not
by two loops. Step lengths are torch's without a line search: the rate, and at the very first min(1, 1 / sum |g|) times
it. A step ends after `max_iter` iterations, and what the last has come to is evaluated when the next step begins. No
tolerance ends it earlier, so it is compared where none would.

An optimizer that evaluates the model has no list of gradients: `trajectory(start, evaluate, steps, *, <hyper>)` takes
the function from a vector to (loss, gradient) and returns the vector after each step.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray


def inverse_hessian(pairs: list[tuple[Array, Array]], size: int) -> Array:
    """H of (7.19), pair by pair."""
    h = np.eye(size)
    if pairs:
        s, y = pairs[-1]
        h *= (s @ y) / (y @ y)
    for s, y in pairs:
        rho = 1.0 / (y @ s)
        v = np.eye(size) - rho * np.outer(y, s)
        h = v.T @ h @ v + rho * np.outer(s, s)
    return h


def trajectory(
    start: Array,
    evaluate: Callable[[Array], tuple[float, Array]],
    steps: int,
    *,
    learning_rate: float = 1.0,
    max_iter: int = 20,
    history_size: int = 100,
) -> list[Array]:
    """The vector after each step."""
    x, pairs, last, history = np.array(start, dtype=float), [], None, []
    for _ in range(steps):
        for _ in range(max_iter):
            _, g = evaluate(x)
            if last is not None:
                s, y = x - last[0], g - last[1]
                if y @ s > 1e-10:
                    pairs = [*pairs, (s, y)][-history_size:]
            t = learning_rate * (min(1.0, 1.0 / np.abs(g).sum()) if last is None else 1.0)
            last = x, g
            x = x - t * inverse_hessian(pairs, x.size) @ g
        history.append(x)
    return history
