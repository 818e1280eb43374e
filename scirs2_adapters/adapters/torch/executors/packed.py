"""What the kernels of a step read besides the arrays, sent to a device: at most one copy a step, of what has changed.

The coefficients of a step are one array of float64; the rows and tables of addresses follow in it where they have
changed too. A copy is ordered before the kernels of the stream that it was queued on, and of no other: on another
stream all is sent again. What a captured step reads is kept, because a replay reads it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from scirs2_adapters.core.ops import Scalar

from ..state.tensors import Tensor

#: What lets a thread load 16 bytes at once.
ALIGNMENT = 16
Arguments = dict[str, Tensor]


class Lists(Protocol):
    """The lists of work of a batch, which never change."""

    @property
    def lists(self) -> dict[str, np.ndarray]: ...


@dataclass(eq=False)
class Sent:
    """What a device has, and from what it was made: for each batch its table of addresses, and which row of
    coefficients each tensor takes. `aligned` says of the columns of each table whether they begin where a thread may
    load 16 bytes; `pinned` is the memory that was copied, as long as it may be copied again.
    """

    stream: int
    tables: Sequence[np.ndarray]
    rows: Sequence[np.ndarray | None]
    aligned: Sequence[tuple[bool, ...]]
    lists: Sequence[Arguments]
    numbers: np.ndarray
    counts: list[int]
    arguments: Sequence[Arguments]
    pinned: tuple[Tensor, ...] = ()

    def stands(self, tables: Sequence[np.ndarray], rows: Sequence[np.ndarray | None]) -> bool:
        """Whether nothing has moved."""
        return all(map(np.array_equal, self.tables, tables)) and all(
            a is b for a, b in zip(self.rows, rows, strict=True)
        )


class Sender:
    """Sends what the batches of an engine need; they are the same at each step."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.sent: Sent | None = None
        self.kept: list[Sent] = []
        #: How many copies there were, and of how many bytes.
        self.copies, self.bytes = 0, 0

    def send(
        self,
        batches: Sequence[Lists],
        tables: Sequence[np.ndarray],
        rows: Sequence[np.ndarray | None],
        coefficients: Sequence[Sequence[Scalar]],
    ) -> Sent:
        """What the kernels of each batch read at this step, by the names of their arguments."""
        stream, capturing = current_stream(self.device)
        on_device = [any(isinstance(x, Tensor) for x in row) for row in coefficients]
        numbers = [[0.0] if there or not row else row for row, there in zip(coefficients, on_device, strict=True)]
        counts, sent = list(map(len, numbers)), self.sent
        flat = np.array([x for row in numbers for x in row], dtype=np.float64)
        if sent is None or not (capturing or sent.stream == stream) or not sent.stands(tables, rows):
            known = sent.lists if sent and (capturing or sent.stream == stream) else None
            sent, pinned = self._all(stream, batches, tables, rows, flat, counts, known)
        elif counts != sent.counts or not np.array_equal(flat, sent.numbers):
            sent, pinned = self._numbers(sent, flat, counts)
        else:
            pinned = []
        if capturing:  # a graph makes its copies at each replay, and before the first one nothing is there
            sent.pinned = (*sent.pinned, *pinned)
            self.kept.append(sent)
        else:
            self.sent = sent
        if any(on_device):
            pairs = zip(sent.arguments, coefficients, on_device, strict=True)
            arguments = [{**a, "coefficients": self._stacked(row)} if there else a for a, row, there in pairs]
            return replace(sent, arguments=arguments)
        return sent

    def _all(
        self,
        stream: int,
        batches: Sequence[Lists],
        tables: Sequence[np.ndarray],
        rows: Sequence[np.ndarray | None],
        numbers: np.ndarray,
        counts: list[int],
        lists: Sequence[Arguments] | None,
    ) -> tuple[Sent, list[Tensor]]:
        """Everything in one copy; the lists in others where they are not there yet."""
        pinned: list[Tensor] = []
        if lists is None:
            lists = [{k: self._copied(x, pinned) for k, x in batch.lists.items()} for batch in batches]
        words = [x.reshape(-1) for x in (*tables, *(row for row in rows if row is not None))]
        packed = self._copied(np.concatenate([numbers, *(x.view(np.float64) for x in words)]), pinned)
        parts = packed.split([*counts, *map(len, words)])
        addresses = [x.view(torch.int64) for x in parts[len(counts) :]]
        by_row = iter(addresses[len(tables) :])
        arguments = [
            {**known, "coefficients": x, "table": table} | ({} if row is None else {"rows": next(by_row)})
            for known, x, table, row in zip(lists, parts, addresses, rows, strict=False)
        ]
        aligned = [tuple((np.bitwise_or.reduce(table, axis=0) % ALIGNMENT == 0).tolist()) for table in tables]
        copies = [table.copy() for table in tables]
        return Sent(stream, copies, list(rows), aligned, lists, numbers, counts, arguments), pinned

    def _numbers(self, sent: Sent, numbers: np.ndarray, counts: list[int]) -> tuple[Sent, list[Tensor]]:
        """Other coefficients alone."""
        pinned: list[Tensor] = []
        parts = self._copied(numbers, pinned).split(counts)
        arguments = [{**a, "coefficients": x} for a, x in zip(sent.arguments, parts, strict=True)]
        kept = sent.stream, sent.tables, sent.rows, sent.aligned, sent.lists
        return Sent(*kept, numbers, counts, arguments), pinned

    def _copied(self, x: np.ndarray, pinned: list[Tensor]) -> Tensor:
        self.copies, self.bytes = self.copies + 1, self.bytes + x.nbytes
        pinned.append(torch.from_numpy(x).pin_memory())
        return pinned[-1].to(self.device, non_blocking=True)

    def _stacked(self, values: Sequence[Scalar]) -> Tensor:
        """Coefficients some of which the device computes."""
        return torch.stack([self._number(value) for value in values])

    def _number(self, value: Scalar) -> Tensor:
        if isinstance(value, Tensor):
            return value.to(device=self.device, dtype=torch.float64).reshape(())
        return torch.full((), value, dtype=torch.float64, device=self.device)


def current_stream(device: torch.device) -> tuple[int, bool]:
    """The stream of this device that kernels are queued on now, and whether a graph captures them."""
    return torch.cuda.current_stream(device).cuda_stream, torch.cuda.is_current_stream_capturing()
