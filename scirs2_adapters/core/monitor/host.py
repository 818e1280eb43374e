"""Watches a `HostOptimizer`."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Mapping

import numpy as np

from .. import numpy_arrays as door
from ..numpy_optimizer import HostOptimizer
from .monitor import Finish, Monitor, around
from .record import Seen, group_record, labels, nonfinite


def watch(optimizer: HostOptimizer, monitor: Monitor) -> Monitor:
    """Record the steps of this optimizer."""

    def before(optimizer: HostOptimizer, *_: object, **__: object) -> None:
        monitor.before(functools.partial(_begin, optimizer))

    def after(optimizer: HostOptimizer, grads: door.Arrays, value: object = None) -> None:
        monitor.after(optimizer, grads)

    return monitor.until(around(optimizer, "step", (before, after)))


def _begin(optimizer: HostOptimizer) -> Finish:
    return functools.partial(_seen, {key: np.array(p) for key, p in optimizer.params.items()})


def _seen(before: Mapping[Hashable, np.ndarray], optimizer: HostOptimizer, grads: door.Arrays) -> Seen:
    gradients = {k: np.asarray(g) for k, g in door.items("monitor", "grads", grads) if g is not None}
    members: dict[int, list[Hashable]] = {}
    for key, group in optimizer._groups.of.items():
        members.setdefault(group, []).append(key)
    rules, groups = [optimizer.rule_of(keys[0]) for keys in members.values()], []
    names = labels([{"weight_decay": rule.weight_decay} for rule in rules])
    for name, rule, keys in zip(names, rules, members.values(), strict=True):
        after = [optimizer.params[k] for k in keys]
        grads_seen = [gradients[k] for k in keys if k in gradients]
        groups.append(group_record(name, float(rule.learning_rate), grads_seen, [before[k] for k in keys], after))
    return Seen(groups, nonfinite(gradients.values()), optimizer.skipped_steps, optimizer.memory().state_bytes)
