"""What the tests of Flower's strategy share: clients that are called in this process, by Flower's messages."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from scirs2_adapters.flower import FedOpt

Arrays = dict[str, np.ndarray]
Client = Callable[[int, int, Arrays], Arrays]


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
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

    def __init__(self, train: Client = client, weight: float = 10, nodes: tuple[int, ...] = (1, 2, 3)) -> None:
        self.train, self.weight, self.rounds, self.nodes = train, weight, [], nodes

    def get_node_ids(self) -> list[int]:
        return [1, 2, 3]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        replies = sorted(map(self.reply, messages), key=lambda x: x.metadata.src_node_id)
        return replies[::-1] if self.rounds and self.rounds[-1] % 2 else replies

    def reply(self, message: Message) -> Message:
        node = self.nodes[message.metadata.dst_node_id - 1]
        number = int(message.content["config"]["server-round"])
        self.rounds.append(number)
        try:
            trained = self.train(node, number, arrays_of(message.content["arrays"]))
        except RuntimeError as error:
            return Message(Error(1, str(error)), reply_to=message)
        metrics = MetricRecord({"num-examples": self.weight * node})
        return Message(RecordDict({"arrays": record(trained), "metrics": metrics}), reply_to=message)


def bits(arrays: Arrays) -> dict[str, tuple[str, bytes]]:
    return {name: (x.dtype.name, x.tobytes()) for name, x in arrays.items()}


def run(strategy: Any, rounds: int = 4, grid: Grid | None = None, start: Arrays | None = None) -> Arrays:
    done = strategy.start(grid or Grid(), record(start or model()), num_rounds=rounds)
    return arrays_of(done.arrays)


def fedopt(optimizer: Any, **words: Any) -> FedOpt:
    return FedOpt(optimizer, fraction_evaluate=0.0, **words)


def crashing_at(crash: int) -> Client:
    """A client on which the server ends in a round."""

    def train(node: int, number: int, arrays: Arrays) -> Arrays:
        if number == crash:
            raise KeyboardInterrupt
        return client(node, number, arrays)

    return train
