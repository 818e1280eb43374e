"""Which path each group of leaves takes: what keeps the compiled kernel from it, as far as is known while the step is
traced, and the report of it that `explain` gives.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import logging
import math
import threading
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

import jax

from scirs2_adapters.core.cpu import xla_calls as ffi
from scirs2_adapters.core.cpu.compile import compiler_obstacle
from scirs2_adapters.core.cpu.kernel import kernel_obstacle, uses_rows
from scirs2_adapters.core.routing import explained
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import Extent
from scirs2_adapters.core.step.options import takes_host

from ..executors import SEVERAL
from ..kernel_step import TARGET
from ..ops import Leaves, Row, Tree, varies
from .plan import LeafGroup, Part, StepConfig

#: Above this many bytes `update` alone is traced: XLA adds the change without writing it down, a kernel needs fresh
#: memory for it, and memory fresh from the system costs more than the step. Of coded memory XLA would write down the
#: numbers as well.
LARGEST_CHANGE = 1 << 18
log = logging.getLogger("scirs2")
_lock = threading.Lock()


def choose(config: StepConfig, rule: Rule, parts: Sequence[Part], leaves: Leaves, one_path: bool) -> list[bool]:
    """For each group whether the kernel steps it, where it can in the program that comes of it; reported."""
    obstacles: list[str | None] = [None] * len(parts)
    if config.kernel != "traced":
        obstacles = [_obstacle(group, rows, leaves) for group, rows in parts]
    if one_path:  # numbers shared by all leaves
        obstacles = [next(filter(None, obstacles), None)] * len(parts)
    large = config.emit == "delta" and sum(x["g"].nbytes for x in leaves) > LARGEST_CHANGE
    if config.kernel == "auto" and large and not any(group.companions for group, _ in parts):
        obstacles = ["the change is large"] * len(parts)
    for (group, _), obstacle in zip(parts, obstacles, strict=True):
        _report_path(config, group, obstacle)
    _report_routes(config, rule, leaves)
    return [takes_host(config.rule.name, config.kernel, obstacle) for obstacle in obstacles]


def _obstacle(group: LeafGroup, rows: Sequence[Row], leaves: Leaves) -> str | None:
    """Why a kernel cannot step these of the leaves, or None."""
    cpus, mesh, report = _cpus(), jax.sharding.get_abstract_mesh(), report_lines.get()
    if not cpus:
        return "JAX has no CPU device here"
    # As far as is known before the program is written: by the devices of this process, a mesh, or the arrays that a
    # report is asked for. `shard_map` cuts the work into what each device does without the others.
    several = cpus > 1 or (not mesh.empty and mesh.size > 1) or (report is not None and report.several)
    by_itself = not group.program.levels and getattr(mesh, "are_all_axes_manual", False)
    if several and not by_itself:  # XLA would gather shards before the call
        return SEVERAL
    if group.axis_name is not None and group.program.levels:
        return "it sums over a mapped axis"
    if _uneven(group, rows, leaves):
        return "its parameters and gradients differ along different axes of a mesh"
    if uses_rows(group.program) or any(n.op == "matrix" for n in group.program.nodes):
        return "it works on rows, columns or whole matrices, which XLA does as well"
    with _lock:  # threads that step for the first time at once load one compiler and register one handler
        return kernel_obstacle(group.dtypes) or _register()


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


def _uneven(group: LeafGroup, rows: Sequence[Row], leaves: Leaves) -> bool:
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


class Lines(list[str]):
    """The lines of a report; `several` says whether the arrays it is about are on several devices."""

    several = False


#: Where lines for `explain` are collected while someone wants them.
report_lines: ContextVar[Lines | None] = ContextVar("lines", default=None)


@contextlib.contextmanager
def reported(arrays: Tree = ()) -> Iterator[Lines]:
    """Collects a line for each group of leaves that is stepped meanwhile, which `arrays` are."""
    report = Lines()
    shardings = [getattr(x, "sharding", None) for x in jax.tree.leaves(arrays)]
    report.several = any(len(getattr(s, "device_set", ())) > 1 for s in shardings)
    token = report_lines.set(report)
    try:
        yield report
    finally:
        report_lines.reset(token)


def _report_path(config: StepConfig, group: LeafGroup, obstacle: str | None) -> None:
    """Says which path a group takes; `obstacle` is what keeps it from the kernel."""
    leaves = f"{len(group.shapes)} {'leaf' if len(group.shapes) == 1 else 'leaves'} of {group.dtypes['p']}"
    size = sum(math.prod(s) for s in group.shapes)
    reason = 'asked for by kernel="traced"' if config.kernel == "traced" else obstacle
    path = f"traced: {reason}" if reason else "the host kernel on the CPU, traced elsewhere"
    line = f"{config.rule.name}: {leaves} ({size:,} numbers): {path}"
    log.debug(line)
    if (report := report_lines.get()) is not None:
        report.append(line)


def _report_routes(config: StepConfig, rule: Rule, leaves: Leaves) -> None:
    """Says which leaves another rule steps, and which are other matrices than they look, and why."""
    if (report := report_lines.get()) is None or not rule.routes:
        return
    pairs = [(rule, config.leaf(i, arrays)) for i, arrays in enumerate(leaves)]
    for (_, leaf), line in zip(pairs, explained(pairs), strict=True):
        if rule.reason(leaf) or rule.view(leaf) is not None:
            report.append(line)
