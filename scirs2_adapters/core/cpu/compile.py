"""From generated source to machine code: numba compiles it once, its object code is kept on disk and loaded from there.

numba's disk cache brings numba back with it, half a second at each start; an object file needs a loader: the small one
of this folder, or LLVM's where that one does not know the processor or the file. The file's name has digests of the
processor with the compiler's versions and of the source, so that an edited rule is another file. A cache directory that
cannot be written costs the compile time at each start and nothing else; a damaged file is compiled anew.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib
import logging
import os
import platform
import sys
import tempfile
import threading
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from . import loader

if TYPE_CHECKING:
    import llvmlite.binding as llvm

log = logging.getLogger("scirs2")
_lock = threading.RLock()
#: A file begins with the digest of what follows.
_DIGEST_BYTES = hashlib.sha256().digest_size
#: Libraries in which LLVM looks for functions too.
_libraries: list[str] = []
#: What is loaded already, by symbol: code with variables must be in memory once, though threads ask for it at once.
_addresses: dict[str, int] = {}


def cache_directory() -> Path:
    """Where object code is kept: SCIRS2_CACHE_DIR, else the user's cache directory."""
    if chosen := os.environ.get("SCIRS2_CACHE_DIR"):
        return Path(chosen)
    base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    return (Path(base) if base else _home() / ".cache") / "scirs2"


def _home() -> Path:
    """The user's home; for a user who has none, as in many containers, a place where nothing can be written."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(os.devnull)


@functools.cache
def compiler_obstacle() -> str | None:
    """Why no kernel can run in this process, or None."""
    if sys.platform == "win32":
        return "the host kernel's threads are POSIX threads, which Windows does not have"
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return "NUMBA_DISABLE_JIT is set"
    try:
        with _lock:  # a second engine, made by another thread, would unload what the first has loaded
            if not _has_compiled():
                _engine()
    except ImportError as error:
        return f"numba's compiler cannot be loaded ({error})"
    return None


@functools.cache
def _engine() -> llvm.ExecutionEngine:
    """The one loader of the process, with an empty module to begin with."""
    import llvmlite.binding as llvm

    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target_machine())


def _target_machine() -> llvm.TargetMachine:
    """This processor with all its instructions."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target, features = llvm.Target.from_default_triple(), llvm.get_host_cpu_features().flatten()
    return target.create_target_machine(llvm.get_host_cpu_name(), features, opt=3, jit=True, codemodel="jitdefault")


@functools.cache
def _machine() -> str:
    """A digest of what object code depends on besides its source: processor, compiler, and how this file calls it."""
    processor = [platform.machine(), sys.platform, loader.processor() or _llvm_processor()]
    text = "|".join([*processor, version("llvmlite"), version("numba"), Path(__file__).read_text()])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _llvm_processor() -> str:
    import llvmlite.binding as llvm

    return f"{llvm.get_host_cpu_name()}|{llvm.get_host_cpu_features().flatten()}"


def _has_compiled() -> bool:
    """Whether this compiler has filled the cache before, so that it works, and may not be needed in this process."""
    return loader.processor() is not None and any(cache_directory().glob(f"*-{_machine()}-*.o"))


@functools.cache
def sources(*modules: str) -> str:
    """The text of modules of this folder, as a part of the name of what is compiled from them."""
    return "".join((Path(__file__).parent / f"{name}.py").read_text() for name in modules)


def load(name: str, text: str, build: Callable[[str], bytes]) -> int:
    """The address of the function made from `text`. Where its object code is not cached, `build` makes it, and gives
    the function the symbol that it is told.
    """
    with _lock:
        digest = f"{_machine()}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
        path, symbol = cache_directory() / f"{name}-{digest}.o", f"scirs2_{name}_{digest.replace('-', '_')}"
        if (code := _read(path)) is None:
            code = build(symbol)
            _write(path, code)
        return _link(f"cfunc.{symbol}", code)


def search(path: str) -> ctypes.CDLL:
    """Look for functions that code calls in this library too."""
    library = ctypes.CDLL(path)
    loader.libraries.append(library)
    _libraries.append(path)
    return library


def _link(symbol: str, code: bytes) -> int:
    if symbol not in _addresses:
        _addresses[symbol] = loader.address(code, symbol) or _link_by_llvm(symbol, code)
    return _addresses[symbol]


def _link_by_llvm(symbol: str, code: bytes) -> int:
    import llvmlite.binding as llvm

    engine = _engine()
    for path in _libraries:
        llvm.load_library_permanently(path)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return int(engine.get_function_address(symbol))


def _read(path: Path) -> bytes | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(code := data[_DIGEST_BYTES:]).digest() == data[:_DIGEST_BYTES]:
        return code
    log.warning("scirs2: %s is damaged and will be compiled anew", path)
    return None


def _write(path: Path, code: bytes) -> None:
    """Puts the complete file in place at once, because other processes may be reading it."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # goes away whatever happens, on a full disk too
            complete = Path(folder) / path.name
            complete.write_bytes(hashlib.sha256(code).digest() + code)
            complete.replace(path)
    except OSError as error:
        _warn_once(str(path.parent), str(error))


@functools.cache
def _warn_once(directory: str, error: str) -> None:
    log.warning(
        "scirs2: the cache directory %s cannot be written (%s): kernels are compiled at each start. "
        "Set SCIRS2_CACHE_DIR to a directory that can.", directory, error
    )  # fmt: skip


def llvm_text(function: object, signature: str, reorder: bool, symbol: str) -> str:
    """LLVM's text of a python function by numba, for this processor.

    numba numbers its functions anew in each process, so that files of two processes have different functions under
    one name; here the symbol says what is in it, for the loader and for profilers.
    """
    import numba

    flags = {"contract", "reassoc", "nsz"} if reorder else {"contract"}
    compiled = numba.cfunc(signature, nopython=True, error_model="numpy", fastmath=flags, forceinline=True)(function)
    return str(compiled.inspect_llvm().replace(compiled.native_name.removeprefix("cfunc."), symbol))


def native(function: object, signature: str, reorder: bool, symbol: str) -> bytes:
    """Object code of a python function."""
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(llvm_text(function, signature, reorder, symbol))
    return bytes(_target_machine().emit_object(module))


def address_of(module: str, name: str, arguments: int = 1) -> int:
    """The address of a function that is not generated: of so many integers, in a module of this folder."""
    return _address_of(module, name, arguments)


@functools.cache
def _address_of(module: str, name: str, arguments: int) -> int:
    def build(symbol: str) -> bytes:
        function = getattr(importlib.import_module(f".{module}", __package__), name)
        return native(function, f"intp({', '.join(['intp'] * arguments)})", False, symbol)

    return load(name, name + sources(module, "foreign_calls", "intrinsics", "layout"), build)


@functools.cache
def function_of(module: str, name: str, arguments: int = 1) -> Callable[..., int]:
    """The same function, to be called from Python."""
    return to_call(address_of(module, name, arguments), arguments)


def to_call(address: int, arguments: int) -> Callable[..., int]:
    """The function of so many integers at an address."""
    return ctypes.CFUNCTYPE(*[ctypes.c_int64] * (1 + arguments))(address)
