"""GPT-2 XL, 1.5 billion parameters from random numbers, trained on a machine of 24 GiB without a GPU.

bfloat16 parameters take 3.1 GB, their rounding errors 1.6 GB, AdamW's two moments in 8 bits 3.2 GB. Gradients never
pile up: each is freed inside backward as soon as its parameter is stepped.

Run it with `python examples/train_gpt2_xl_in_24_gib.py`, or with `--small` for a model of a few million parameters.
"""

import argparse
import resource
import time

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from scirs2_adapters.torch import AdamW

COMMON = {"use_cache": False, "bos_token_id": 0, "eos_token_id": 0}
SIZES = {
    "xl": GPT2Config(n_embd=1600, n_layer=48, n_head=25, **COMMON),
    "small": GPT2Config(n_embd=256, n_layer=4, n_head=4, vocab_size=2048, n_positions=128, **COMMON),
}


def make(size: str) -> GPT2LMHeadModel:
    """A model of random numbers, in bfloat16 from the first one on."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = GPT2LMHeadModel(SIZES[size])
    finally:
        torch.set_default_dtype(before)
    model.activation_checkpointing_enable()
    return model.train()


def train(size: str, steps: int, tokens: int) -> list[float]:
    """The losses of some steps on one sequence, which the model learns by heart."""
    model = make(size)
    optimizer = AdamW(model.parameters(), lr=1e-4, state_dtype="int8", rounding="compensated")
    numbers = sum(p.numel() for p in model.parameters())
    print(f"{numbers / 1e6:,.0f} million parameters", flush=True)
    ids = torch.randint(model.config.vocab_size, (1, tokens), generator=torch.Generator().manual_seed(1))
    losses = []
    with optimizer.release_gradients():
        for step in range(steps):
            began = time.perf_counter()
            loss = model(input_ids=ids, labels=ids).loss
            loss.backward()
            optimizer.step()  # counts the step for schedulers; every parameter has been stepped in backward
            losses.append(loss.item())
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
            print(
                f"step {step}: loss {losses[-1]:.3f}, {time.perf_counter() - began:.1f} s, peak {peak:.2f} GiB",
                flush=True,
            )
    state = sum(x.numel() * x.element_size() for s in optimizer.state.values() for x in s.values())
    released = all(p.grad is None for p in model.parameters())
    print(f"state: {state / numbers:.2f} bytes a parameter; every gradient is released: {released}")
    return losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true", help="a model of a few million parameters")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=64, help="length of the sequence")
    options = parser.parse_args()
    train("small" if options.small else "xl", options.steps, options.tokens)
