"""Makes the state dicts beside this file, which `test_torch_foreign_dicts.py` loads: real ones, of three steps of each
optimizer, with the float32 numbers that the library itself reads from its codes.

    python -m venv other && other/bin/pip install bitsandbytes==0.50.2 torchao==0.18.0 torch==2.13.0 numpy==2.4.6
    other/bin/python tests/adapters/foreign_dicts/make.py

The two libraries weigh 130 MB, and torchao compiles its step, so the tests read the files instead.
"""

from pathlib import Path
from typing import Any

import bitsandbytes
import torch
import torchao.optim
from bitsandbytes.functional import dequantize_blockwise

SHAPES = {"bitsandbytes": ((64, 65), (7,)), "torchao": ((64, 68), (7,))}  # torchao codes whole blocks alone
SLOTS = ("exp_avg", "exp_avg_sq")


def stepped(make: Any, shapes: tuple[tuple[int, ...], ...]) -> Any:
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    optimizer = make(params)
    for _ in range(3):
        for p in params:
            p.grad = torch.randn_like(p) * torch.logspace(-3, 0, p.shape[-1])
        optimizer.step()
    return optimizer.state_dict()


def numbers_of_bitsandbytes(held: dict[str, Any]) -> dict[str, torch.Tensor]:
    slots = {}
    for i, slot in enumerate(SLOTS, 1):
        if f"state{i}" in held and f"qmap{i}" not in held:
            slots[slot] = held[f"state{i}"]
        elif f"state{i}" in held:
            codes, absmax, code = (held[f"{part}{i}"] for part in ("state", "absmax", "qmap"))
            slots[slot] = dequantize_blockwise(codes, absmax=absmax, code=code, blocksize=256)
    return slots


def numbers_of_torchao(x: torch.Tensor) -> torch.Tensor:
    return x if type(x) is torch.Tensor else x.dequantize()


def save(name: str, library: Any, state_dict: dict[str, Any], numbers: list[dict[str, torch.Tensor]]) -> None:
    made_by = f"{library.__name__} {library.__version__}, torch {torch.__version__}"
    torch.save({"made_by": made_by, "state_dict": state_dict, "numbers": numbers}, Path(__file__).parent / name)


def main() -> None:
    for name in ("AdamW8bit", "Lion8bit"):
        saved = stepped(getattr(bitsandbytes.optim, name), SHAPES["bitsandbytes"])
        states = [x["__bnb_optimizer_quant_state__"] for x in saved["state"].values()]
        save(f"bitsandbytes-{name}.pt", bitsandbytes, saved, [numbers_of_bitsandbytes(x) for x in states])
    for name in ("AdamW8bit", "AdamW4bit", "AdamWFp8"):
        saved = stepped(getattr(torchao.optim, name), SHAPES["torchao"])
        read = [{k: numbers_of_torchao(x[k]) for k in SLOTS} for x in saved["state"].values()]
        save(f"torchao-{name}.pt", torchao, saved, read)


if __name__ == "__main__":
    main()
