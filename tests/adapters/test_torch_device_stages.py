"""When slots smaller than a tensor are stored by kernels for CUDA devices: never before the last program has read what
was there. The rules here read it where no optimizer of the package does.
"""

import itertools
from typing import Any

import pytest
import torch

from scirs2_adapters.adapters.torch.executors.triton_layout import Layout
from scirs2_adapters.adapters.torch.executors.triton_text import launches
from scirs2_adapters.adapters.torch.optimizer import classes
from scirs2_adapters.core import Rule
from scirs2_adapters.core.program.recorded import Program, record
from scirs2_adapters.core.slots import Leaf, column, row, scalar

from .triton_support import interpreted

__all__ = ["interpreted"]
SHAPES = [(70, 300), (3, 40, 33), (2, 0), (0, 3)]


class _Test(Rule, time_dependence="none"):
    """A rule of these tests.

    Paper: none.
    Differs from the paper: nothing.
    """

    def coefficients(self, math: Any, t: Any) -> dict[str, Any]:
        return {"gain": 0.5}


class OldRows(_Test):
    """The last pass reads the rows as they were."""

    def update(self, xp, p, g, rows: row(), /, learning_rate, gain, one):  # type: ignore[no-untyped-def, valid-type]
        return learning_rate * g * rows, rows + gain * (xp.mean(g * g, -1) - rows)


class RowsAlong(_Test):
    """The pass that sums columns reads the rows, which its other programs finish."""

    def update(self, xp, p, g, rows: row(), /, learning_rate, gain, one):  # type: ignore[no-untyped-def, valid-type]
        columns, new = xp.mean(g * rows, -2), rows + gain * (xp.mean(g * g, -1) - rows)
        return learning_rate * g / (one + new + columns * columns), new


class OldNumber(_Test):
    """The last pass reads a tensor's number as it was."""

    def update(self, xp, p, g, number: scalar(), /, learning_rate, gain, one):  # type: ignore[no-untyped-def, valid-type]
        return learning_rate * g / (one + number), number + gain * (xp.mean(g * g) - number)


class OldMean(_Test):
    """A mean over the rows as they were, before any pass."""

    def update(self, xp, p, g, rows: row(), /, learning_rate, gain, one):  # type: ignore[no-untyped-def, valid-type]
        return learning_rate * g / (one + xp.mean(rows, -2)), rows + gain * (xp.mean(g * g, -1) - rows)


class RowsByTensor(_Test):
    """Rows and columns of which each takes a sum of the tensor, and sums of these again."""

    def update(self, xp, p, g, rows: row(), columns: column(), /, learning_rate, gain, one):  # type: ignore[no-untyped-def, valid-type]
        norm = one + xp.mean(p * p)
        rows = rows + gain * (xp.mean(g * g, -1) / norm - rows)
        columns = columns + gain * (xp.mean(g * g, -2) / norm - columns)
        return learning_rate * g / (one + rows + columns + xp.mean(columns, -1)), rows, columns


#: The stage and launch that each slot is stored by, and the launches of a step.
RULES = {
    OldRows: ({"rows": (1, 1)}, 3),
    RowsAlong: ({"rows": (1, 1)}, 3),
    OldNumber: ({"number": (1, 0)}, 2),
    OldMean: ({"rows": (1, 0)}, 4),
    RowsByTensor: ({"rows": (1, 1), "columns": (1, 1)}, 4),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_slot_is_stored_when_nothing_reads_the_old_one(
    rule: type[Rule], interpreted: list[Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classes, "get", lambda name: rule)
    make = classes.optimizer.__wrapped__(rule.__name__)
    ends = []
    for kernel in ("auto", "traced"):
        generator = torch.Generator().manual_seed(0)
        params = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
        optimizer = make(params, lr=0.1, kernel=kernel)
        for p, _ in itertools.product(params, range(3)):
            p.grad = torch.randn(p.shape, generator=generator)
            optimizer.step()
        ends.append([x.detach() for p in params for x in (p, *optimizer.state[p].values())])
    assert interpreted
    for a, b in zip(*ends, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_it_is_stored_by_as_few_launches_as_can_be(rule: type[Rule]) -> None:
    program, (stored_at, count) = record(rule(), Leaf((40, 50), "float32")), RULES[rule]
    assert Layout(program, dict.fromkeys(("p", "g", *stored_at), "float32")).stored_at == stored_at
    assert launches(program) == count
