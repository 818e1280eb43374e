"""`torch.save`, but one tensor at a time: each is read when its turn to be written comes, and dropped after it.

`torch.save` holds all tensors until the last one is written. A file of torch's is an archive with a pickle, in which
tensors refer to their numbers by a key, and one record of numbers for each key. Python's zip module writes it; torch's
writer is internal, and turns a full disk into an error of torch's.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.portable.file import Progress, replacing

from ..state.tensors import Tensor

#: Of the archive, as torch writes it. Data begin at a multiple of so many bytes.
_VERSION, _ALIGNMENT = b"3\n", 64
#: The bytes of a record's header besides its name and its padding: the header itself, the two sizes of 8 bytes that a
#: large record needs, and the name and the length of the padding.
_HEADER = 30 + 20 + 4


class Later(NamedTuple):
    """A tensor of this dtype and shape, contiguous, that is read when it is written."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    read: Callable[[], Tensor]


class _Numbers(NamedTuple):
    """What a pickle has in the place of a tensor's numbers: the class of their storage, a key, and how many."""

    storage: type
    key: str
    length: int


class _Pickler(pickle.Pickler):
    """Pickles as `torch.save` does, and keeps the tensors, by whose places in the list their numbers are called."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=2)
        self.tensors: list[Later] = []

    def reducer_override(self, x: object) -> object:  # type: ignore[override]  # what it may return is narrower there
        if isinstance(x, Tensor):
            x = Later(x.dtype, tuple(x.shape), x.detach().cpu().contiguous)
        if not isinstance(x, Later):
            return NotImplemented
        make, (storage, offset, _, _, *others) = torch.empty(0, dtype=x.dtype).__reduce_ex__(2)
        numbers = _Numbers(getattr(torch, storage._pickle_storage_type()), str(len(self.tensors)), math.prod(x.shape))
        self.tensors.append(x)
        strides = torch.empty(x.shape, dtype=x.dtype, device="meta").stride()
        return make, (numbers, offset, x.shape, strides, *others)

    def persistent_id(self, x: object) -> object:
        return ("storage", x.storage, x.key, "cpu", x.length) if isinstance(x, _Numbers) else None


def save(tree: object, path: Path, told: Progress = lambda _: None) -> None:
    """Write a tree of dicts, lists, plain values, tensors and `Later` ones to a file that `torch.load` reads, all of it
    or nothing.
    """
    described = io.BytesIO()
    pickler = _Pickler(described)
    pickler.dump(tree)
    with replacing(path) as temporary, temporary.open("xb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in (("data.pkl", described.getvalue()), ("byteorder", sys.byteorder.encode())):
                _write(archive, name, data)
            for key, x in enumerate(pickler.tensors):
                numbers = _read(x)
                _write(archive, f"data/{key}", numbers.view(torch.uint8).numpy().data)
                told(numbers.nbytes)
                del numbers  # before the next one is read
            _write(archive, "version", _VERSION)
        file.flush()
        os.fsync(file.fileno())


def _write(archive: zipfile.ZipFile, name: str, data: bytes | memoryview) -> None:
    """Write a record whose data begin where torch's readers may map them."""
    record = zipfile.ZipInfo(f"archive/{name}")
    start = archive.fp.tell() + _HEADER + len(record.filename)  # type: ignore[union-attr]  # it is open
    padding = -start % _ALIGNMENT
    record.extra = b"FB" + padding.to_bytes(2, "little") + bytes(padding)
    with archive.open(record, "w", force_zip64=True) as file:
        file.write(data)


def _read(x: Later) -> Tensor:
    """The numbers of a tensor, in one axis."""
    numbers = x.read()
    if (numbers.dtype, numbers.shape) != (x.dtype, x.shape):
        raise bad_value("state.save", "read", f"must give {x.dtype} of shape {x.shape}", numbers)
    return numbers.contiguous().reshape(-1)
