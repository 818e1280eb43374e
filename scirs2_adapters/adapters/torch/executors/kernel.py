"""Parameters handed to a kernel: tables of addresses, valid for as long as every tensor is where it was.

An engine runs them: `core.cpu.engine` in this process's memory, `cuda.Engine` in a device's.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch.autograd.graph import increment_version

from ..dispatch.param_entry import ParamEntry, name_of
from ..state import local

Tensor = torch.Tensor
_DTYPE = operator.attrgetter("dtype")


class KernelExecutor:
    """The members that an engine's kernels step, sorted into its batches. Gradients may be new ones at each step."""

    def __init__(self, engine: Any, members: list[ParamEntry], found: Sequence[Any]) -> None:
        self.engine = engine
        self.members, self.position = members, [m.at for m in members]
        self.is_dtensor = any(m.is_dtensor for m in members)
        self.all = self.position == list(range(len(found)))
        grads = [found[i] for i in self.position]
        arrays = [m.arrays(g) for m, g in zip(members, grads, strict=True)]
        planned = engine.plan(
            [
                (m.program, tuple(each[0].shape), dict(zip(m.names, map(name_of, each), strict=True)))
                for m, each in zip(members, arrays, strict=True)
            ]
        )
        self.batches, self.places = [b for b, _ in planned], [np.array(i) for _, i in planned]
        self.tables = [
            np.array([list(map(Tensor.data_ptr, arrays[i])) for i in where], dtype=np.int64) for where in self.places
        ]
        self.moving = [
            (table, row, members[i])
            for table, where in zip(self.tables, self.places, strict=True)
            for row, i in enumerate(where)
            if not members[i].walks(grads[i])
        ]
        self._remember(arrays, self._here(grads))

    def _remember(self, arrays: list[list[Tensor]], grads: list[Any]) -> None:
        self.fixed = [x for m in self.members for x in (m.p, *m.memory())]
        self.addresses = list(map(Tensor.data_ptr, self._here(self.fixed)))
        self.stepped, self.strides = [m.p for m in self.members], [p.stride() for p, *_ in arrays]
        self.grads, self.forms = grads, forms(grads)
        self.grad_addresses = list(map(Tensor.data_ptr, grads))
        self.empty_grads = self.grad_addresses.count(0)
        empty = sum(x.numel() == 0 for x in chain(self._here(self.fixed), grads))
        if self.addresses.count(0) + self.empty_grads != empty:
            raise RuntimeError("A parameter, its gradient or its memory has lost its storage; it cannot be stepped.")

    def _here(self, tensors: list[Any]) -> list[Any]:
        """What lies in this process; of a tensor that is spread, the part it has at this moment."""
        return list(map(local, tensors)) if self.is_dtensor else tensors

    def holds(self, found: list[Any]) -> bool:
        """Whether every tensor is where it was; gradients may be new ones of the same form."""
        fixed, stepped, grads = self.fixed, self.stepped, found if self.all else [found[i] for i in self.position]
        if self.is_dtensor:
            fixed, stepped, grads = map(self._here, (fixed, stepped, grads))
        return (
            list(map(Tensor.data_ptr, fixed)) == self.addresses
            and list(map(Tensor.stride, stepped)) == self.strides
            and self._reaches(grads)
        )

    def _reaches(self, grads: list[Any]) -> bool:
        """Whether the gradients are as before, or new ones that the tables can be told of."""
        try:
            addresses = list(map(Tensor.data_ptr, grads))
        except RuntimeError:  # a sparse one, which needs another plan
            return False
        if addresses == self.grad_addresses and same(grads, self.grads):
            return True
        if forms(grads) != self.forms or addresses.count(0) != self.empty_grads or any(map(Tensor.is_neg, grads)):
            return False
        self.grads, self.grad_addresses = grads, addresses
        for table, where in zip(self.tables, self.places, strict=True):
            table[:, 1] = addresses if len(where) == len(addresses) else np.array(addresses)[where]
        return True

    def assign(self, coefficient_row: Mapping[int, int]) -> None:
        """Takes notice of which row of scalars each member uses."""
        self.uses: list[tuple[list[int], np.ndarray | None]] = []
        for where in self.places:
            each = [coefficient_row[id(self.members[i])] for i in where]
            order = list(dict.fromkeys(each))
            index = None if len(order) == 1 else np.array([order.index(k) for k in each], dtype=np.int64)
            self.uses.append((order, index))
        self.rows = [index for _, index in self.uses]

    def run(self, found: list[Any], scalars: list[dict[str, Any]], model: dict[str, float]) -> dict[str, float]:
        """Steps them, in place; the new numbers of the model."""
        lent = self._lend(found) if self.moving else []
        given = [[scalars[k] for k in order] for order, _ in self.uses]
        threads = torch.get_num_threads()
        new: dict[str, float] = self.engine.run(self.batches, self.tables, given, self.rows, model, threads)
        for m, g, arrays in lent:
            for k, (own, x) in enumerate(zip(m.arrays(g), arrays, strict=True)):
                if k != 1 and own is not x:
                    own.copy_(x)
        increment_version(self.stepped)
        if self.is_dtensor:
            increment_version(list(map(local, self.stepped)))
        return new

    def _lend(self, found: list[Any]) -> list[tuple[ParamEntry, Any, list[Tensor]]]:
        """Copies of what no kernel can walk, for this step."""
        lent = [(m, found[m.at], m.contiguous_arrays(found[m.at])) for _, _, m in self.moving]
        for (table, row, _), (_, _, arrays) in zip(self.moving, lent, strict=True):
            table[row] = list(map(Tensor.data_ptr, arrays))
        return lent


def forms(tensors: Sequence[Tensor]) -> tuple[list[Any], ...]:
    """What an address does not tell."""
    return list(map(_DTYPE, tensors)), list(map(Tensor.stride, tensors)), list(map(Tensor.numel, tensors))


def same(found: Sequence[Any], known: Sequence[Any]) -> bool:
    """Whether these are the very objects, as many as there were."""
    return len(found) == len(known) and all(map(operator.is_, found, known))
