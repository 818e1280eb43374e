"""Numbers of rows, columns and matrices of many tensors in one vector, beside numpy on each tensor."""

from __future__ import annotations

import numpy as np
import pytest

from scirs2_adapters import get
from scirs2_adapters.core import GradientCentralization, HostOptimizer
from scirs2_adapters.core.cpu.lines import Lines
from scirs2_adapters.core.matrix import Matrix, matrices
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import Extent, Leaf

SHAPES = [(4, 6), (3, 2, 5), (1, 1), (0, 3), (2, 2, 3, 4), (3, 0)]
KEPT = {
    Extent.TENSOR: lambda s: (),
    Extent.BATCH: lambda s: (*s[:-2], 1, 1),
    Extent.ROW: lambda s: (*s[:-1], 1),
    Extent.COLUMN: lambda s: (*s[:-2], 1, s[-1]),
}


@pytest.mark.parametrize("over", [Extent.TENSOR, Extent.BATCH], ids=lambda e: e.name)
@pytest.mark.parametrize("extent", [Extent.ROW, Extent.COLUMN], ids=lambda e: e.name)
def test_vectors_of_all_tensors_are_those_of_each(extent: Extent, over: Extent) -> None:
    rng, lines = np.random.default_rng(0), Lines(SHAPES)
    each = [rng.normal(size=KEPT[extent](s)) for s in SHAPES]
    axes = [(-2, -1) if over is Extent.BATCH else None for _ in SHAPES]
    sums = [np.sum(x, axis=a, keepdims=a is not None) for x, a in zip(each, axes, strict=True)]
    joined = np.concatenate([x.reshape(-1) for x in each])
    of_all = np.concatenate([np.reshape(x, -1) for x in sums])
    sizes = [max(1, y.size // max(1, x.size)) for x, y in zip(sums, each, strict=True)]
    counts = np.repeat(sizes, [x.size for x in sums])
    np.testing.assert_allclose(lines.sums(joined, extent, over, mean=False), of_all, atol=1e-14)
    np.testing.assert_allclose(lines.sums(joined, extent, over, mean=True), of_all / counts, atol=1e-14)
    spread = [np.broadcast_to(x, y.shape).reshape(-1) for x, y in zip(sums, each, strict=True)]
    np.testing.assert_array_equal(lines.spread(of_all, over, extent), np.concatenate(spread))


def test_sides_of_several_axes_are_rows_and_columns_where_they_lie_so() -> None:
    assert matrices((-4, (-3, -2, -1)), (7, 3, 2, 5)) == (7, 30)
    assert matrices(((-3, -2), -1), (9, 3, 2, 5)) == (9, 6, 5)
    lying, turned = Matrix((-2, -1), (-3,)), Matrix((-3,), (-2,))
    assert record(get("adamp")(), Leaf((4, 3, 2), matrix=lying)).kernel_obstacle is None
    assert "not the last ones" in (record(get("adamp")(), Leaf((4, 3, 2), matrix=turned)).kernel_obstacle or "")


class LooksAlong(Rule):
    """Takes means along the last axis without a slot for them.

    p = p - lr * g / mean of |g|

    Paper: none.
    Differs from the paper: nothing.
    """

    def coefficients(self, math, t):
        return {}

    def update(self, xp, p, g, /, learning_rate, one):
        return learning_rate * g / (one + xp.mean(xp.abs(g), -1))


def test_no_kernel_walks_along_two_pairs_of_axes() -> None:
    rule = GradientCentralization(base=LooksAlong)
    assert record(rule, Leaf((4, 3), name="w")).kernel_obstacle is None
    assert "several pairs of axes" in (record(rule, Leaf((4, 3, 2), name="w")).kernel_obstacle or "")
    params = {"w": np.ones((4, 3, 2))}
    HostOptimizer(rule, params).step({"w": np.random.default_rng(0).normal(size=(4, 3, 2))})
    assert np.all(np.isfinite(params["w"]))


@pytest.mark.parametrize("name", ["adamp", "gradientcentralization", "lookahead(adamp)"])
def test_blocks_of_8_bits_do_not_reach_from_one_matrix_into_the_next(name: str) -> None:
    base = name.partition("(")[2].rstrip(")")
    rule = get(name.partition("(")[0])(**({"base": base} if base else {}))

    def in_blocks(shape: tuple[int, ...], layer: str) -> bool:
        return any(s.may_be_blocks for s in rule.slots(Leaf(shape, name=f"{layer}/kernel")))

    assert not in_blocks((3, 20, 70), "experts")
    assert all((in_blocks((4, 16, 32), "experts"), in_blocks((20, 25, 3, 3), "conv"), in_blocks((20, 70), "dense")))


@pytest.mark.usefixtures("threads_for_little_work")
@pytest.mark.parametrize("name", ["adamp", "gradientcentralization", "adafactor", "came"])
def test_any_number_of_threads_makes_the_same_bits(name: str) -> None:
    ends = []
    for threads in (1, 2, 5):
        rng = np.random.default_rng(0)
        params = {f"w{i}": rng.normal(size=s).astype(np.float32) for i, s in enumerate([(300, 257), (40, 30, 9)])}
        optimizer = HostOptimizer(name, params, threads=threads, kernel="host")
        for _ in range(2):
            optimizer.step({k: rng.normal(size=x.shape).astype(np.float32) for k, x in params.items()})
        ends.append(b"".join(x.tobytes() for x in params.values()))
    assert ends[0] == ends[1] == ends[2]
