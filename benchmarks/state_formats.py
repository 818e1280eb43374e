"""How far 8-bit moments lead AdamW away from float32 ones: `python -m benchmarks.state_formats`.

A quadratic bowl with curvatures from 0.01 to 1 is descended for 1,000 steps, with gradients of three kinds of noise:
Gaussian; heavy-tailed (Student's t with two degrees of freedom); and those of an embedding, where most rows have no
gradient at most steps and frequent ones have many. After each step the moments are stored in a format and read again.
The distance is that of the parameters from float32's, as a share of the way float32's have gone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np

from scirs2_adapters.core import formats
from scirs2_adapters.core.cpu.storage import FORMAT_OPS, load, store

Array = np.ndarray
ROWS, COLUMNS, STEPS = 256, 256, 1000
Stored = Callable[[Array], Array]


def through(encode: Callable[[Array], Array], size: int) -> Stored:
    """A format of blocks of this size, whose largest magnitude is the scale, from what a share of it becomes."""

    def stored(x: Array) -> Array:
        blocks = x.reshape(-1, size)
        scale = np.abs(blocks).max(axis=1, keepdims=True)
        return (encode(blocks / np.where(scale > 0, scale, 1)) * scale).reshape(x.shape)

    return stored


def root(power: int, top: int, floor: bool = False) -> Callable[[Array], Array]:
    """Codes whose powers are the numbers; with `floor` what is not 0 never becomes 0."""

    def encode(y: Array) -> Array:
        codes = np.floor(np.abs(y) ** (1 / power) * top + 0.5)
        codes = np.where((y != 0) & (codes < 1), 1, codes) if floor else codes
        return np.sign(y) * (codes / top) ** power

    return encode


def softsign(y: Array) -> Array:
    codes = np.round(2 * y / (1 + np.abs(y)) * 127) / 127
    return codes / (2 - np.abs(codes))


def linear(y: Array) -> Array:
    return np.round(y * 127) / 127


def ours(dtype: str) -> Stored:
    steps = itertools.count()
    return lambda x: formats.load(FORMAT_OPS, dtype, *formats.store(FORMAT_OPS, dtype, x, formats.dither(next(steps))))


def bfloat16(x: Array) -> Array:
    return load(store(x, "bfloat16"), "bfloat16")


#: name -> (bits a number, first moment, second moment)
FORMATS: dict[str, tuple[float, Stored, Stored]] = {
    "blocks of 256, square, fourth power (ours)": (8.125, ours("int8"), ours("uint8")),
    "the same, to the nearest code": (8.125, through(root(2, 127), 256), through(root(4, 255, floor=True), 256)),
    "the same, small second moments may become 0": (8.125, through(root(2, 127), 256), through(root(4, 255), 256)),
    "blocks of 256, square, square": (8.125, through(root(2, 127), 256), through(root(2, 255, floor=True), 256)),
    "blocks of 256, cube, fourth power": (8.125, through(root(3, 127), 256), through(root(4, 255, floor=True), 256)),
    "blocks of 256, square, eighth power": (8.125, through(root(2, 127), 256), through(root(8, 255, floor=True), 256)),
    "blocks of 64, square, fourth power": (8.5, through(root(2, 127), 64), through(root(4, 255, floor=True), 64)),
    "blocks of 32, softsign, square": (9.0, through(softsign, 32), through(root(2, 255), 32)),
    "blocks of 256, softsign, square": (8.125, through(softsign, 256), through(root(2, 255), 256)),
    "bfloat16": (16.0, bfloat16, bfloat16),
    "blocks of 256, linear": (8.125, through(linear, 256), through(root(1, 255), 256)),
}


def gradients(kind: str, rng: np.random.Generator) -> Callable[[Array], Array]:
    """Noisy gradients at a point."""
    curvature = np.exp(rng.uniform(math.log(0.01), 0, (ROWS, COLUMNS))).astype(np.float32)
    scale = np.exp(rng.uniform(-4, 0, (ROWS, 1))).astype(np.float32)  # rows of one tensor differ in size
    frequency = np.minimum(1, 4 / np.arange(1, ROWS + 1))[:, None]

    def gradient(p: Array) -> Array:
        if kind == "Gaussian":
            noise = rng.standard_normal(p.shape, dtype=np.float32)
        else:
            noise = rng.standard_t(2, p.shape).astype(np.float32)
        g = (curvature * p + noise) * scale
        return g * (rng.random((ROWS, 1)) < frequency) if kind == "embedding" else g

    return gradient


def descend(kind: str, first: Stored | None, second: Stored | None) -> tuple[Array, Array]:
    """Where AdamW starts and ends."""
    rng = np.random.default_rng(0)
    start = p = rng.standard_normal((ROWS, COLUMNS), dtype=np.float32)
    gradient, m, v = gradients(kind, rng), np.zeros_like(p), np.zeros_like(p)
    for t in range(1, STEPS + 1):
        g = gradient(p).astype(np.float32)
        m, v = m + np.float32(0.1) * (g - m), v + np.float32(0.001) * (g * g - v)
        p = p - np.float32(1e-3) * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        p = p.astype(np.float32)
        m, v = (first(m), second(v)) if first and second else (m, v)
        m, v = m.astype(np.float32), v.astype(np.float32)
    return start, p


def main() -> None:
    kinds = ("Gaussian", "heavy-tailed", "embedding")
    print(f"| format | bits | {' | '.join(kinds)} |\n|---|---|---|---|---|")
    with np.errstate(all="ignore"):
        reference = {kind: descend(kind, None, None) for kind in kinds}
        for name, (bits, first, second) in FORMATS.items():
            cells = []
            for kind, (start, end) in reference.items():
                _, p = descend(kind, first, second)
                cells.append(f"{np.linalg.norm(p - end) / np.linalg.norm(end - start):.4f}")
            print(f"| {name} | {bits} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
