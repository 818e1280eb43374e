"""`monitor`: records say what the step was, cost nothing between, change nothing, and go where they are sent."""

from __future__ import annotations

import copy
import gc
import json
import logging
import pickle
import sys
import types
import weakref
from typing import Any

import numpy as np
import opentelemetry.metrics
import prometheus_client
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import scirs2_adapters as s2
from scirs2_adapters import monitor, monitoring
from scirs2_adapters.core import ClosureOptimizer, HostOptimizer
from scirs2_adapters.core.monitor import host
from scirs2_adapters.core.monitor.record import GroupRecord, Record, labels, norm
from scirs2_adapters.core.registry import with_value
from tests.unit.host_support import assert_same, params, walk

RECORD = Record(
    "AdamW", 7, 0.002, (GroupRecord("all", 0.1, 3.0, 0.5, 2.0), GroupRecord("rest", 0.1, 4.0, 0.0, 0.0)), 1, 2, 64
)


def sgd(**options: Any) -> HostOptimizer:
    return HostOptimizer("sgd", params(), learning_rate=0.5, **options)


def test_the_numbers_are_those_of_the_step() -> None:
    optimizer = sgd(groups=[{"params": ["b"], "learning_rate_factor": 0.5}])
    watching = monitor(optimizer, every=2)
    walk(optimizer, 3)
    before = {k: p.copy() for k, p in optimizer.params.items()}
    walk(optimizer, 1, first=4)
    assert [r.step for r in watching.records] == [2, 4]
    record, grads = watching.records[-1], params(4)
    assert [g.learning_rate for g in record.groups] == [0.5, 0.25]
    for group, keys in zip(record.groups, (["w", "t"], ["b"]), strict=True):
        size = np.sqrt(sum(np.sum(grads[k] ** 2) for k in keys))
        assert group.gradient_norm == pytest.approx(size)
        assert group.update_norm == pytest.approx(group.learning_rate * size)
        assert group.parameter_norm == pytest.approx(norm(optimizer.params[k] for k in keys))
        assert group.update_ratio == pytest.approx(group.update_norm / group.parameter_norm)
    assert record.update_norm == pytest.approx(norm(before[k] - optimizer.params[k] for k in before))
    assert (record.optimizer, record.nonfinite_gradients, record.skipped_steps) == ("SGD", 0, 0)
    assert record.state_bytes == optimizer.memory().state_bytes
    assert 0 < record.seconds < 60


@pytest.mark.parametrize("name", [*s2.names(), *with_value()])
def test_it_changes_no_bit(name: str) -> None:
    plain, watched = HostOptimizer(name, params()), HostOptimizer(name, params())
    watching = monitor(watched, every=2)
    assert_same(walk(plain, 4), walk(watched, 4))
    watching.remove()
    assert [r.state_bytes for r in watching.records] == [plain.memory().state_bytes] * 2
    assert_same(walk(plain, 1, first=5), walk(watched, 1, first=5))


def test_other_steps_look_at_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = sgd()
    monitor(optimizer, every=3)

    def look(optimizer: HostOptimizer) -> Any:
        raise AssertionError("looked")

    monkeypatch.setattr(host, "_begin", look)
    walk(optimizer, 2)
    with pytest.raises(AssertionError, match="looked"):
        walk(optimizer, 1)


def test_removing_restores_everything_in_any_order() -> None:
    optimizer = sgd()
    before = dict(vars(optimizer))
    first, second = monitor(optimizer, every=1), monitor(optimizer, every=2)
    walk(optimizer, 1)
    first.remove()
    first.remove()
    with second:
        walk(optimizer, 1)
    assert vars(optimizer).keys() == before.keys() | vars(walk(sgd(), 1)).keys()
    walk(optimizer, 2)
    assert (first.steps, second.steps, len(first.records), len(second.records)) == (1, 2, 1, 1)


def test_a_replaced_step_is_called_and_put_back() -> None:
    optimizer, calls = sgd(), []

    def step(grads: Any) -> None:
        calls.append(grads)

    optimizer.step = step
    with monitor(optimizer, every=1) as watching:
        optimizer.step({})
    assert optimizer.step is step
    assert (len(calls), watching.records[0].update_norm) == (1, 0.0)


