"""Compiles kernels to a card's instructions, which needs no card, and prints which of them do not round to nearest.

A process of its own: a process that interprets Triton's functions cannot compile them.
"""

from __future__ import annotations

import re

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from scirs2_adapters.adapters.torch.executors import cuda
from scirs2_adapters.core import get
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.slots import Leaf
from scirs2_adapters.core.step.options import slot_dtype

#: Storage of the parameter, `state_dtype`.
STORAGES = (
    ("float64", "int8"),
    ("bfloat16+int8", "int8"),
    ("float16+int16", "float32"),
    ("bfloat16+stochastic", "int8"),
    ("float16+stochastic", "bfloat16"),
)


def compiled(storage: str, state_dtype: str) -> str:
    """AdamW's kernel as PTX."""
    dtype = storage.partition("+")[0]
    leaf = Leaf((5000,), dtype)
    program = record(get("adamw")(), leaf)
    dtypes = {"p": storage, "g": dtype} | {s.name: slot_dtype(s, leaf, state_dtype) for s in program.slots}
    names = ("table", "items", "coefficient_row", "coefficients")
    signature = dict.fromkeys(names, "*i64") | {"coefficients": "*fp64" if dtype == "float64" else "*fp32"}
    source = ASTSource(cuda._kernel(program, tuple(dtypes.items()), True), signature=signature)
    options = {"num_warps": cuda.WARPS, "enable_fp_fusion": False}
    text: str = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]
    return text


if __name__ == "__main__":
    for storage, state_dtype in STORAGES:
        text = compiled(storage, state_dtype)
        assert "sqrt.rn" in text
        print(storage, state_dtype, sorted(set(re.findall(r"\b(?:fma|\w+\.approx|\w+\.full|\w+\.ftz)\S*", text))))
