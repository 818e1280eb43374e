"""What an optimizer does while it trains: `scirs2_adapters.monitor`, its records, and where they may go.

>>> import numpy as np
>>> from scirs2_adapters import monitor
>>> from scirs2_adapters.core import HostOptimizer
>>> params = {"w": np.ones(4)}
>>> optimizer = HostOptimizer("sgd", params)
>>> watching = monitor(optimizer, every=2)
>>> for _ in range(4):
...     optimizer.step({"w": np.ones(4)})
>>> [record.step for record in watching.records]
[2, 4]
>>> watching.records[-1].gradient_norm, watching.records[-1].update_norm
(2.0, 0.0020000000000000018)
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, overload

from scirs2_adapters.core.errors import MissingExtraError, bad_type
from scirs2_adapters.core.kinds import adapter
from scirs2_adapters.core.monitor.monitor import Monitor, Sink
from scirs2_adapters.core.monitor.record import GroupRecord, Record

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter
    from prometheus_client import CollectorRegistry, Gauge

__all__ = ["GroupRecord", "Monitor", "Record", "monitor", "opentelemetry", "prometheus"]

_PREFIX = "scirs2_optimizer"
#: What is measured, in words of one line.
MEANS = {
    "step": "steps the monitor has seen",
    "seconds": "seconds that the step took",
    "learning_rate": "learning rate of the step",
    "gradient_norm": "norm of the gradients",
    "update_norm": "norm of the change of the parameters",
    "parameter_norm": "norm of the parameters after the step",
    "nonfinite_gradients": "numbers of the gradients that are infinite or NaN",
    "skipped_steps": "steps that were left out so far",
    "state_bytes": "bytes of the optimizer's state",
}
#: Units in OpenTelemetry's words, those of UCUM.
UNITS = {"seconds": "s", "state_bytes": "By"}


class Transformation(Protocol):
    """What optax has for an optimizer."""

    init: Callable[..., object]
    update: Callable[..., object]


class Monitored(Transformation, Protocol):
    """A transformation that measures its steps, and the monitor that has the records taken from its states."""

    monitor: Monitor

    def take(self, state: object) -> Record | None:
        """The record of the last measured step in a state; None if there is none, or if it was taken before."""


@overload
def monitor(  # type: ignore[overload-overlap]  # whatever is no transformation gets a monitor
    optimizer: Transformation, every: int = 100, *, to: Sink | Iterable[Sink] = (), keep: int = 1000
) -> Monitored: ...
@overload
def monitor(optimizer: object, every: int = 100, *, to: Sink | Iterable[Sink] = (), keep: int = 1000) -> Monitor: ...
def monitor(optimizer: object, every: int = 100, *, to: Sink | Iterable[Sink] = (), keep: int = 1000) -> object:
    """Watch an optimizer: a `Record` of every N-th step, with norms, rates, counts, time and bytes.

    A record is kept in `records` of what is returned, logged by the logger "scirs2_adapters" at level INFO, and given
    to each function in `to`. In a step that is recorded a copy of the parameters is kept until the step is made; in all
    others steps are counted and nothing else is done. No bit of any step is changed. It ends with `remove()`, or with
    the `with` block that the monitor was made for; neither optimizer nor parameters are kept alive.

    Arguments:
      optimizer: one for torch (torch's own, too) or Keras, a fitted estimator that goes on training, or a
        `HostOptimizer`. Steps that a framework has compiled call nobody; for Keras' `fit` there is the callback
        `scirs2_adapters.tf.OptimizerMonitor`, and an optax transformation is returned anew, with the numbers in its
        state and the monitor in its attribute `monitor`.
      every: steps from one record to the next, 1 or more.
      to: a function that takes a record, or a list of such: your own, `prometheus()` or `opentelemetry()`. What one
        raises, the step raises after it has been made.
      keep: how many records are kept, 1 or more.

    Raises for an object that is none of these, and for numbers out of range, before anything is changed.
    """
    watcher = adapter("monitor", optimizer, "monitor")
    watched: object = watcher.watch(optimizer, Monitor(_name(optimizer), every, to, keep))
    return watched


def _name(optimizer: object) -> str:
    """What records call it: the rule's name where a class says nothing of it."""
    rule = getattr(optimizer, "rule", None)
    return type(optimizer if rule is None or hasattr(optimizer, "rule_class") else rule).__name__


def prometheus(registry: CollectorRegistry | None = None) -> Sink:
    """A function for `to` that sets gauges of Prometheus' client, `scirs2_optimizer_gradient_norm` and the like, with
    the labels `optimizer` and `group`. The gauges of a registry are made once.

    Arguments:
      registry: where gauges are registered; None is the default of the client.

    Raises ImportError, with the line of pip, where prometheus-client is not installed.
    """
    client = _installed("prometheus", "prometheus_client", "prometheus-client")
    if not (registry is None or isinstance(registry, client.CollectorRegistry)):
        raise bad_type("prometheus", "registry", "must be a prometheus_client.CollectorRegistry or None", registry)
    gauges = _gauges(client.REGISTRY if registry is None else registry)

    def send(record: Record) -> None:
        for name, group, number in record.numbers():
            gauges[name].labels(record.optimizer, group).set(number)

    return send


@functools.cache
def _gauges(registry: CollectorRegistry) -> dict[str, Gauge]:
    """A gauge for each number that a record has."""
    from prometheus_client import Gauge

    labels = ("optimizer", "group")
    return {name: Gauge(f"{_PREFIX}_{name}", means, labels, registry=registry) for name, means in MEANS.items()}


def _installed(call: str, module: str, distribution: str) -> ModuleType:
    """The module of an optional library, or what installs it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != module.partition(".")[0]:
            raise
        way_out = f"Install it with `pip install {distribution}`."
        raise MissingExtraError(f"`{call}` needs {distribution}, which is not installed. {way_out}") from error


def opentelemetry(meter: Meter | None = None) -> Sink:
    """A function for `to` that sets gauges of OpenTelemetry, `scirs2.optimizer.gradient_norm` and the like, with the
    attributes `optimizer` and `group`. OpenTelemetry takes no infinite number and no NaN: a gauge keeps its last finite
    one, and `nonfinite_gradients` says when that is old.

    Arguments:
      meter: the meter that makes them; None is that of the global provider, named "scirs2_adapters".

    Raises ImportError, with the line of pip, where opentelemetry-api is not installed.
    """
    metrics = _installed("opentelemetry", "opentelemetry.metrics", "opentelemetry-api")
    if not (meter is None or hasattr(meter, "create_gauge")):
        raise bad_type("opentelemetry", "meter", "must be a meter of OpenTelemetry or None", meter)
    chosen = metrics.get_meter("scirs2_adapters") if meter is None else meter
    prefix = _PREFIX.replace("_", ".")
    gauges = {
        name: chosen.create_gauge(f"{prefix}.{name}", unit=UNITS.get(name, ""), description=means)
        for name, means in MEANS.items()
    }

    def send(record: Record) -> None:
        for name, group, number in record.numbers():
            if math.isfinite(number):
                gauges[name].set(number, {"optimizer": record.optimizer} | ({"group": group} if group else {}))

    return send