def test_nothing_is_kept_alive() -> None:
    optimizer = sgd()
    watching = monitor(walk(optimizer, 1), every=1)
    walk(optimizer, 1)
    known = [weakref.ref(x) for x in (optimizer, *optimizer.params.values())]
    del optimizer
    gc.collect()
    assert [x() for x in known] == [None] * 4
    watching.remove()


def test_an_error_of_a_step_leaves_no_copy_behind() -> None:
    optimizer = sgd()
    watching = monitor(optimizer, every=1)
    with pytest.raises(ValueError, match="grads"):
        optimizer.step({"nobody": np.ones(1)})
    watching.remove()
    assert watching._open is None
    assert not watching.records


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
def test_a_copy_is_not_watched(copied: Any) -> None:
    optimizer = sgd()
    watching = monitor(optimizer, every=1)
    other = copied(optimizer)
    walk(other, 1)
    assert not watching.records
    assert_same(walk(optimizer, 1), other)


def test_what_is_not_finite_is_counted() -> None:
    optimizer = sgd(skip_nonfinite=True)
    watching = monitor(optimizer, every=1)
    optimizer.step({"b": np.array([1.0, np.nan, np.inf, -np.inf, 0.0])})
    (record,) = watching.records
    assert (record.nonfinite_gradients, record.skipped_steps, record.update_norm) == (3, 1, 0.0)


def test_the_last_records_are_kept() -> None:
    optimizer = sgd()
    watching = monitor(optimizer, every=1, keep=2)
    walk(optimizer, 5)
    assert [r.step for r in watching.records] == [4, 5]


def test_records_are_logged_and_given_to_functions(caplog: pytest.LogCaptureFixture) -> None:
    optimizer, seen, twice = sgd(), [], []
    watching = monitor(optimizer, every=1, to=[seen.append, twice.append])
    with caplog.at_level(logging.INFO, logger="scirs2_adapters"):
        walk(optimizer, 1)
    assert seen == twice == list(watching.records)
    assert [row.getMessage() for row in caplog.records] == [str(seen[0])]


def test_what_a_function_raises_is_raised_after_the_step() -> None:
    optimizer, plain = sgd(), walk(sgd(), 1)

    def fails(record: Record) -> None:
        raise OSError("disk full")

    monitor(optimizer, every=1, to=fails)
    with pytest.raises(OSError, match="disk full"):
        walk(optimizer, 1)
    assert_same(optimizer, plain)


def test_a_record_is_plain_data_and_one_line() -> None:
    data = json.loads(json.dumps(RECORD.as_dict()))
    assert (data["gradient_norm"], data["groups"][1]["name"], data["state_bytes"]) == (5.0, "rest", 64)
    shown = "AdamW step 7: lr 0.1, gradient 5, update 0.5, parameters 2, 2 ms, 1 not finite, 2 skipped"
    assert str(RECORD) == shown
    assert RECORD.groups[1].update_ratio == 0.0
    assert {name for name, _, _ in RECORD.numbers()} == set(monitoring.MEANS)


def test_groups_have_names_that_differ() -> None:
    assert labels([{"weight_decay": 0.1}, {"weight_decay": 0}, {"name": r"a\.b|c"}]) == ["decay", "no decay", "a.b c"]
    assert labels([{"name": "x"}, {"name": "x"}, {}]) == ["x", "x 1", "group 2"]
    assert labels([{"name": "x 2"}, {"name": "x"}, {"name": "x"}]) == ["x 2", "x", "x 2 2"]


def test_norms_are_taken_in_float64() -> None:
    assert norm([np.full(4, 3e38, np.float32), np.zeros((0, 2))]) == pytest.approx(6e38)
    assert norm([np.array([3 + 4j], np.complex64)]) == 5.0
    assert norm([np.array([np.inf]), np.ones(2)]) == np.inf
    assert norm([]) == 0.0


