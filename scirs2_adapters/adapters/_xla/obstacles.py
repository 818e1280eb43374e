"""What keeps the compiled kernel from a group of leaves, as far as is known while the step is traced."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import jax

from scirs2_adapters.core.cpu.kernel import uses_rows
from scirs2_adapters.core.slots import Extent

from .executors import SEVERAL
from .groups import LeafGroup
from .kernel_step import loading_obstacle
from .ops import Leaves, Row, varies


def obstacle(group: LeafGroup, rows: Sequence[Row], leaves: Leaves, *, several: bool = False) -> str | None:
    """Why a kernel cannot step these of the leaves, or None; `several` says that they are known to be on several
    devices.
    """
    cpus, mesh = _cpus(), jax.sharding.get_abstract_mesh()
    if not cpus:
        return "JAX has no CPU device here"
    # As far as is known before the program is written: by the devices of this process, a mesh, or the caller.
    # `shard_map` cuts the work into what each device does without the others.
    several = several or cpus > 1 or (not mesh.empty and mesh.size > 1)
    by_itself = not group.program.levels and getattr(mesh, "are_all_axes_manual", False)
    if several and not by_itself:  # XLA would gather shards before the call
        return SEVERAL
    if group.axis_name is not None and group.program.levels:
        return "it sums over a mapped axis"
    if _uneven(group, rows, leaves):
        return "its parameters and gradients differ along different axes of a mesh"
    if uses_rows(group.program) or any(n.op == "matrix" for n in group.program.nodes):
        return "it works on rows, columns or whole matrices, which XLA does as well"
    # Compiling the handler takes seconds. Where most programs are for another device, it waits for one for the CPU.
    return loading_obstacle(group.dtypes) if jax.default_backend() == "cpu" else None


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
