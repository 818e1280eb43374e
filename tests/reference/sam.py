"""SAM: Foret et al., arXiv 2010.01412, Algorithm 1 with p = 2; ASAM: Kwon et al., arXiv 2102.11600, with T_w = |w|.

Over the one-leaf formula of any other twin. `trajectory(start, evaluate, steps, *, base, <hyper>)` takes the function
from a list of arrays to its list of gradients, and returns the list of arrays after each step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

import numpy as np

Array = np.ndarray


def trajectory(
    start: Sequence[Array],
    evaluate: Callable[[list[Array]], list[Array]],
    steps: int,
    *,
    base: str = "sgd",
    radius: float = 0.05,
    adaptive: bool = False,
    **hyper: object,
) -> list[list[Array]]:
    """The parameters after each step."""
    step = import_module(f"{__package__}.{base}").step
    ws, slots, history = [np.array(w, dtype=float) for w in start], [{} for _ in start], []
    for t in range(1, steps + 1):
        gs = evaluate(ws)
        scales = [np.abs(w) if adaptive else np.ones_like(w) for w in ws]
        norm = np.sqrt(sum(((scale * g) ** 2).sum() for scale, g in zip(scales, gs, strict=True))) + 1e-12
        worst = [w + radius * scale**2 * g / norm for w, scale, g in zip(ws, scales, gs, strict=True)]
        moved = [step(t, w, g, slot, **hyper) for w, g, slot in zip(ws, evaluate(worst), slots, strict=True)]
        ws, slots = [w for w, _ in moved], [slot for _, slot in moved]
        history.append(ws)
    return history
