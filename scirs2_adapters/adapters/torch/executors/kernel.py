"""Parameters handed to a kernel: tables of addresses, valid for as long as every tensor is where it was.

An engine runs them: `HostEngine` in this process's memory, `cuda.Engine` in a device's.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Generic, Protocol

import numpy as np
import torch
from torch._C._dynamo import guards as _dynamo_guards
from torch.autograd.graph import increment_version

from scirs2_adapters.core.cpu import engine as host
from scirs2_adapters.core.cpu import noise
from scirs2_adapters.core.cpu.batch import Batch as HostBatch
from scirs2_adapters.core.cpu.batch import by_numpy
from scirs2_adapters.core.cpu.region import is_forked
from scirs2_adapters.core.ops import Array
from scirs2_adapters.core.step.protocols import Batch, Engine, KernelEntry, Model, Scalars
from scirs2_adapters.core.step.tables import AddressTables

from ..dispatch.param_entry import TensorEntry
from ..ops import OPS
from ..state.tensors import Tensor, local
from . import products
from .openmp import parallel_region


class Guards(Protocol):
    """torch's comparison of the forms of many tensors with those that it was made of."""

    def check(self, *tensors: Tensor) -> bool: ...


#: What makes it; None in a version that has it no more.
TensorGuards: Callable[..., Guards] | None = getattr(_dynamo_guards, "TensorGuards", None)

_DTYPE = operator.attrgetter("dtype")


#: torch's operations, and the host's compiled loops where it would take dozens of them.
_OPS = replace(
    OPS,
    random=lambda n, turn, like: torch.from_numpy(noise.random(n, turn)),
    normal=lambda n, keys, like: torch.from_numpy(noise.normals(n, keys)),
)
#: The same where a product may be large.
_LARGE_OPS = replace(products.OPS, random=_OPS.random, normal=_OPS.normal)


#: The process that has torch's threads, 0 for none: a forked child would wait for them without end.
_PROCESS = 0 if is_forked() else os.getpid()


def _by_torch(function: Callable[..., Array], args: Sequence[Array], options: Mapping[str, object]) -> np.ndarray:
    """A function of matrices by torch's products and decompositions, which are faster than those of numpy's BLAS."""
    if os.getpid() != _PROCESS:
        return by_numpy(function, args, options)
    # numpy makes a scalar of an array without axes
    tensors = [torch.from_numpy(np.asarray(x)) if isinstance(x, np.ndarray | np.generic) else x for x in args]
    ops = _LARGE_OPS if products.may_pay(tensors) else _OPS
    result: np.ndarray = function(ops, *tensors, **options).contiguous().numpy()  # torch is faster at turning it
    return result


class HostEngine:
    """The engine of the host's memory, with torch's matrices and torch's threads."""

    run = staticmethod(host.run)

    @staticmethod
    def plan(entries: Sequence[KernelEntry]) -> list[tuple[HostBatch, list[int]]]:
        """Sorts parameters into batches; with each batch, the places of its parameters."""
        return host.plan_batches(entries, partial(HostBatch, call=_by_torch, region=parallel_region()))


