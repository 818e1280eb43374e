"""Flower's strategy by any rule, against a transcription in float64, FedAvg, and plain numpy.

Flower pins other versions than the common set: `make test-flower` has an environment for it and runs this file. The
messages are Flower's; the grid that carries them calls the clients in this process.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower has an environment to itself: make test-flower")

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp.exception import AggregationError
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg

from scirs2_adapters import state
from scirs2_adapters.core import SGD, Adam, HostOptimizer, evaluation_params, get
from scirs2_adapters.core.errors import ArgumentTypeError, ArgumentValueError
from scirs2_adapters.flower import FedOpt
from tests.adapters.flower_support import Arrays, Grid, arrays_of, bits, client, fedopt, identity, model, record, run  # noqa: F401


def transcribed(step: Callable[[float, float, dict, int], float], rounds: int) -> Arrays:
    """The rounds one number at a time."""
    x = model("float64")
    memory: dict[tuple[str, int], dict[str, float]] = {}
    for number in range(1, rounds + 1):
        sent = [client(node, number, {k: v.copy() for k, v in x.items()}) for node in (1, 2, 3)]
        for name, array in x.items():
            for i in range(array.size):
                mean = sum(n * s[name].flat[i] for n, s in zip((1, 2, 3), sent, strict=True)) / 6
                slots = memory.setdefault((name, i), {"m": 0.0, "v": 0.0})
                array.flat[i] += step(array.flat[i] - mean, array.flat[i], slots, number)
    return x


def sgd_momentum(g: float, x: float, s: dict, t: int) -> float:
    s["m"] = 0.9 * s["m"] + g
    return -0.5 * s["m"]


def adam(g: float, x: float, s: dict, t: int) -> float:
    s["m"], s["v"] = 0.9 * s["m"] + 0.1 * g, 0.99 * s["v"] + 0.01 * g * g
    return -0.1 * (s["m"] / (1 - 0.9**t)) / ((s["v"] / (1 - 0.99**t)) ** 0.5 + 1e-3)


def lion(g: float, x: float, s: dict, t: int) -> float:
    direction = np.sign(0.9 * s["m"] + 0.1 * g)
    s["m"] = 0.99 * s["m"] + 0.01 * g
    return -0.01 * direction


RULES = {
    "sgd": ({"learning_rate": 0.5, "momentum": 0.9}, sgd_momentum),
    "adam": ({"learning_rate": 0.1, "beta2": 0.99, "eps": 1e-3}, adam),
    "lion": ({"learning_rate": 0.01, "beta2": 0.99, "weight_decay": 0.0}, lion),
}


@pytest.mark.parametrize("name", RULES)
def test_rounds_are_those_of_a_transcription(name: str) -> None:
    words, step = RULES[name]
    result = run(fedopt(get(name)(**words)), 5, start=model("float64"))
    expected = transcribed(step, 5)
    for key, x in expected.items():
        np.testing.assert_allclose(result[key], x, rtol=1e-12, atol=1e-14)


def test_sgd_of_rate_one_is_fedavg() -> None:
    ours, theirs = run(fedopt(SGD(learning_rate=1.0))), run(FedAvg(fraction_evaluate=0.0))
    for name, x in theirs.items():
        assert ours[name].dtype == x.dtype
        np.testing.assert_allclose(ours[name], x, rtol=1e-6, atol=1e-7)


def test_the_first_step_of_adam_is_corrected_for_one_round() -> None:
    """Flower's FedAdam corrects for two, and steps by 0.74 of the rate."""
    start = model("float64")
    moved = run(fedopt(Adam(learning_rate=0.1, eps=0.0)), 1, start=start)
    for name, x in start.items():
        np.testing.assert_allclose(abs(moved[name] - x), 0.1, rtol=1e-12)


