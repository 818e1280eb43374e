"""The text of the kernels of one step, which Triton compiles for CUDA devices.

A step goes level by level, as on the host: a pass over all numbers of all tensors leaves parts of sums, stages between
the passes finish them and make of them what is smaller than a tensor, and the last pass stores. An elementwise rule is
one pass. The first stage after a pass is of its launch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scirs2_adapters.core.program.recorded import Program
from scirs2_adapters.core.slots import Extent

from .triton_kernel import Text
from .triton_layout import Layout
from .triton_lines import LinesText
from .triton_pass import PassText
from .triton_stage import StageKernel


def step_texts(program: Program, dtypes: Mapping[str, str], aligned: Sequence[bool], shared: bool) -> list[Text]:
    """The launches of a step, in order. `aligned` says of each column of the table whether all of its addresses are
    multiples of `ALIGNMENT`, and `shared` whether all tensors have one row of coefficients.
    """
    layout, texts = Layout(program, dtypes), list[Text]()
    for level, this in enumerate(layout.passes):
        apart = [stage for stage in layout.of_level(level) if not stage.attached]
        texts += [StageKernel(layout, shared).text(stage) for stage in apart]
        form = LinesText if layout.along_lines(level) else PassText
        following = next((stage for stage in layout.of_level(level + 1) if stage.attached), None)
        texts.append(form(layout, shared, this, aligned, following).text())
    return texts


def launches(program: Program) -> int:
    """How many launches step all parameters of one tuple of dtypes, if `formula_obstacle` has nothing against it."""
    names = [s.name for s in program.slots if s.extent is not Extent.MODEL]
    dtypes = dict.fromkeys(("p", "g", *names), "float32")
    return len(step_texts(program, dtypes, [True] * len(dtypes), True))
