"""Files in the safetensors format, written and read one array at a time, with a checksum over all of it.

A file is 8 bytes with the length of a header, the header as JSON, and the numbers of all arrays one after another. The
library of that name writes from memory that holds every array, and numpy alone does not know its bfloat16; so the
format, which is small, is written here. The checksum is SHA-256 of the whole file with zeros in place of the checksum.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from ..errors import ArgumentValueError, bad_value

#: Our names of dtypes, the format's, and the numpy dtype that carries the numbers.
DTYPES = {
    "float64": ("F64", "<f8"), "float32": ("F32", "<f4"), "float16": ("F16", "<f2"), "bfloat16": ("BF16", "<u2"),
    "int64": ("I64", "<i8"), "int32": ("I32", "<i4"), "int16": ("I16", "<i2"), "int8": ("I8", "|i1"),
    "uint8": ("U8", "|u1"),
}  # fmt: skip
_NAMES = {theirs: ours for ours, (theirs, _) in DTYPES.items()}
#: The keys of what a file says of itself, and what stands for the checksum until it is known.
METADATA, TEXT, CHECKSUM = "__metadata__", "scirs2", "checksum"
_UNKNOWN = "0" * 64
_MARK = f'"{CHECKSUM}":"'.encode()
#: The longest header that the format allows, and how much is read at once.
_LONGEST, _PIECE = 100_000_000, 1 << 20

#: Is told of the bytes that have been worked off since the last time.
Progress = Callable[[int], object]


@dataclass(frozen=True)
class Array:
    """One array, whose numbers are read when they are asked for: as their carrier, uint16 for bfloat16."""

    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray] = field(repr=False)

    @property
    def nbytes(self) -> int:
        """The bytes of its numbers."""
        return math.prod(self.shape) * np.dtype(DTYPES[self.dtype][1]).itemsize


def held(x: np.ndarray, dtype: str) -> Array:
    """An array that is in memory already; a slot of fewer than all axes may be a number of numpy's."""
    return Array(dtype, tuple(np.shape(x)), lambda: np.asarray(x))


def refused(call: str, path: object, why: str, way_out: str = "") -> ArgumentValueError:
    """The error for a file that cannot be taken, to be raised before anything is changed."""
    return bad_value(call, "path", f"must hold the state of an optimizer; {why}", path, way_out)


@contextlib.contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """A path beside the file, to write to. At the end it replaces the file, unless an error was raised."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        _settle(path.parent)


def write(
    path: Path, text: str, arrays: Mapping[str, Array], told: Progress = lambda _: None, *, durable: bool = True
) -> None:
    """Write a whole file or none."""
    for name, x in arrays.items():
        if x.dtype not in DTYPES:
            worded = "must be an array of one of the dtypes " + ", ".join(DTYPES)
            raise bad_value("state.save", name, worded, x.dtype)
    order = sorted(arrays, key=lambda name: (-np.dtype(DTYPES[arrays[name].dtype][1]).itemsize, name))
    header, digest = _header(text, {name: arrays[name] for name in order}), hashlib.sha256()
    with replacing(path, durable) as temporary, temporary.open("xb") as file:
        for piece in (len(header).to_bytes(8, "little"), header):
            file.write(piece)
            digest.update(piece)
        for name in order:
            numbers = _bytes(name, arrays[name])
            file.write(numbers)
            digest.update(numbers)
            told(arrays[name].nbytes)
            del numbers  # before the next one is read
        file.seek(8 + header.index(_MARK) + len(_MARK))
        file.write(digest.hexdigest().encode())
        file.flush()
        if durable:
            os.fsync(file.fileno())


def _settle(folder: Path) -> None:
    """Put the new name itself on the disk, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _header(text: str, arrays: Mapping[str, Array]) -> bytes:
    entries: dict[str, object] = {METADATA: {CHECKSUM: _UNKNOWN, TEXT: text}}
    start = 0
    for name, x in arrays.items():
        stop = start + x.nbytes
        entries[name] = {"dtype": DTYPES[x.dtype][0], "shape": list(x.shape), "data_offsets": [start, stop]}
        start = stop
    header = json.dumps(entries, separators=(",", ":")).encode()
    return header + b" " * (-len(header) % 8)


def _bytes(name: str, x: Array) -> memoryview:
    numbers = np.ascontiguousarray(x.read(), dtype=DTYPES[x.dtype][1])
    if numbers.nbytes != x.nbytes:
        raise bad_value("state.save", name, f"must have the shape {x.shape}", numbers)
    return numbers.reshape(-1).view(np.uint8).data


