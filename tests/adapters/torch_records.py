"""torch's own records of its optimizers, by which torch's test suite is driven: options, errors, flags.

They come with torch, in a module of its tests that is not public. What it changes for the whole process when it is
imported (it forbids to set backend flags) is taken back.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from .torch_support import EVERY


def _records() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the many modules that it imports
        from torch.testing._internal.common_optimizers import optim_db
    torch.backends.__allow_nonbracketed_mutation_flag = True
    return [info for info in optim_db if info.name in EVERY]


#: The records of optimizers that we have under the same name.
RECORDS = _records()


@dataclass(frozen=True)
class Walk:
    """Options under which torch tests an optimizer."""

    info: Any
    options: dict[str, Any]
    what: str

    def __str__(self) -> str:
        return f"{self.info.name}-{self.what}".replace(" ", "_")

    def arguments(self, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
        """The options, for one optimizer: a tensor among them is its own, in the dtype that torch computes it in."""
        options = copy.deepcopy(self.options)
        return {k: v.to(dtype) if isinstance(v, torch.Tensor) else v for k, v in options.items()}


def walks() -> list[Walk]:
    """Every row of options that torch's tests have for this device."""
    return [Walk(info, i.kwargs, i.desc) for info in RECORDS for i in info.optim_inputs_func(device="cpu")]


@dataclass(frozen=True)
class Refusal:
    """What torch refuses, when, and in which words."""

    info: Any
    record: Any

    @property
    def what(self) -> str:
        return self.record.optimizer_error_input.desc

    def __str__(self) -> str:
        return f"{self.info.name}-{self.what}".replace(" ", "_")

    @property
    def raises(self) -> type[BaseException]:
        return self.record.error_type

    @property
    def sentence(self) -> str:
        """A regular expression."""
        return self.record.error_regex

    def trial(self, cls: type[torch.optim.Optimizer]) -> Callable[[], Any]:
        """Makes the optimizer, and steps it where the error is one of the step."""
        error_input = self.record.optimizer_error_input
        params = [torch.nn.Parameter(torch.ones(1, 1))] if error_input.params is None else error_input.params

        def attempt() -> None:
            optimizer = cls(params, **error_input.kwargs)
            if self.record.error_on.name == "STEP_ERROR":
                optimizer.step()

        return attempt


def refusals() -> list[Refusal]:
    """Every error that torch's tests ask for."""
    pairs = [(i, e) for i in RECORDS for e in i.optim_error_inputs_func(device="cpu", dtype=torch.float32)]
    return [Refusal(info, error) for info, error in pairs]


@dataclass(frozen=True)
class Allowed:
    """What torch refuses and we do, with the reason. `name` is a regular expression."""

    name: str
    what: str
    reason: str

    def covers(self, refusal: Refusal) -> bool:
        return bool(re.fullmatch(self.name, refusal.info.name)) and self.what in refusal.what


#: Strict: each line must cover a refusal, and what it covers must succeed here.
ALLOWED = (
    Allowed("Muon", "only support 2D parameters", "what is no matrix is routed to AdamW, as the docstring says"),
    Allowed("Adam|AdamW", "either both floats or both Tensors", "each beta is read as the number it is"),
)


def allowed(refusal: Refusal) -> Allowed | None:
    return next((a for a in ALLOWED if a.covers(refusal)), None)


def flags() -> Iterator[tuple[Any, str]]:
    """(record, flag) for the implementations that torch has of each optimizer on this device."""
    for info in RECORDS:
        for flag in info.supported_impls:
            if flag != "fused" or "cpu" in info.supports_fused_on:
                yield info, flag
