"""`export`: a rule's kernel and its C interface, as files."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scirs2_adapters import __version__
from scirs2_adapters.core.cpu.compile import compiler_obstacle
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.registry import get
from scirs2_adapters.core.rule import Rule

from .interface import Interface
from .kernels import kernels_of
from .objects import TARGETS, object_code

#: C compilers, as they are looked for on PATH.
COMPILERS = ("cc", "gcc", "clang")
#: For the very numbers of the python package: no fused additions but those of the kernels.
FLAGS = ("-std=c99", "-O2", "-ffp-contract=off", "-fPIC", "-shared")


@dataclass(frozen=True)
class Exported:
    """The files that were written. `library` is None where no C compiler is, and for other machines than this."""

    header: Path
    source: Path
    objects: tuple[Path, ...]
    library: Path | None


def export(rule: Rule | str, folder: str | Path, dtypes: Sequence[str] = (), target: str = "native") -> Exported:
    """Writes the kernel of an optimizer as object files with a header and a source file in C, and, for this machine and
    where a C compiler is, a shared library of both. A program that uses them needs neither python nor numba.

    :param rule: the name of an optimizer, or an optimizer; its hyperparameters are the header's defaults, and those
        that make another formula (amsgrad, maximize) are settled
    :param folder: where the files go; it is made if it is not there
    :param dtypes: how parameters, gradients and each slot are stored: float64, float32, float16 or bfloat16; all
        float32 by default
    :param target: "native", this machine with all its instructions, or "x86_64", "aarch64", "wasm32"
    :raises ValueError: for an optimizer that takes norms, rows or matrices, and for unknown dtypes and targets

    >>> import tempfile
    >>> from scirs2_adapters.export import export
    >>> export("lion", tempfile.mkdtemp()).header.name
    'scirs2_lion.h'
    """
    rule = get(rule)() if isinstance(rule, str) else rule
    if target not in TARGETS:
        raise bad_value("export", "target", f"must be one of {', '.join(TARGETS)}", target)
    if obstacle := compiler_obstacle():
        raise bad_value("export", "rule", f"cannot be compiled here: {obstacle}", rule.name)
    kernels = kernels_of(rule, dtypes)
    interface, place = Interface(kernels, __version__), Path(folder)
    texts = {".h": interface.header(), ".c": interface.source()}
    codes = {name: object_code(kernels.text(k, name), TARGETS[target]) for name, k in interface.passes().items()}
    place.mkdir(parents=True, exist_ok=True)
    files = {suffix: place / (interface.name + suffix) for suffix in texts}
    for suffix, text in texts.items():
        files[suffix].write_text(text, encoding="ascii")
    objects = tuple(place / f"{name}.o" for name in codes)
    for path, code in zip(objects, codes.values(), strict=True):
        path.write_bytes(code)
    library = _linked(files[".c"], objects) if target == "native" else None
    return Exported(files[".h"], files[".c"], objects, library)


def _linked(source: Path, objects: Sequence[Path]) -> Path | None:
    """The shared library of these files, by the C compiler that is here."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        return None
    library = source.with_name(f"lib{source.stem}.so")
    command = [compiler, *FLAGS, str(source), *map(str, objects), "-o", str(library), "-lm"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return library