def test_prometheus_has_gauges_by_group() -> None:
    registry = prometheus_client.CollectorRegistry()
    for _ in range(2):  # the gauges of a registry are made once
        monitoring.prometheus(registry)(RECORD)
    value = registry.get_sample_value
    assert value("scirs2_optimizer_gradient_norm", {"optimizer": "AdamW", "group": "all"}) == 3.0
    assert value("scirs2_optimizer_skipped_steps", {"optimizer": "AdamW", "group": ""}) == 2.0


@pytest.mark.parametrize("sink", [monitoring.prometheus, monitoring.opentelemetry])
def test_what_no_sink_can_be_made_of_is_refused(sink: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.metrics", types.ModuleType("opentelemetry.metrics"))
    with pytest.raises(TypeError, match=rf"`{sink.__name__}\((registry|meter)=...\)` must be"):
        sink("mine")


@pytest.mark.parametrize("chosen", [False, True], ids=["the provider's meter", "a meter"])
def test_opentelemetry_has_gauges_by_group(chosen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(opentelemetry.metrics, "get_meter", provider.get_meter)
    monitoring.opentelemetry(provider.get_meter("mine") if chosen else None)(RECORD)
    (resource,) = reader.get_metrics_data().resource_metrics
    (scope,) = resource.scope_metrics
    assert scope.scope.name == ("mine" if chosen else "scirs2_adapters")
    told = {(m.name, p.attributes.get("group")): p.value for m in scope.metrics for p in m.data.data_points}
    assert told["scirs2.optimizer.update_norm", "all"] == 0.5
    assert told["scirs2.optimizer.state_bytes", None] == 64.0
    units = {m.name: m.unit for m in scope.metrics if m.unit}
    assert units == {"scirs2.optimizer.state_bytes": "By", "scirs2.optimizer.seconds": "s"}


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_opentelemetry_is_given_finite_numbers(number: float, caplog: pytest.LogCaptureFixture) -> None:
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("mine")
    group = GroupRecord("all", 0.1, number, number, number)
    monitoring.opentelemetry(meter)(Record("AdamW", 7, 0.002, (group,), 1, 2, 64))
    assert caplog.text == ""
    (scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
    values = {m.name: m.data.data_points[0].value for m in scope.metrics}
    assert values["scirs2.optimizer.nonfinite_gradients"] == 1
    assert "scirs2.optimizer.gradient_norm" not in values


@pytest.mark.parametrize(
    ("sink", "module", "distribution"),
    [("prometheus", "prometheus_client", "prometheus-client"), ("opentelemetry", "opentelemetry", "opentelemetry-api")],
)
def test_a_library_that_is_absent_is_named(
    sink: str, module: str, distribution: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"`{sink}` needs {distribution}.*`pip install {distribution}`"):
        getattr(monitoring, sink)()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"every": 0}, r"every=...\)` must be a whole number >= 1. Received: 0"),
        ({"every": 2.5}, r"every=...\)` must be a whole number >= 1. Received: 2.5"),
        ({"every": True}, r"every=...\)` must be a whole number >= 1. Received: True"),
        ({"keep": 0}, r"keep=...\)` must be a whole number >= 1. Received: 0"),
        ({"to": 3}, r"to=...\)` must be a function that takes a record, or a list of such. Received: 3"),
        ({"to": [print, 3]}, r"to=...\)` must be a function that takes a record, or a list of such"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_changed(keywords: dict[str, Any], message: str) -> None:
    optimizer = sgd()
    with pytest.raises((ValueError, TypeError), match=rf"`monitor\({message}"):
        monitor(optimizer, **keywords)
    assert "step" not in vars(optimizer)


@pytest.mark.parametrize(
    "other", [None, "adamw", ClosureOptimizer("lbfgs", [np.ones(2)])], ids=["none", "name", "lbfgs"]
)
def test_what_is_no_optimizer_is_refused(other: object) -> None:
    with pytest.raises(TypeError, match=r"`monitor\(optimizer=...\)` must be an optimizer for torch"):
        monitor(other)
