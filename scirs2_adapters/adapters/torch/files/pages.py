"""Memory of files that are mapped, given back to the system after each tensor.

Pages that were read from a mapped file count as the process's until the system needs them: a whole file has been read,
and a process seems to hold all of it. Linux takes them back when it is asked to. The numbers stay readable, and are
read from the file once more then; so it does no harm if a tensor is not of a file at all.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch

from ..state.tensors import Tensor

#: `MADV_PAGEOUT` of Linux 5.4, which Python 3.11's `mmap` does not name. Unlike `MADV_DONTNEED` it loses nothing.
_PAGE_OUT = 21


class Pages:
    """Reads arrays one by one, and gives back the pages of the one before."""

    def __init__(self) -> None:
        self._last: object = None

    def reading(self, read: Callable[[], np.ndarray], memory: object) -> np.ndarray:
        """What `read` gives, of the tensors that are anywhere in `memory`."""
        for x in tensors_in(self._last):
            given_back(x)
        self._last = memory
        return read()


def tensors_in(x: object) -> Iterator[Tensor]:
    """The tensors in dicts, and those that a tensor of codes has as attributes."""
    inside = x if isinstance(x, Mapping) else vars(x) if isinstance(x, Tensor) else {}
    for y in inside.values():
        yield from tensors_in(y)
    if type(x) is Tensor:
        yield x


def given_back(x: Tensor) -> None:
    """Ask the system to take back the pages under a tensor."""
    if sys.platform != "linux" or x.layout is not torch.strided or x.device.type != "cpu":
        return
    storage = x.untyped_storage()
    start = storage.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
    length = storage.data_ptr() + storage.nbytes() - start
    ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _PAGE_OUT)
