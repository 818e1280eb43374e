"""Bytes a parameter of others' optimizers, measured on tensors of GPT-2's shapes: `python -m benchmarks.state_bytes`.

bitsandbytes is none of this project's requirements, and is measured where it is installed. The gradients and parameters
take 1 GB. What ours take is computed from shapes, by `docs/memory_facts.py`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from itertools import chain

import torch

WORDS, PLACES, WIDTH, LAYERS = 50257, 1024, 768, 12


def gpt2() -> dict[str, tuple[int, ...]]:
    """The parameters of GPT-2 with 124 million numbers by name; the head is the embedding."""
    linear = {"attn.c_attn": (WIDTH, 3 * WIDTH), "attn.c_proj": (WIDTH, WIDTH)}
    linear |= {"mlp.c_fc": (WIDTH, 4 * WIDTH), "mlp.c_proj": (4 * WIDTH, WIDTH)}
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (WORDS, WIDTH), "wpe.weight": (PLACES, WIDTH)}
    for layer in range(LAYERS):
        for name in ("ln_1", "ln_2"):
            shapes |= dict.fromkeys((f"h.{layer}.{name}.weight", f"h.{layer}.{name}.bias"), (WIDTH,))
        for name, shape in linear.items():
            shapes |= {f"h.{layer}.{name}.weight": shape, f"h.{layer}.{name}.bias": shape[1:]}
    return shapes | dict.fromkeys(("ln_f.weight", "ln_f.bias"), (WIDTH,))


def measured(make: type[torch.optim.Optimizer], dtype: torch.dtype) -> float:
    """Bytes of state a parameter, after a step; a storage that several tensors share counts once."""
    params = [torch.nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in gpt2().values()]
    optimizer = make(params)
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    held = chain.from_iterable(state.values() for state in optimizer.state.values())
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage() for x in held if isinstance(x, torch.Tensor)}
    return sum(x.nbytes() for x in storages.values()) / sum(p.numel() for p in params)


def main() -> None:
    """Print them."""
    classes = {f"torch {torch.__version__} AdamW": torch.optim.AdamW}
    if find_spec("bitsandbytes") is not None:
        classes[f"bitsandbytes {version('bitsandbytes')} AdamW8bit"] = import_module("bitsandbytes.optim").AdamW8bit
    for name, make in classes.items():
        print(name, *(f"{dtype}: {measured(make, dtype):.3f}" for dtype in (torch.float32, torch.bfloat16)))


if __name__ == "__main__":
    main()
