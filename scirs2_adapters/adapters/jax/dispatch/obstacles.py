"""Why the compiled kernel cannot step a group of leaves, as far as is known while the step is traced."""

from __future__ import annotations

import ctypes
import functools
import itertools
import logging
import threading
from collections.abc import Sequence

import jax

from scirs2_adapters.core.cpu import xla_calls as ffi
from scirs2_adapters.core.cpu.compile import compiler_obstacle
from scirs2_adapters.core.cpu.kernel import kernel_obstacle as dtype_obstacle
from scirs2_adapters.core.cpu.kernel import uses_rows
from scirs2_adapters.core.slots import Extent

from ..executors.primitive import SEVERAL
from ..kernel_step import TARGET
from ..ops import LeafArrays, Row, varies
from .plan import LeafGroup
from .report import lines

log = logging.getLogger("scirs2")
_lock = threading.Lock()


def kernel_obstacle(group: LeafGroup, rows: Sequence[Row], leaves: Sequence[LeafArrays]) -> str | None:
    """Why a kernel cannot step these of the leaves, or None."""
    if not _cpus():
        return "JAX has no CPU device here"
    if _several() and not _by_itself(group):  # XLA would gather shards before the call
        return SEVERAL
    if group.axis_name is not None and group.program.levels:
        return "it sums over a mapped axis"
    if _uneven(group, rows, leaves):
        return "its parameters and gradients differ along different axes of a mesh"
    if uses_rows(group.program) or any(n.op == "matrix" for n in group.program.nodes):
        return "it works on rows, columns or whole matrices, which XLA does as well"
    with _lock:  # threads that step for the first time at once load one compiler and register one handler
        return dtype_obstacle(group.dtypes) or _register()


@functools.cache
def _register() -> str | None:
    """Makes the handler known to XLA, once; returns why it cannot be used, or None."""
    if reason := compiler_obstacle():
        return reason
    jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(ctypes.c_void_p(ffi.handler())), platform="cpu")
    if ffi.frame_bytes() >= ffi.FRAME_BYTES:
        return None
    log.warning("scirs2: this jaxlib's foreign calls have another layout than is known; steps are traced")
    return "this jaxlib's foreign calls have another layout than is known"


def _cpus() -> int:
    """How many CPU devices this process has: none where JAX was told to use other platforms only."""
    try:
        return len(jax.local_devices(backend="cpu"))
    except RuntimeError:
        return 0


def _by_itself(group: LeafGroup) -> bool:
    """Whether `shard_map` has cut the work into what each device does without the others."""
    mesh = jax.sharding.get_abstract_mesh()
    return not group.program.levels and getattr(mesh, "are_all_axes_manual", False)


def _several() -> bool:
    """Whether the program may be for several devices, as far as is known before it is written: by those of this
    process, a mesh, or the arrays that a report is asked for.
    """
    report, mesh = lines(), jax.sharding.get_abstract_mesh()
    return _cpus() > 1 or (not mesh.empty and mesh.size > 1) or (report is not None and report.several)


def _uneven(group: LeafGroup, rows: Sequence[Row], leaves: Sequence[LeafArrays]) -> bool:
    """Whether the arrays of a leaf differ along other axes than each other, or its numbers along more axes than its
    arrays: along which axes the results then differ, JAX must see from the operations.
    """
    small = {s.name for s in group.program.slots if s.extent is Extent.TENSOR}
    scalars = frozenset().union(*(varies(x) for row in rows for x in row.values()))
    for arrays in (leaves[i] for i in group.members):
        of_numbers = {varies(x) for n, x in arrays.items() if n in small}
        of_arrays = {varies(x) for n, x in arrays.items() if n not in small}
        nested = [scalars, *of_numbers, *of_arrays]
        if len(of_numbers) > 1 or len(of_arrays) > 1 or not all(a <= b for a, b in itertools.pairwise(nested)):
            return True
    return False
