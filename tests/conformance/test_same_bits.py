"""One kernel: adapters on the host path agree with the core bit for bit, and so do any numbers of threads."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import numpy as np
import pytest

import scirs2_adapters
from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.core.formats import DITHER
from scirs2_adapters.core.ops import HOST_SCALARS
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.slots import Leaf

from .cells import Cell, Gap, by_library, gap, history, option_rows, table
from .problem import STEPS
from .walk import values

#: The mathematics of coefficients as a trace has it: in float32.
NARROW = SimpleNamespace(**{name: getattr(np, name) for name in vars(HOST_SCALARS)})


def computed(rule: str) -> bool:
    """Whether a rule computes numbers in every step: coefficients that change and that float32 rounds, or what follows
    from sums.
    """
    sums = record(scirs2_adapters.get(rule)(), Leaf((2, 3))).levels > 0
    return sums or (changing(rule) and rounded(rule))


def changing(rule: str) -> bool:
    """Whether a rule's coefficients change from step to step."""
    return coefficients(rule, 1) != coefficients(rule, 2)


def rounded(rule: str) -> bool:
    """Whether some coefficient of the walk is another number where it is computed in float32."""
    pairs = [(coefficients(rule, t), coefficients(rule, np.float32(t), NARROW)) for t in range(1, STEPS + 1)]
    pairs = [(wide[name], narrow[name]) for wide, narrow in pairs for name in wide if not isinstance(wide[name], str)]
    return any(np.float32(wide) != np.float32(narrow) for wide, narrow in pairs)


def coefficients(rule: str, t: float, math: SimpleNamespace = HOST_SCALARS) -> dict[str, float]:
    """Those of a step, but for the random number of its rounding."""
    return {**scirs2_adapters.get(rule)().scalars(math, t), DITHER: 0.0}


def multiplied(rule: str) -> bool:
    """Whether a rule's coefficients have the product of rate and decay in them, and none that is computed."""
    made = scirs2_adapters.get(rule)().replace(learning_rate=0.5, weight_decay=0.125)
    return not computed(rule) and 0.5 * 0.125 in made.scalars(HOST_SCALARS, 1).values()


#: The bits are the same given the same coefficients. Who computes them otherwise says so here, and has other bits.
UNLIKE = (
    Gap("torch|hf", "host", "*", "torch multiplies and decomposes matrices, elsewhere numpy does", by_library),
    Gap("jax", "host", "*", "under jit such numbers are traced, and XLA computes them in float32", computed),
    Gap("tf", "host", "*", "TensorFlow computes such numbers in float32, for its step count is a variable", computed),
    Gap("tf", "host", "float32", "so it does the product of rate and decay", multiplied),
)

CELLS = [c for c in table() if c.adapter != "core" and c.path == "host" and c.dtype in ("float32", "bfloat16")]
SHARED = [c for c in CELLS if gap(c) is None and not any(unlike.covers(c) for unlike in UNLIKE)]
OTHERS = [c for c in CELLS if gap(c) is None and c not in SHARED and c.dtype == "float32"]


@functools.cache
def core(rule: str, dtype: str) -> list[dict[str, np.ndarray]]:
    """The core's own walks on the host path."""
    cell = Cell(rule, "core", "host", dtype)
    return [values(history(cell, hyper)) for hyper in option_rows(cell)]


def differing(cell: Cell) -> list[str]:
    """The parameters and slots of a cell that are not the core's bit for bit."""
    names = []
    for hyper, expected in zip(option_rows(cell), core(cell.rule, cell.dtype), strict=True):
        ours = values(history(cell, hyper))
        names += [name for name in expected if not np.array_equal(ours[name], expected[name])]
    return names


@pytest.mark.parametrize(("cell", "adapter"), [pytest.param(c, c.adapter, id=str(c)) for c in SHARED])
def test_an_adapter_on_the_host_kernel_has_the_bits_of_the_core(cell: Cell, adapter: str) -> None:
    del adapter
    assert differing(cell) == []


@pytest.mark.parametrize(("cell", "adapter"), [pytest.param(c, c.adapter, id=str(c)) for c in OTHERS])
def test_an_adapter_excused_from_the_same_bits_needs_its_excuse(cell: Cell, adapter: str) -> None:
    del adapter
    assert differing(cell)


@pytest.mark.usefixtures("threads_for_little_work")
@pytest.mark.parametrize("rule", scirs2_adapters.names())
def test_any_number_of_threads_gives_the_same_bits(rule: str) -> None:
    """Large enough that three threads find work, in pieces that no number of threads divides evenly."""
    walks = [threaded(rule, threads) for threads in (1, 2, 3)]
    for other in walks[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(walks[0], other, strict=True))


def threaded(rule: str, threads: int) -> list[np.ndarray]:
    """Parameters and memory after three steps with so many threads."""
    rng = np.random.default_rng(3)
    shapes = {"matrix": (257, 1001), "vector": (65_537,), "stack": (3, 7, 1009)}
    params = {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    optimizer = HostOptimizer(scirs2_adapters.get(rule)(), params, kernel="host", threads=threads)
    for _ in range(3):
        optimizer.step({name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()})
    return [*params.values(), *(x for slots in optimizer.state.values() for x in slots.values())]
