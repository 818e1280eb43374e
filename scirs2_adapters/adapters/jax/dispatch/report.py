"""What `explain` says of a step: a line for each group of leaves, and for each leaf that another rule steps."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

import jax

from scirs2_adapters.core.routing import explained
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import Leaf

from ..ops import LeafArrays, Tree
from .plan import LeafGroup, StepConfig

log = logging.getLogger("scirs2")


class Lines(list[str]):
    """The lines of a report; `several` says whether the arrays it is about are on several devices."""

    several = False


#: Where lines for `explain` are collected while someone wants them.
_lines: ContextVar[Lines | None] = ContextVar("lines", default=None)


def lines() -> Lines | None:
    """The report that is being written, or None."""
    return _lines.get()


@contextlib.contextmanager
def reported(arrays: Tree = ()) -> Iterator[Lines]:
    """Collects a line for each group of leaves that is stepped meanwhile, which `arrays` are."""
    report = Lines()
    shardings = [getattr(x, "sharding", None) for x in jax.tree.leaves(arrays)]
    report.several = any(len(getattr(s, "device_set", ())) > 1 for s in shardings)
    token = _lines.set(report)
    try:
        yield report
    finally:
        _lines.reset(token)


def report_path(config: StepConfig, group: LeafGroup, obstacle: str | None) -> None:
    """Says which path a group takes; `obstacle` is what keeps it from the kernel."""
    leaves = f"{len(group.shapes)} {'leaf' if len(group.shapes) == 1 else 'leaves'} of {group.dtypes['p']}"
    size = sum(math.prod(s) for s in group.shapes)
    reason = 'asked for by kernel="traced"' if config.kernel == "traced" else obstacle
    path = f"traced: {reason}" if reason else "the host kernel on the CPU, traced elsewhere"
    line = f"{config.call}: {leaves} ({size:,} numbers): {path}"
    log.debug(line)
    if (report := _lines.get()) is not None:
        report.append(line)


def report_routes(config: StepConfig, rule: Rule, leaves: Sequence[LeafArrays]) -> None:
    """Says which leaves another rule steps, and which are other matrices than they look, and why."""
    if (report := _lines.get()) is None or not rule.routes:
        return
    pairs = [(rule, config.leaf(i, arrays)) for i, arrays in enumerate(leaves)]
    report += [line for (_, leaf), line in zip(pairs, explained(pairs), strict=True) if not _is_plain(rule, leaf)]


def _is_plain(rule: Rule, leaf: Leaf) -> bool:
    return not rule.reason(leaf) and rule.view(leaf) is None