class File:
    """A file whose header has been read and checked; `text` is what it says of itself, and `arrays` are read later."""

    text: str
    arrays: dict[str, Array]

    def __init__(self, call: str, path: Path, file: BinaryIO) -> None:
        self._call, self._path, self._file = call, path, file
        self._size = os.fstat(file.fileno()).st_size
        self._read_header()

    def _refused(self, why: str, way_out: str = "") -> ArgumentValueError:
        return refused(self._call, str(self._path), why, way_out)

    def _read_header(self) -> None:
        start = self._file.read(8)
        self._length = int.from_bytes(start, "little")
        if len(start) < 8 or self._length > min(_LONGEST, self._size - 8):
            if start[:1] == b"\x80" or start[:4] == b"PK\x03\x04":
                way_out = "`scirs2 state convert` reads torch's files without running what is in them."
                raise self._refused(
                    "this one is a pickle or an archive, which may run code and is never loaded", way_out
                )
            raise self._refused("this one is of another format, or was cut short")
        self._header = self._file.read(self._length)
        try:
            self._take(json.loads(self._header, object_pairs_hook=once))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            if isinstance(error, ArgumentValueError):
                raise
            raise self._refused(f"its header cannot be read ({type(error).__name__}: {error})") from None

    def _take(self, entries: dict[str, dict[str, object]]) -> None:
        metadata = entries.pop(METADATA, {})
        if not isinstance(metadata.get(TEXT), str) or self._header.count(_MARK) != 1:
            raise self._refused("this one holds arrays of something else, such as a model's weights")
        self.text, self.arrays, end = str(metadata[TEXT]), {}, 0
        places = {name: _place(**entry) for name, entry in entries.items()}  # type: ignore[arg-type]  # it looks
        for name, place in sorted(places.items(), key=lambda item: item[1].data_offsets):
            array = Array(place.dtype, place.shape, functools.partial(self._numbers, place))
            if place.data_offsets != (end, end + array.nbytes):
                raise ValueError(f"{name} is not where it should be")
            self.arrays[name], end = array, end + array.nbytes
        if end != self._size - 8 - self._length:
            raise self._refused("this one was cut short, or has more in it than it says")

    def _numbers(self, place: _Place) -> np.ndarray:
        numbers = np.empty(math.prod(place.shape), DTYPES[place.dtype][1])
        self._file.seek(8 + self._length + place.data_offsets[0])
        view = memoryview(numbers.view(np.uint8).data)
        while len(view):
            count = self._file.readinto(view)  # type: ignore[attr-defined]
            if not count:
                raise self._refused("this one has become shorter while it was read")
            view = view[count:]
        return numbers.reshape(place.shape)

    def check(self, told: Progress = lambda _: None) -> None:
        """Refuse a file if a single bit is not as it was written."""
        at = self._header.index(_MARK) + len(_MARK)
        digest = hashlib.sha256(self._length.to_bytes(8, "little"))
        digest.update(self._header[:at] + _UNKNOWN.encode() + self._header[at + len(_UNKNOWN) :])
        self._file.seek(8 + self._length)
        while piece := self._file.read(_PIECE):
            digest.update(piece)
            told(len(piece))
        if digest.hexdigest().encode() != self._header[at : at + len(_UNKNOWN)]:
            raise self._refused("this one was altered or damaged after it was written: its checksum is another one")


@contextlib.contextmanager
def opened(call: str, path: Path, told: Progress = lambda _: None) -> Iterator[File]:
    """A file that was checked as a whole; its arrays can be read inside the block."""
    if path.is_dir():
        raise refused(call, str(path), "this one is a folder")
    with path.open("rb") as handle:
        file = File(call, path, handle)
        file.check(told)
        yield file


def once(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON, in which no name stands twice."""
    pairs = list(pairs)
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands there twice")
    return members


class _Place(NamedTuple):
    """Where an array lies in a file, behind its header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def _place(dtype: str, shape: list[object], data_offsets: list[object]) -> _Place:
    start, stop = map(_count, data_offsets)
    return _Place(_NAMES[dtype], tuple(map(_count, shape)), (start, stop))


def _count(n: object) -> int:
    if type(n) is not int or n < 0:
        raise ValueError(f"{n!r} is no count")
    return n
