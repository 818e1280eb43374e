"""Squares of the sides of a convolution's kernel go to the other layout: their rows and columns in the order in which
the numbers of a side lie there.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scirs2_adapters import get, names, state
from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.core.matrix import INPUTS_FIRST, OUTPUTS_FIRST
from scirs2_adapters.core.portable.convert import in_layout
from scirs2_adapters.core.portable.layouts import TURNS, Shape
from scirs2_adapters.core.portable.lines import lines_of
from scirs2_adapters.core.portable.state import loaded, save

RULES = [name for name in names() if lines_of(get(name)()).squares]
#: How often squares are decomposed: before the file is written, and after.
OFTEN = {"precondition_frequency": 2, "start_preconditioning_step": 2}


def optimizer(name: str, weight: np.ndarray, layout: str, longest: int) -> HostOptimizer:
    cls = get(name)
    values = {"max_precond_dim": longest} | {k: x for k, x in OFTEN.items() if k in cls.fields}
    return HostOptimizer(cls(**values), {"k": weight}, kernel="traced", layout=layout)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("longest", [100, 7])
@pytest.mark.parametrize("shape", [(3, 4, 2), (4, 2, 3, 2)], ids=len)
def test_a_kernel_of_many_axes_goes_on_in_the_other_layout(
    name: str, shape: Shape, longest: int, tmp_path: Path
) -> None:
    rng, axes = np.random.default_rng(0), TURNS[INPUTS_FIRST][len(shape)]
    weight, grads = rng.normal(size=shape), rng.normal(size=(9, *shape))
    one = optimizer(name, weight, OUTPUTS_FIRST, longest)
    for g in grads[:5]:
        one.step({"k": g.copy()})
    state.save(one, tmp_path / "s")
    turned = np.ascontiguousarray(weight.transpose(axes))
    other = optimizer(name, turned, INPUTS_FIRST, longest)
    state.load(tmp_path / "s", other, layout="torch")
    with loaded("test", tmp_path / "s") as saved:
        save(in_layout("test", replace(saved, layout=OUTPUTS_FIRST), INPUTS_FIRST), tmp_path / "turned")
    with loaded("test", tmp_path / "turned") as saved:
        assert all(np.array_equal(x.read(), other.state["k"][slot]) for slot, x in saved.parameters["k"].slots.items())
        save(in_layout("test", saved, OUTPUTS_FIRST), tmp_path / "back")
    with loaded("test", tmp_path / "back") as saved:
        assert all(np.array_equal(x.read(), one.state["k"][slot]) for slot, x in saved.parameters["k"].slots.items())
    for g in grads[5:]:
        one.step({"k": g.copy()})
        other.step({"k": np.ascontiguousarray(g.transpose(axes))})
    np.testing.assert_allclose(turned, weight.transpose(axes), rtol=1e-12, atol=1e-14)


def test_triangles_stay_as_they_lie(tmp_path: Path) -> None:
    """A triangular factor would be none in another order."""
    weight = np.random.default_rng(0).normal(size=(4, 2, 3, 2))
    one = HostOptimizer("kron", {"k": weight}, kernel="traced", layout=OUTPUTS_FIRST)
    one.step({"k": np.ones(weight.shape)})
    state.save(one, tmp_path / "s")
    turned = np.ascontiguousarray(weight.transpose(TURNS[INPUTS_FIRST][4]))
    with pytest.raises(ValueError, match="rows and columns of axes that lie otherwise"):
        state.load(
            tmp_path / "s", HostOptimizer("kron", {"k": turned}, kernel="traced", layout=INPUTS_FIRST), layout="torch"
        )
