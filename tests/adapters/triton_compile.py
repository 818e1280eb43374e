"""Compiles kernels to a card's instructions, which needs no card, and prints which of them do not round to nearest, or
let what another program has stored be read too soon.

A process of its own: a process that interprets Triton's functions cannot compile them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from scirs2_adapters.adapters.torch.executors import cuda
from scirs2_adapters.adapters.torch.executors.triton_layout import Layout
from scirs2_adapters.core import get
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.slots import Extent, Leaf
from scirs2_adapters.core.step.options import slot_dtype

#: Optimizer, storage of the parameter, `state_dtype`: one launch, launches with numbers for each tensor, with sums over
#: it and over the model, and along rows and columns.
FORMS = (
    ("adamw", "float64", "int8"),
    ("adamw", "bfloat16+int8", "int8"),
    ("adamw", "float16+int16", "float32"),
    ("adamw", "bfloat16+stochastic", "int8"),
    ("adamw", "float16+stochastic", "bfloat16"),
    ("nadam", "float32", "float32"),
    ("lamb", "bfloat16", "int8"),
    ("prodigy", "float32", "int8"),
    ("adafactor", "bfloat16+int8", "float32"),
    ("came", "float32", "int8"),
)
_WIDE = ("coefficients", "numbers", "partials", "shares", "model")
_OTHERS = dict.fromkeys(("items", "line_items", "chunks", "arrived"), "*i32") | {"tensors": "i32"}


def signature(arguments: Iterable[str]) -> dict[str, str]:
    """The types of a kernel's arguments."""
    return {name: _OTHERS.get(name, "*fp64" if name.endswith(_WIDE) else "*i64") for name in arguments}


def compiled(name: str, storage: str, state_dtype: str) -> list[str]:
    """The kernels of a step as PTX, with a row of coefficients for each tensor."""
    dtype = storage.partition("+")[0]
    leaf = Leaf((64, 80), dtype)
    program = record(get(name)(), leaf)
    slots = [s for s in program.slots if s.extent is not Extent.MODEL]
    dtypes = {"p": storage, "g": dtype} | {s.name: slot_dtype(s, leaf, state_dtype) for s in slots}
    aligned = (True,) * len(Layout(program, dtypes).columns)
    texts = []
    for text, kernel in cuda._kernels(program, tuple(dtypes.items()), aligned, False):
        options = {"num_warps": cuda.WARPS, "enable_fp_fusion": False}
        source = ASTSource(kernel, signature=signature(text.arguments))
        texts.append(triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"])
    return texts


def unordered(ptx: str) -> set[str]:
    """The counts of arrivals that do not release what all threads of a program have stored before, and acquire what
    they read after: a barrier of the program stands on both sides, with no access to memory of others between.
    """
    kinds = {"bar.sync": "b", "atom.global": "a", "ld.global": "m", "st.global": "m"}
    events = [(kinds[m[1]], m[0]) for m in re.finditer(rf"({'|'.join(map(re.escape, kinds))})\S*", ptx)]
    order = "".join(kind for kind, _ in events)
    weak = {text for kind, text in events if kind == "a" and "gpu.acq_rel" not in text}
    return weak | {order for _ in range(order.count("a") != len(re.findall("(?<=b)a(?=b)", order)))}


if __name__ == "__main__":
    counts = 0
    for form in FORMS:
        texts = compiled(*form)
        assert "sqrt.rn" in "".join(texts)
        inexact = [re.findall(r"\b(?:fma|\w+\.approx|\w+\.full|\w+\.ftz)\S*", text) for text in texts]
        counts += "".join(texts).count("atom.")
        print(*form, len(texts), sorted(set().union(*inexact, *map(unordered, texts))))
    assert counts
