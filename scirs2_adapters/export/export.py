"""`export`: a rule's kernel and its C interface, as files."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scirs2_adapters import __version__
from scirs2_adapters.core.cpu.compile import compiler_obstacle
from scirs2_adapters.core.errors import bad_type, bad_value
from scirs2_adapters.core.registry import get
from scirs2_adapters.core.rule import Rule

from .interface import Interface
from .kernels import kernels_of
from .objects import TARGETS, object_code
from .script import script
from .wasm import module

#: C compilers, as they are looked for on PATH.
COMPILERS = ("cc", "gcc", "clang")
#: For the very numbers of the python package: no fused additions but those of the kernels.
FLAGS = ("-std=c99", "-O2", "-ffp-contract=off", "-fPIC", "-shared")


@dataclass(frozen=True)
class Exported:
    """The files that were written. For C, `library` is a shared library, or None where no C compiler is and for other
    machines than this; for WebAssembly it is the module, and `script` the JavaScript that calls it.
    """

    header: Path
    source: Path
    objects: tuple[Path, ...]
    library: Path | None
    script: Path | None = None


def export(rule: Rule | str, folder: str | Path, dtypes: Sequence[str] = (), target: str = "native") -> Exported:
    """Writes the kernel of an optimizer as object files with a header and a source file in C, and, for this machine and
    where a C compiler is, a shared library of both; for WebAssembly a module and its interface in JavaScript. A program
    that uses them needs neither python nor numba.

    Arguments:
      rule: the name of an optimizer, or an optimizer; its hyperparameters are the header's defaults, and those that
        make another formula (amsgrad, maximize) are settled.
      folder: where the files go; it is made if it is not there.
      dtypes: how parameters, gradients and each slot are stored: float64, float32, float16 or bfloat16; all float32 by
        default.
      target: "native", this machine with all its instructions, or "x86_64", "aarch64", "wasm32".

    Raises ValueError for an optimizer that takes norms, rows, matrices, the loss or a closure, for unknown dtypes and
    targets, and, for WebAssembly, for numbers of 16 bits and for slots of one number; OSError for a folder that cannot
    be written; RuntimeError if the C compiler fails, which the message quotes.

    >>> import tempfile
    >>> from scirs2_adapters.export import export
    >>> export("lion", tempfile.mkdtemp()).header.name
    'scirs2_lion.h'
    """
    rule = get(rule)() if isinstance(rule, str) else rule
    if not isinstance(rule, Rule):
        raise bad_type("export", "rule", "must be a rule such as AdamW(), or its name", rule)
    if target not in TARGETS:
        raise bad_value("export", "target", f"must be one of {', '.join(TARGETS)}", target)
    if not isinstance(folder, (str, Path)):
        raise bad_type("export", "folder", "must be the path of a folder", folder)
    if obstacle := compiler_obstacle():
        raise bad_value("export", "rule", f"cannot be compiled here: {obstacle}", rule.name)
    kernels, machine = kernels_of(rule, dtypes), TARGETS[target]
    interface, place = Interface(kernels, __version__), Path(folder)
    name = interface.name
    written = {f"{name}.h": interface.header(), f"{name}.c": interface.source()}
    if target == "wasm32":
        written[f"{name}.mjs"] = script(kernels, name, __version__, interface.fields)
    codes = {symbol: object_code(kernels.text(k, symbol), machine) for symbol, k in interface.passes().items()}
    binary = {f"{symbol}.o": code for symbol, code in codes.items()}
    if target == "wasm32":
        binary[f"{name}.wasm"] = module(codes[f"{name}_kernel"], f"{name}_kernel")
    place.mkdir(parents=True, exist_ok=True)
    for file, data in (binary | {file: text.encode() for file, text in written.items()}).items():
        (place / file).write_bytes(data)
    header, source = place / f"{name}.h", place / f"{name}.c"
    objects = tuple(place / f"{symbol}.o" for symbol in codes)
    if target == "wasm32":
        return Exported(header, source, objects, place / f"{name}.wasm", place / f"{name}.mjs")
    return Exported(header, source, objects, _linked(source, objects) if target == "native" else None)


def _linked(source: Path, objects: Sequence[Path]) -> Path | None:
    """The shared library of these files, by the C compiler that is here; None where none is."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        return None
    library = source.with_name(f"lib{source.stem}.so")
    command = [compiler, *FLAGS, str(source), *map(str, objects), "-o", str(library), "-lm"]
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    if ran.returncode:
        said = ran.stderr.strip() or f"it ended with {ran.returncode}"
        raise RuntimeError(
            f"`{compiler}` cannot make {library.name} of the files that were written to {source.parent}: {said}"
        )
    return library
