"""Flower's strategy by any rule, against a transcription in float64, FedAvg, and itself after a crash.

Flower pins other versions than the common set: `make test-flower` has an environment for it and runs this file. The
messages are Flower's; the grid that carries them calls the clients in this process.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower has an environment to itself: make test-flower")

from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp.exception import AggregationError
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.task_identity import TaskIdentity

from scirs2_adapters import state
from scirs2_adapters.core import Adam, HostOptimizer, Lion, schedules
from scirs2_adapters.core.errors import ArgumentTypeError, ArgumentValueError
from scirs2_adapters.flower import FedOpt

Arrays = dict[str, np.ndarray]
Client = Callable[[int, int, Arrays], Arrays]


@pytest.fixture(autouse=True)
def _identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages say which run and node they are of, which Flower's processes set when they begin."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def record(arrays: Arrays) -> ArrayRecord:
    return ArrayRecord({name: Array(x) for name, x in arrays.items()})


def arrays_of(sent: ArrayRecord) -> Arrays:
    return {name: x.numpy() for name, x in sent.items()}


def model(dtype: str = "float32") -> Arrays:
    rng = np.random.default_rng(0)
    return {"w": rng.normal(size=(3, 4)).astype(dtype), "b": rng.normal(size=4).astype(dtype)}


def client(node: int, number: int, arrays: Arrays) -> Arrays:
    """A model that depends on the one received, the round and the node."""
    rng = np.random.default_rng([node, number])
    return {k: (0.9 * x + 0.1 * rng.normal(size=x.shape)).astype(x.dtype) for k, x in arrays.items()}


class Grid:
    """Nodes 1, 2 and 3 in this process, with 10, 20 and 30 examples; replies come in turned order in odd rounds."""

    def __init__(self, train: Client = client, weight: float = 10) -> None:
        self.train, self.weight, self.rounds = train, weight, []

    def get_node_ids(self) -> list[int]:
        return [1, 2, 3]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        replies = sorted(map(self.reply, messages), key=lambda x: x.metadata.src_node_id)
        return replies[::-1] if self.rounds and self.rounds[-1] % 2 else replies

    def reply(self, message: Message) -> Message:
        node, number = message.metadata.dst_node_id, int(message.content["config"]["server-round"])
        self.rounds.append(number)
        try:
            trained = self.train(node, number, arrays_of(message.content["arrays"]))
        except RuntimeError as error:
            return Message(Error(1, str(error)), reply_to=message)
        metrics = MetricRecord({"num-examples": self.weight * node})
        return Message(RecordDict({"arrays": record(trained), "metrics": metrics}), reply_to=message)


def run(strategy: Any, rounds: int = 4, grid: Grid | None = None, start: Arrays | None = None) -> Arrays:
    done = strategy.start(grid or Grid(), record(start or model()), num_rounds=rounds)
    return arrays_of(done.arrays)


def fedopt(optimizer: Any, **words: Any) -> FedOpt:
    return FedOpt(optimizer, fraction_evaluate=0.0, **words)


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
    from scirs2_adapters import get

    words, step = RULES[name]
    result = run(fedopt(get(name)(**words)), 5, start=model("float64"))
    expected = transcribed(step, 5)
    for key, x in expected.items():
        np.testing.assert_allclose(result[key], x, rtol=1e-12, atol=1e-14)


def test_sgd_of_rate_one_is_fedavg() -> None:
    from scirs2_adapters.core import SGD

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


@pytest.mark.parametrize("optimizer", ["adam", "lion", "muon", "adafactor", "lookahead", "adamw"])
def test_a_run_goes_on_after_a_crash_to_the_same_bits(optimizer: str, tmp_path: Path) -> None:
    rate = schedules.Cosine(init_value=0.1, end_value=0.0, steps=6)
    whole = run(fedopt(optimizer, learning_rate=rate), 6)

    def crashing(node: int, number: int, arrays: Arrays) -> Arrays:
        if number == 4:
            raise KeyboardInterrupt
        return client(node, number, arrays)

    with pytest.raises(KeyboardInterrupt):
        run(fedopt(optimizer, learning_rate=rate, state=tmp_path / "state"), 6, Grid(crashing))
    grid = Grid()
    resumed = run(fedopt(optimizer, learning_rate=rate, state=tmp_path / "state"), 6, grid)
    assert sorted(set(grid.rounds)) == [4, 5, 6]
    assert {k: x.tobytes() for k, x in resumed.items()} == {k: x.tobytes() for k, x in whole.items()}
    again = run(fedopt(optimizer, learning_rate=rate, state=tmp_path / "state"), 6, Grid(crashing))
    assert {k: x.tobytes() for k, x in again.items()} == {k: x.tobytes() for k, x in whole.items()}
    assert state.describe(tmp_path / "state").step_count == 6


def test_counts_and_arrays_that_are_named_take_the_mean(tmp_path: Path) -> None:
    start = model() | {"count": np.array(7, np.int64), "bn.running_var": np.ones(4, np.float32)}

    def train(node: int, number: int, arrays: Arrays) -> Arrays:
        return client(node, number, arrays) | {
            "count": np.asarray(arrays["count"] + 1),
            "bn.running_var": np.full(4, 3, "f4"),
        }

    words = {"averaged": ["*.running_var"], "state": tmp_path / "state"}
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

    strategy = fedopt("adam", state=path)
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


def test_a_file_of_another_model_or_optimizer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    run(fedopt("adam", state=path), 1)
    before = path.read_bytes()
    with pytest.raises(ArgumentValueError, match="these names, shapes and dtypes"):
        run(fedopt("adam", state=path), 2, start={"w": np.ones(3, np.float32)})
    with pytest.raises(ValueError, match="adam"):
        run(fedopt(Lion(), state=path), 2)
    assert path.read_bytes() == before


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="optimizer"):
        FedOpt(3)
    with pytest.raises(ArgumentValueError, match="needs no loss"):
        FedOpt("polyaksgd")
    with pytest.raises(ArgumentTypeError, match="averaged"):
        FedOpt("adam", averaged="*.running_mean")


def test_the_round_reaches_clients_and_evaluation() -> None:
    seen: list[int] = []

    def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord:
        seen.append(number)
        return MetricRecord({"loss": 1.0})

    grid = Grid()
    done = FedOpt("adam").start(grid, record(model()), 2, train_config=ConfigRecord(), evaluate_fn=evaluate)
    assert seen == [0, 1, 2]
    assert sorted(done.evaluate_metrics_serverapp) == [0, 1, 2]