class KernelExecutor(Generic[Batch]):
    """The parameters that an engine's kernels step, sorted into its batches. Gradients may be new ones at each step."""

    def __init__(self, engine: Engine[Batch], entries: list[TensorEntry], grads: Sequence[Tensor]) -> None:
        self.entries, self.indices = entries, [entry.index for entry in entries]
        self.is_dtensor = any(entry.is_dtensor for entry in entries)
        self.all = self.indices == list(range(len(grads)))
        grads = [grads[i] for i in self.indices]
        arrays = [entry.arrays(g) for entry, g in zip(entries, grads, strict=True)]
        pairs = zip(entries, arrays, strict=True)
        self.kernel = AddressTables(engine, [(e.program, tuple(x[0].shape), e.dtypes(x)) for e, x in pairs])
        self.tables, self.places = self.kernel.tables, self.kernel.places
        for table, places in zip(self.tables, self.places, strict=True):
            table[:] = [list(map(Tensor.data_ptr, arrays[i])) for i in places]
        self.moving: list[tuple[np.ndarray, int, TensorEntry]] = []
        for table, places in zip(self.tables, self.places, strict=True):
            for row, i in enumerate(places):
                if not entries[i].walks(grads[i]):
                    self.moving.append((table, row, entries[i]))
        self._remember(arrays, self._here(grads))

    def _remember(self, arrays: list[list[Tensor]], grads: list[Tensor]) -> None:
        self.fixed = [x for entry in self.entries for x in (entry.p, *entry.memory())]
        self.addresses = list(map(Tensor.data_ptr, self._here(self.fixed)))
        self.stepped, self.stepped_forms = [entry.p for entry in self.entries], Forms([p for p, *_ in arrays])
        self.forms = Forms(grads)
        self.grad_addresses = list(map(Tensor.data_ptr, grads))
        self.empty_grads = self.grad_addresses.count(0)
        empty = sum(x.numel() == 0 for x in chain(self._here(self.fixed), grads))
        if self.addresses.count(0) + self.empty_grads != empty:
            raise RuntimeError("A parameter, its gradient or its memory has lost its storage; it cannot be stepped.")

    def _here(self, tensors: list[Tensor]) -> list[Tensor]:
        """What lies in this process; of a tensor that is spread, the part it has at this moment."""
        return list(map(local, tensors)) if self.is_dtensor else tensors

    @property
    def allocated(self) -> int:
        """Bytes of its tables and batches, and of what a step makes and drops, copies of what it cannot walk, too."""
        copies = sum(x.nbytes for _, _, entry in self.moving for x in (entry.p, *entry.memory()))
        return copies + self.kernel.allocated

    def holds(self, grads: Sequence[Tensor]) -> bool:
        """Whether every tensor is where it was; gradients may be new ones of the same form."""
        fixed, stepped = self.fixed, self.stepped
        grads = list(grads) if self.all else [grads[i] for i in self.indices]
        if self.is_dtensor:
            fixed, stepped, grads = map(self._here, (fixed, stepped, grads))
        return (
            list(map(Tensor.data_ptr, fixed)) == self.addresses
            and self.stepped_forms.are_of(stepped)
            and self._reaches(grads)
        )

    def _reaches(self, grads: list[Tensor]) -> bool:
        """Whether the gradients have the form of those before; the tables are told where they are. Their addresses and
        forms are remembered and not the gradients, which the caller frees before the next backward pass.
        """
        try:
            addresses = list(map(Tensor.data_ptr, grads))
        except RuntimeError:  # a sparse one, which needs another plan
            return False
        if addresses.count(0) != self.empty_grads or not self.forms.are_of(grads):
            return False
        if addresses != self.grad_addresses:
            self.grad_addresses = addresses
            for table, where in zip(self.tables, self.places, strict=True):
                table[:, 1] = addresses if len(where) == len(addresses) else np.array(addresses)[where]
        return True

    def assign(self, coefficient_row: Mapping[int, int]) -> None:
        """Takes the row of coefficients of each parameter."""
        self.kernel.assign([coefficient_row[id(entry)] for entry in self.entries])

    def run(self, grads: Sequence[Tensor], scalars: Sequence[Scalars], model: Model) -> Model:
        """Steps them, in place; the new numbers of the model."""
        copies = self._copies(grads) if self.moving else []
        new = self.kernel.run(scalars, model, torch.get_num_threads())
        for entry, g, arrays in copies:
            for k, (x, stepped) in enumerate(zip(entry.arrays(g), arrays, strict=True)):
                if k != 1 and x is not stepped:
                    x.copy_(stepped)
        increment_version(self.stepped)
        if self.is_dtensor:
            increment_version(list(map(local, self.stepped)))
        return new

    def _copies(self, grads: Sequence[Tensor]) -> list[tuple[TensorEntry, Tensor, list[Tensor]]]:
        """Copies of what no kernel can walk, for this step."""
        copies = []
        for table, row, entry in self.moving:
            g = grads[entry.index]
            arrays = entry.contiguous_arrays(g)
            table[row] = list(map(Tensor.data_ptr, arrays))
            copies.append((entry, g, arrays))
        return copies


class Forms:
    """What a kernel must know of tensors besides their addresses."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.forms = _forms(tensors)
        fixed = {"dynamic_dims_sizes": None, "dynamic_dims_strides": None}
        self.guards = TensorGuards(*tensors, **fixed) if TensorGuards and tensors else None

    def are_of(self, tensors: Sequence[Tensor]) -> bool:
        """Whether these have the same. torch compares all of them in one call, in a fourth of the time; whatever it
        refuses, such as any tensor under autocast, is looked at here.
        """
        if len(tensors) != len(self.forms[0]):
            return False
        return bool(self.guards and self.guards.check(*tensors)) or _forms(tensors) == self.forms


def _forms(tensors: Sequence[Tensor]) -> tuple[Sequence[object], ...]:
    layouts = list(map(Tensor.stride, tensors)), list(map(Tensor.numel, tensors)), list(map(Tensor.is_neg, tensors))
    return list(map(_DTYPE, tensors)), *layouts


def same(now: Sequence[object], before: Sequence[object]) -> bool:
    """Whether these are the very objects, as many as there were."""
    return len(now) == len(before) and all(map(operator.is_, now, before))
