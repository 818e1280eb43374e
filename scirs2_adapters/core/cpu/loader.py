"""Object code into memory without LLVM: ELF files of x86-64, as LLVM writes them on Linux.

LLVM's library loads object files of every form, and takes 44 MiB of memory and 17 ms to begin with. The code of a
kernel refers to nothing but itself and functions of the process, in few kinds of relocations; those are done here. A
file that asks for anything else is left to LLVM.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import struct
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

#: A 64-bit little-endian file that is not yet linked, for x86-64.
_IDENTITY, _RELOCATABLE, _X86_64 = b"\x7fELF\x02\x01\x01", 1, 62
_HEADER, _SECTION = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQIIQQ")
_SYMBOL, _RELOCATION = struct.Struct("<IBBHQQ"), struct.Struct("<QQq")
_PROGBITS, _SYMTAB, _RELA, _NOBITS = 1, 2, 4, 8
_WRITABLE, _ALLOCATED, _EXECUTABLE = 1, 2, 4
_UNDEFINED = 0
#: Sections that are code, constants, and variables: what may be done with their memory.
_PROTECTIONS = {
    _EXECUTABLE: mmap.PROT_READ | mmap.PROT_EXEC,
    0: mmap.PROT_READ,
    _WRITABLE: mmap.PROT_READ | mmap.PROT_WRITE,
}
#: How each kind of relocation is stored, and whether it is relative to its place.
_KINDS = {1: (struct.Struct("<Q"), False), 24: (struct.Struct("<q"), True)}
#: Lines of /proc/cpuinfo that say which instructions there are.
_PROCESSOR = ("vendor_id", "cpu family", "model", "flags")
#: Where functions of other names are looked for, after the process itself.
libraries: list[ctypes.CDLL] = []


class _Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry: int

    def protection(self) -> int | None:
        """What may be done with its memory when the code runs; None where it is not loaded, as what unwinders read."""
        if not self.flags & _ALLOCATED or self.kind not in (_PROGBITS, _NOBITS):
            return None
        return _PROTECTIONS.get(self.flags & (_WRITABLE | _EXECUTABLE))


class _Unknown(Exception):
    """The file asks for something that is not done here."""


@functools.cache
def processor() -> str | None:
    """The instructions of this processor, where this loader knows its code; else None."""
    if not sys.platform.startswith("linux") or os.uname().machine != "x86_64" or sys.maxsize < 1 << 32:
        return None
    lines = []
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            for line in iter(file.readline, "\n"):  # to the end of the first processor's lines
                if not line:
                    break
                if line.partition(":")[0].strip() in _PROCESSOR:
                    lines.append(line.strip())
    except OSError:
        return None
    return "|".join(lines) if len(lines) == len(_PROCESSOR) else None


def address(code: bytes, symbol: str) -> int | None:
    """The address of a function of an object file, whose code stays in memory; None where LLVM has to load it."""
    try:
        sections = _sections(code)
        offsets, ends = _layout(sections)
        size = max(ends.values())
        base = _mapped(size)
    except (_Unknown, OSError, struct.error):
        return None
    try:
        image = bytearray(size)
        for index, offset in offsets.items():
            if (section := sections[index]).kind == _PROGBITS:
                image[offset : offset + section.size] = code[section.offset : section.offset + section.size]
        symbols = _symbols(code, sections, {index: base + offset for index, offset in offsets.items()})
        for section in sections:
            if section.kind == _RELA and section.info in offsets:
                _relocate(image, base, offsets[section.info], _entries(_RELOCATION, code, section), symbols)
        ctypes.memmove(base, bytes(image), size)
        start = 0
        for protection, end in ends.items():
            _protect(base + start, end - start, protection)
            start = end
        return next(place for name, place in symbols if name == symbol and place)
    except (_Unknown, OSError, StopIteration, struct.error):
        _process().munmap(base, size)
        return None


def _sections(code: bytes) -> list[_Section]:
    identity, kind, machine, *rest = _HEADER.unpack_from(code)
    start, entry, count = rest[3], rest[8], rest[9]
    if not identity.startswith(_IDENTITY) or (kind, machine) != (_RELOCATABLE, _X86_64) or entry != _SECTION.size:
        raise _Unknown
    sections = [_Section(*_SECTION.unpack_from(code, start + i * entry)) for i in range(count)]
    if any(s.flags & _ALLOCATED and s.flags & _WRITABLE and s.flags & _EXECUTABLE for s in sections):
        raise _Unknown
    if any(s.kind != _NOBITS and s.offset + s.size > len(code) for s in sections):
        raise _Unknown
    return sections


def _entries(form: struct.Struct, code: bytes, section: _Section) -> Iterator[tuple[int, ...]]:
    return form.iter_unpack(code[section.offset : section.offset + section.size])


def _layout(sections: list[_Section]) -> tuple[dict[int, int], dict[int, int]]:
    """Offsets of the sections in the image, by number; where the pages of each protection end, in their order."""
    offsets: dict[int, int] = {}
    ends, end = {}, 0
    for protection in _PROTECTIONS.values():
        for index, section in enumerate(sections):
            if section.protection() == protection:
                offsets[index] = _up(end, section.alignment)
                end = offsets[index] + section.size
        ends[protection] = end = _up(end, mmap.PAGESIZE)
    return offsets, ends


def _up(offset: int, alignment: int) -> int:
    return -(-offset // max(alignment, 1)) * max(alignment, 1)


def _symbols(code: bytes, sections: list[_Section], starts: dict[int, int]) -> list[tuple[str, int]]:
    """Name and address of each symbol, the latter 0 where nothing loaded is meant."""
    table = next((s for s in sections if s.kind == _SYMTAB), None)
    if table is None:
        raise _Unknown
    names = code[sections[table.link].offset :]
    symbols = []
    for start, _, _, index, value, _ in _entries(_SYMBOL, code, table):
        name = names[start : names.index(0, start)].decode()
        if index == _UNDEFINED:
            place = _function(name) if name else 0
        else:
            place = starts[index] + value if index in starts else 0
        symbols.append((name, place))
    return symbols


def _function(name: str) -> int:
    """The address of a function of the process or of a library."""
    for library in (_process(), *libraries):
        if hasattr(library, name):
            return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
    raise _Unknown


def _relocate(
    image: bytearray, base: int, start: int, entries: Iterable[tuple[int, ...]], symbols: list[tuple[str, int]]
) -> None:
    """Writes addresses into the section that starts here."""
    for offset, info, addend in entries:
        number, kind = divmod(info, 1 << 32)
        place = symbols[number][1]
        if kind not in _KINDS or not place:
            raise _Unknown
        form, relative = _KINDS[kind]
        form.pack_into(image, start + offset, place + addend - (base + start + offset if relative else 0))


@functools.cache
def _process() -> ctypes.CDLL:
    """The functions of the process, and how those that handle memory are called."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return library


def _mapped(size: int) -> int:
    """New memory, never given back: a framework's threads may run in it when the process ends."""
    protection, kind = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    base: int | None = _process().mmap(None, size, protection, kind, -1, 0)
    if base is None or base == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")
    return base


def _protect(base: int, size: int, protection: int) -> None:
    if size and _process().mprotect(base, size, protection):
        raise OSError(ctypes.get_errno(), "mprotect")