def test_a_schedule_counts_rounds() -> None:
    rates: list[int] = []
    fed = fedopt("sgd", learning_rate=lambda t: rates.append(t) or 0.5 / (1 + t))
    result = run(fed, 3)
    x = model()
    optimizer = HostOptimizer("sgd", x, learning_rate=lambda t: 0.5 / (1 + t))
    for number in (1, 2, 3):
        sent = [client(node, number, x) for node in (1, 2, 3)]
        mean = {k: sum(np.float32(n / 6) * s[k] for n, s in zip((1, 2, 3), sent, strict=True)) for k in x}
        optimizer.step({k: x[k] - mean[k] for k in x})
    assert rates[-1] == 2
    for name in x:
        np.testing.assert_allclose(result[name], x[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["schedulefreeadamw", "swa", "weightema"])
def test_averages_are_evaluated_and_returned_and_the_trained_model_is_sent(optimizer: str, tmp_path: Path) -> None:
    evaluated: list[Arrays] = []
    trained: list[Arrays] = []

    def train(node: int, number: int, arrays: Arrays) -> Arrays:
        trained.append(arrays)
        return client(node, number, arrays)

    strategy = fedopt(optimizer, learning_rate=0.1, path=tmp_path / "state")
    keep = lambda number, arrays: evaluated.append(arrays_of(arrays))  # noqa: E731
    result = arrays_of(strategy.start(Grid(train), record(model()), 3, evaluate_fn=keep).arrays)
    mine = model()
    by_hand = HostOptimizer(optimizer, mine, learning_rate=0.1)
    for number in (1, 2, 3):
        for name, x in mine.items():
            np.testing.assert_allclose(trained[3 * number - 1][name], x, rtol=1e-4, atol=1e-6)
        weighted = FedAvg(fraction_evaluate=0.0)
        mean = run(weighted, 1, Grid(lambda node, _, x, n=number: client(node, n, x)), mine)
        by_hand.step({name: mine[name] - mean[name] for name in mine})
        for name, x in evaluation_params(by_hand).items():
            np.testing.assert_allclose(evaluated[number][name], x, rtol=1e-4, atol=1e-6)
    assert bits(result) == bits(evaluated[-1]) != bits(arrays_of(record(strategy._model)))
    assert bits(run(fedopt(optimizer, learning_rate=0.1, path=tmp_path / "state"), 3)) == bits(result)


def test_another_strategy_may_run_it_without_a_file(tmp_path: Path) -> None:
    """Clipping to a norm that no update has, with no noise, changes nothing."""

    def private(strategy: FedOpt) -> DifferentialPrivacyServerSideFixedClipping:
        return DifferentialPrivacyServerSideFixedClipping(strategy, 0.0, 1e6, 3)

    ours, theirs = run(private(fedopt("adam"))), run(fedopt("adam"))
    for name, x in theirs.items():
        np.testing.assert_allclose(ours[name], x, rtol=1e-4, atol=1e-5)
    with pytest.raises(ArgumentValueError, match=r"path=.*must be None inside another strategy"):
        run(private(fedopt("adam", path=tmp_path / "state")))
    with pytest.raises(ArgumentValueError, match=r"optimizer=.*evaluates what it trains"):
        run(private(fedopt("swa")))


def test_counts_and_arrays_that_are_named_take_the_mean(tmp_path: Path) -> None:
    start = model() | {"count": np.array(7, np.int64), "bn.running_var": np.ones(4, np.float32)}

    def train(node: int, number: int, arrays: Arrays) -> Arrays:
        return client(node, number, arrays) | {
            "count": np.asarray(arrays["count"] + 1),
            "bn.running_var": np.full(4, 3, "f4"),
        }

    words = {"averaged": ["*.running_var"], "path": tmp_path / "state"}
    result = run(fedopt("adam", **words), 2, Grid(train), start)
    assert result["count"].dtype == np.int64
    assert result["count"] == 9
    np.testing.assert_allclose(result["bn.running_var"], 3, rtol=1e-6)
    assert run(fedopt("adam", **words), 3, Grid(train), start)["count"] == 10


BAD = {
    "shape": (lambda x: x | {"w": x["w"].T}, r"node 1: `w` must have shape \(3, 4\)\. Received: \(4, 3\)"),
    "names": (lambda x: {"w": x["w"], "c": x["b"]}, r"Received: without \['b'\], with \['c'\]"),
    "dtype": (lambda x: x | {"w": x["w"].astype("float64")}, "`w` must have dtype float32. Received: float64"),
    "finite": (lambda x: x | {"b": x["b"] * np.float32("nan")}, "`b` must be finite. Received: 4 of 4 are not"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_results_are_refused_before_anything_is_changed(kind: str, tmp_path: Path) -> None:
    change, worded = BAD[kind]
    path = tmp_path / "state"

    def train(node: int, number: int, arrays: Arrays) -> Arrays:
        return change(client(node, number, arrays)) if (node, number) == (1, 2) else client(node, number, arrays)

    strategy = fedopt("adam", path=path)
    with pytest.raises(AggregationError, match=f"Round 2, .*{worded}"):
        run(strategy, 3, Grid(train))
    assert strategy.rounds == 1
    assert state.describe(path).step_count == strategy.optimizer.step_count == 1


def test_a_round_without_results_is_an_error() -> None:
    def train(node: int, number: int, arrays: Arrays) -> Arrays:
        raise RuntimeError("out of memory")

    with pytest.raises(AggregationError, match=r"Round 1 must have the result of a client\. Received: node 1: out of"):
        run(fedopt("adam"), 1, Grid(train))


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_weights_that_are_none_are_refused(weight: float) -> None:
    with pytest.raises(AggregationError, match="`num-examples` of the clients must be numbers >= 0, not all 0"):
        run(fedopt("adam"), 1, Grid(weight=weight))


def test_some_failures_are_left_out() -> None:
    def train(node: int, number: int, arrays: Arrays) -> Arrays:
        if node == 2:
            raise RuntimeError("gone")
        return client(node, number, arrays)

    assert np.isfinite(run(fedopt("adam"), 2, Grid(train))["w"]).all()


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="optimizer"):
        FedOpt(3)
    with pytest.raises(ArgumentValueError, match="steps by gradients alone"):
        FedOpt("polyaksgd")
    with pytest.raises(ArgumentValueError, match="steps by gradients alone"):
        FedOpt("lbfgs")
    with pytest.raises(ArgumentTypeError, match="averaged"):
        FedOpt("adam", averaged="*.running_mean")
    with pytest.raises(ArgumentValueError, match=r"averaged=.*must match names of arrays, of \['w', 'b'\]"):
        run(fedopt("adam", averaged=["*.runing_mean"]))


def test_the_round_reaches_clients_and_evaluation() -> None:
    seen: list[int] = []

    def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord:
        seen.append(number)
        return MetricRecord({"loss": 1.0})

    grid = Grid()
    done = FedOpt("adam").start(grid, record(model()), 2, train_config=ConfigRecord(), evaluate_fn=evaluate)
    assert seen == [0, 1, 2]
    assert sorted(done.evaluate_metrics_serverapp) == [0, 1, 2]
