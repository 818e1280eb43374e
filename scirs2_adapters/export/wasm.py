"""A WebAssembly module of an object file, without a linker.

An object file of LLVM's for wasm32 is a module but for one thing: it exports nothing, and says in a custom section,
"linking", which function has which name (WebAssembly tool conventions, Linking.md). A kernel calls nothing and has no
data, so that nothing else is left to link; memory it imports.
"""

from __future__ import annotations

from collections.abc import Iterator

_HEAD = b"\0asm\1\0\0\0"
_CUSTOM, _EXPORT, _CODE = 0, 7, 10
_SYMBOL_TABLE = 8
_FUNCTION_SYMBOL, _UNDEFINED = 0, 0x10


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def byte(self) -> int:
        self.place += 1
        return self.data[self.place - 1]

    def number(self) -> int:
        """An unsigned number in seven bits a byte."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def take(self, count: int) -> bytes:
        self.place += count
        return self.data[self.place - count : self.place]

    def text(self) -> str:
        return self.take(self.number()).decode()

    def sections(self) -> Iterator[tuple[int, bytes]]:
        """The parts that follow: the kind and what is in it."""
        while self.place < len(self.data):
            kind = self.byte()
            yield kind, self.take(self.number())


def module(code: bytes, name: str) -> bytes:
    """The module of an object file, which exports its function of this name."""
    sections = list(_Reader(code.removeprefix(_HEAD)).sections())
    symbols = dict(pair for kind, body in sections if kind == _CUSTOM for pair in _functions(body))
    export = b"\1" + _text(name) + b"\0" + _number(symbols[name])
    parts = []
    for kind, body in sections:
        if kind == _CODE:
            parts.append((_EXPORT, export))
        if kind != _CUSTOM:
            parts.append((kind, body))
    # sections stand in the order of their kinds, and the export comes before what starts, elements and code
    parts.sort(key=lambda part: _ORDER.index(part[0]))
    return _HEAD + b"".join(bytes([kind]) + _number(len(body)) + body for kind, body in parts)


#: The order of sections; the count of data segments, 12, stands before the code.
_ORDER = (1, 2, 3, 4, 5, 6, _EXPORT, 8, 9, 12, _CODE, 11)


def _functions(body: bytes) -> Iterator[tuple[str, int]]:
    """The functions of a "linking" section, by name; nothing of another section."""
    reader = _Reader(body)
    if reader.text() != "linking":
        return
    reader.number()  # the version
    for kind, table in reader.sections():
        if kind != _SYMBOL_TABLE:
            continue
        symbols = _Reader(table)
        for _ in range(symbols.number()):
            symbol, flags = symbols.byte(), symbols.number()
            if symbol != _FUNCTION_SYMBOL:
                symbols.number()  # a global or a table, which is imported and has no name here
                continue
            index = symbols.number()
            if not flags & _UNDEFINED:
                yield symbols.text(), index


def _number(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _number(rest) if rest else bytes([low])


def _text(text: str) -> bytes:
    return _number(len(text.encode())) + text.encode()
