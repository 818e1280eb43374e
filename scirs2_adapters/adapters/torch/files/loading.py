"""Files of `torch.save`, read without running anything: tensors and plain Python alone (`weights_only`), and mapped, so
that numbers are read one tensor at a time.

Objects of a few classes of DeepSpeed and torchao are read, too, whether their library is there or not: in the place of
the class stands one that does nothing but keep the attributes that the file has.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from scirs2_adapters.core.portable.file import refused

from ..state.foreign import TORCHAO

UNREADABLE = "this one holds more than tensors and plain values, which torch reads without running code, or is damaged"


class Inert:
    """Replaces an object that is not used, such as a loss scaler."""

    def __init__(self, *args: object) -> None:
        pass


class InertTensor(torch.Tensor):
    """Replaces a tensor of codes, of which only the attributes are used."""

    @classmethod
    def __torch_dispatch__(cls, func: object, types: object, args: object = (), kwargs: object = None) -> object:  # type: ignore[override]
        raise TypeError(f"A tensor of codes must be asked for nothing but attributes. Received: {func}.")


#: What DeepSpeed leaves in its files besides tensors and plain values.
_OF_DEEPSPEED = (
    "deepspeed.runtime.fp16.loss_scaler.LossScaler",
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "deepspeed.runtime.zero.config.ZeroStageEnum",
    "deepspeed.checkpoint.universal_checkpoint.SubparamShape",
)
_OF_TORCHAO = {"OptimState8bit": "subclass_8bit", "OptimState4bit": "subclass_4bit", "OptimStateFp8": "subclass_fp8"}
_STAND_INS: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
    *((Inert, name) for name in _OF_DEEPSPEED),
    *((type(name, (InertTensor,), {}), f"torchao.optim.{_OF_TORCHAO[name]}.{name}") for name in TORCHAO),
]


def loaded(call: str, path: Path, shown: Path | None = None) -> object:
    """What is in a file; an error names the file, or `shown`."""
    try:
        with torch.serialization.safe_globals(_STAND_INS):
            return torch.load(path, weights_only=True, map_location="cpu", mmap=zipfile.is_zipfile(path))
    except OSError:
        raise
    except Exception:  # what is wrong with a file decides of which kind it is
        raise refused(call, str(shown or path), UNREADABLE) from None
