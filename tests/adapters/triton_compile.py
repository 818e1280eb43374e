"""Compiles kernels to a card's instructions, which needs no card, and prints which of them do not round to nearest.

A process of its own: a process that interprets Triton's functions cannot compile them.
"""

from __future__ import annotations

import re

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from scirs2_adapters.adapters.torch.executors import cuda
from scirs2_adapters.adapters.torch.executors.triton_text import Layout
from scirs2_adapters.core import get
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.slots import Leaf
from scirs2_adapters.core.step.options import slot_dtype

#: Optimizer, storage of the parameter, `state_dtype`: one launch, launches with numbers for each tensor, and with sums.
FORMS = (
    ("adamw", "float64", "int8"),
    ("adamw", "bfloat16+int8", "int8"),
    ("adamw", "float16+int16", "float32"),
    ("adamw", "bfloat16+stochastic", "int8"),
    ("adamw", "float16+stochastic", "bfloat16"),
    ("nadam", "float32", "float32"),
    ("lamb", "bfloat16", "int8"),
)
_OTHERS = {"coefficients": "*fp64", "numbers": "*fp64", "partials": "*fp64", "items": "*i32"}


def compiled(name: str, storage: str, state_dtype: str) -> list[str]:
    """The kernels of a step as PTX, with a row of coefficients for each tensor."""
    dtype = storage.partition("+")[0]
    leaf = Leaf((5000,), dtype)
    program = record(get(name)(), leaf)
    dtypes = {"p": storage, "g": dtype} | {s.name: slot_dtype(s, leaf, state_dtype) for s in program.slots}
    aligned = (True,) * len(Layout(program, dtypes).columns)
    texts = []
    for text, kernel in cuda._kernels(program, tuple(dtypes.items()), aligned, False):
        signature = {argument: _OTHERS.get(argument, "*i64") for argument in text.arguments}
        options = {"num_warps": cuda.WARPS, "enable_fp_fusion": False}
        source = ASTSource(kernel, signature=signature)
        texts.append(triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"])
    return texts


if __name__ == "__main__":
    for form in FORMS:
        texts = compiled(*form)
        assert "sqrt.rn" in "".join(texts)
        inexact = [re.findall(r"\b(?:fma|\w+\.approx|\w+\.full|\w+\.ftz)\S*", text) for text in texts]
        print(*form, len(texts), sorted(set().union(*inexact)))
