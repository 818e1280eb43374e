"""Which path each group of leaves takes: what keeps the compiled kernel from it, as far as is known while the step is
traced, and the report of it that `explain` gives.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

import jax

from scirs2_adapters.adapters._xla.groups import LeafGroup
from scirs2_adapters.adapters._xla.obstacles import obstacle as kernel_obstacle
from scirs2_adapters.adapters._xla.ops import Leaves, Tree
from scirs2_adapters.core.routing import explained
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.step.options import takes_host

from .plan import Part, StepConfig

#: Above this many bytes `update` alone is traced: XLA adds the change without writing it down, a kernel needs fresh
#: memory for it, and memory fresh from the system costs more than the step. Of coded memory XLA would write down the
#: numbers as well.
LARGEST_CHANGE = 1 << 18
log = logging.getLogger("scirs2")


def choose(config: StepConfig, rule: Rule, parts: Sequence[Part], leaves: Leaves, one_path: bool) -> list[bool]:
    """For each group whether the kernel steps it, where it can in the program that comes of it; reported."""
    obstacles: list[str | None] = [None] * len(parts)
    large = config.emit == "delta" and sum(x["g"].nbytes for x in leaves) > LARGEST_CHANGE
    if config.kernel == "auto" and large and not any(group.companions for group, _ in parts):
        obstacles = ["the change is large"] * len(parts)
    elif config.kernel != "traced":
        several = (report := report_lines.get()) is not None and report.several
        obstacles = [kernel_obstacle(group, rows, leaves, several=several) for group, rows in parts]
    if one_path:  # numbers shared by all leaves
        obstacles = [next(filter(None, obstacles), None)] * len(parts)
    for (group, _), obstacle in zip(parts, obstacles, strict=True):
        _report_path(config, group, obstacle)
    _report_routes(config, rule, leaves)
    return [takes_host(config.call, config.kernel, obstacle) for obstacle in obstacles]


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
    line = f"{config.call}: {leaves} ({size:,} numbers): {path}"
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
