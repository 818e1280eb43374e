"""Federated learning with Flower: `FedOpt`, a server strategy that steps the global model by any rule.

In each round the clients train from the global model `x` and send their models back. With `m` the mean of these,
weighted by numbers of examples, the server takes one step of the optimizer from `x` with the gradient `x - m`
(Reddi et al., Adaptive Federated Optimization, https://arxiv.org/abs/2003.00295). `SGD(learning_rate=1.0)` is FedAvg.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from scirs2_adapters.core.errors import bad_type, bad_value, require

require("flower", {"flwr": ("Flower", "1.42")})

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord  # noqa: E402
from flwr.serverapp import Grid  # noqa: E402
from flwr.serverapp.exception import AggregationError  # noqa: E402
from flwr.serverapp.strategy import FedAvg, Result  # noqa: E402

from scirs2_adapters.core import HostOptimizer, Rule  # noqa: E402
from scirs2_adapters.core.numpy_evaluation import evaluation_params  # noqa: E402
from scirs2_adapters.core.numpy_rules import Groups, Schedule, schedule_of  # noqa: E402
from scirs2_adapters.core.portable import file, host  # noqa: E402
from scirs2_adapters.core.portable import state as portable  # noqa: E402
from scirs2_adapters.core.portable.fit import Asked  # noqa: E402

__all__ = ["FedOpt"]

_CALL = "FedOpt"
#: What a file has beside the optimizer's memory and the model: how many rounds are done.
_ROUNDS = "server_rounds"

Arrays = dict[str, np.ndarray]


class FedOpt(FedAvg):
    """FedAvg whose server steps by any optimizer: with `m` the clients' weighted mean, the gradient is `x - m`.

    Arguments:
      optimizer: a rule such as `Adam(learning_rate=0.1)`, or its name. One that needs the loss or evaluates the model
        is refused: the server has no data.
      learning_rate: None is the rule's; else a number, one of `scirs2_adapters.core.schedules`, or another function of
        the number of steps taken before. The server takes one step a round.
      groups: arrays with other hyperparameters, as `[{"params": ["bias"], "weight_decay": 0.0}]`.
      averaged: patterns of the names of arrays that take the clients' mean and no step, such as
        `["*.running_mean", "*.running_var"]`. Arrays that are not of floats always do, rounded.
      path: a file for the global model, the optimizer's memory and the number of rounds. It is written before the first
        round and replaced after each one, whole or not at all. `start` goes on from it if it is there.
      fedavg: the arguments of Flower's `FedAvg`, such as `fraction_train` or `min_available_nodes`.

    Shapes and dtypes of the model stay what they are; the memory has the dtype of its array. With an optimizer that
    evaluates an average (schedule-free, `SWA`, `WeightEMA`), evaluations and the result have the average. Raises
    Flower's `AggregationError`, before anything is changed, if a round has no results or a client sends other names or
    shapes, or numbers that are not finite.

    >>> from scirs2_adapters.core import Adam
    >>> from scirs2_adapters.flower import FedOpt
    >>> strategy = FedOpt(Adam(learning_rate=0.1), min_available_nodes=2)
    """

    def __init__(
        self,
        optimizer: Rule | str,
        *,
        learning_rate: float | Schedule | None = None,
        groups: Groups = (),
        averaged: Sequence[str] = (),
        path: str | os.PathLike[str] | None = None,
        **fedavg: Any,
    ) -> None:
        super().__init__(**fedavg)
        if not isinstance(optimizer, Rule | str):
            raise bad_type(_CALL, "optimizer", "must be a rule such as Adam(), or its name", optimizer)
        rule, self._rate = schedule_of(_CALL, optimizer, learning_rate)
        if rule.needs_value or rule.needs_closure:
            worded = "must be a rule that steps by gradients alone"
            raise bad_value(_CALL, "optimizer", worded, rule, "The server has neither a loss nor data.")
        if isinstance(averaged, str) or not all(isinstance(x, str) for x in averaged):
            raise bad_type(_CALL, "averaged", 'must be a list of patterns such as ["*.running_mean"]', averaged)
        self._rule, self._groups, self._averaged = rule, groups, tuple(averaged)
        self.path = None if path is None else Path(path)
        #: Rounds that are done, those before a restart too; and those that were done when this run began.
        self.rounds, self._before = 0, 0
        self.optimizer: HostOptimizer | None = None
        self._model: Arrays = {}
        self._written: tuple[int, int] | None = None

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Train until `num_rounds` rounds are done, those in the file included; rounds count on from there."""
        self._begin(initial_arrays)
        self._written = None
        if self.path is not None and self.path.exists():
            self._restore(self.path)
        self._save()
        self._before = before = self.rounds
        left = max(0, num_rounds - before)
        evaluate = evaluate_fn and (lambda number, now: evaluate_fn(number + before, self._evaluated(now)))
        arrays = _record(self._model)
        result = super().start(grid, arrays, left, timeout, train_config, evaluate_config, evaluate)
        result.arrays = self._evaluated(_record(self._model))
        for name in ("train_metrics_clientapp", "evaluate_metrics_clientapp", "evaluate_metrics_serverapp"):
            setattr(result, name, {number + before: x for number, x in getattr(result, name).items()})
        return result

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The messages of a round of training, from the model that the step will be taken from."""
        if self.optimizer is None:
            self._begin_inside(arrays)
        for name, x in arrays.items():
            self._model[name][...] = x.numpy()
        return super().configure_train(server_round + self._before, arrays, config, grid)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The messages of a round of evaluation."""
        return super().configure_evaluate(server_round + self._before, self._evaluated(arrays), config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The model after the optimizer's step, and the mean of the metrics."""
        if self.fraction_train == 0.0:
            return None, None
        number = server_round + self._before
        ordered = sorted(replies, key=self._place)
        self._check(number, ordered)
        mean, metrics = super().aggregate_train(number, ordered)
        assert mean is not None
        self._step({name: x.numpy() for name, x in mean.items()})
        self.rounds = number
        self._save()
        return _record(self._model), metrics

    def _begin(self, arrays: ArrayRecord) -> None:
        """Before the first round."""
        self._model = {name: np.array(x.numpy()) for name, x in arrays.items()}
        for pattern in self._averaged:
            if not any(fnmatchcase(name, pattern) for name in self._model):
                raise bad_value(_CALL, "averaged", f"must match names of arrays, of {list(self._model)}", pattern)
        stepped = {name: x for name, x in self._model.items() if self._is_stepped(name, x)}
        self.optimizer = HostOptimizer(self._rule, stepped, learning_rate=self._rate, groups=self._groups)
        self.rounds = self._before = 0

    def _begin_inside(self, arrays: ArrayRecord) -> None:
        """Begin in another strategy, such as one of differential privacy, which counts rounds and changes the model."""
        if self.path is not None:
            way_out = "Call `start` of FedOpt itself to go on after a crash."
            raise bad_value(_CALL, "path", "must be None inside another strategy", str(self.path), way_out)
        if self._rule.evaluation is not None:
            worded = "must be a rule that evaluates what it trains, inside another strategy"
            raise bad_value(_CALL, "optimizer", worded, self._rule, "That strategy has no part in the average.")
        self._begin(arrays)

    def _is_stepped(self, name: str, x: np.ndarray) -> bool:
        named = any(fnmatchcase(name, pattern) for pattern in self._averaged)
        return not named and x.dtype.kind not in "biu"

    def _evaluated(self, arrays: ArrayRecord) -> ArrayRecord:
        """What is evaluated in place of the model after a step: an average, of an optimizer that has one."""
        if self._rule.evaluation is None or self.optimizer is None:
            return arrays
        return _record(self._model | {str(name): x for name, x in evaluation_params(self.optimizer).items()})

    def _step(self, mean: Arrays) -> None:
        assert self.optimizer is not None
        stepped = {str(name) for name in self.optimizer.params}
        self.optimizer.step({name: np.asarray(self._model[name] - mean[name], mean[name].dtype) for name in stepped})
        for name in self._model.keys() - stepped:
            x = self._model[name]
            x[...] = mean[name] if x.dtype.kind not in "biu" else np.rint(mean[name])

    def _place(self, reply: Message) -> tuple[bool, bytes, str]:
        """Where a reply stands in the mean. Sums of floats depend on the order, so it is one of what the replies hold:
        they come as they come, and nodes have other numbers after a restart.
        """
        if reply.has_error():
            return True, reply.metadata.src_node_id.to_bytes(8), ""
        digest = hashlib.sha256()
        for record in reply.content.array_records.values():
            for name in sorted(record):
                digest.update(record[name].data)
        return False, digest.digest(), str([x[self.weighted_by_key] for x in self._weighted(reply)])

    def _check(self, number: int, replies: list[Message]) -> None:
        """Refuse a round before anything is changed."""
        valid = [reply for reply in replies if not reply.has_error()]
        if not valid:
            failed = "; ".join(f"node {x.metadata.src_node_id}: {x.error.reason}" for x in replies)
            raise AggregationError(f"Round {number} must have the result of a client. Received: {failed or 'none'}.")
        for reply in valid:
            for record in reply.content.array_records.values():
                self._check_arrays(f"Round {number}, node {reply.metadata.src_node_id}:", record)
        weights = [x[self.weighted_by_key] for reply in valid for x in self._weighted(reply)]
        if not all(np.isfinite(w) and w >= 0 for w in weights) or (weights and sum(weights) <= 0):
            worded = f"`{self.weighted_by_key}` of the clients must be numbers >= 0, not all 0"
            raise AggregationError(f"Round {number}: {worded}. Received: {weights}.")

    def _weighted(self, reply: Message) -> list[MetricRecord]:
        """The metrics with a single weight; Flower says what is wrong with others."""
        return [
            x for x in reply.content.metric_records.values() if isinstance(x.get(self.weighted_by_key), int | float)
        ]

    def _check_arrays(self, where: str, record: ArrayRecord) -> None:
        if record.keys() != self._model.keys():
            missing, other = sorted(self._model.keys() - record.keys()), sorted(record.keys() - self._model.keys())
            worded = "the arrays must be those of the global model"
            raise AggregationError(f"{where} {worded}. Received: without {missing}, with {other}.")
        for name, array in record.items():
            x, expected = array.numpy(), self._model[name]
            if x.shape != expected.shape:
                raise AggregationError(f"{where} `{name}` must have shape {expected.shape}. Received: {x.shape}.")
            if x.dtype != expected.dtype:
                raise AggregationError(f"{where} `{name}` must have dtype {expected.dtype}. Received: {x.dtype}.")
            if not np.isfinite(x).all():
                count = x.size - np.count_nonzero(np.isfinite(x))
                raise AggregationError(f"{where} `{name}` must be finite. Received: {count} of {x.size} are not.")

    def _save(self) -> None:
        """Write the optimizer's state, the model and the rounds, if there is to be a file. A server that was taken for
        dead stops here, instead of writing over what another one has done since.
        """
        if self.path is None or self.optimizer is None:
            return
        if self._written and self.path.exists() and _mark(self.path) != self._written:
            worded = "was written by another server since the last round, which goes on in place of this one"
            raise AggregationError(f"`{self.path}` {worded}. Name another file for a run of its own.")
        state = host.with_parameters(host.read(self.optimizer), _stored(self._model))
        portable.save(replace(state, numbers={**state.numbers, _ROUNDS: float(self.rounds)}), self.path)
        self._written = _mark(self.path)

    def _restore(self, path: Path) -> None:
        """The model, the memory and the rounds in a file, all of them or nothing."""
        assert self.optimizer is not None
        with portable.loaded(_CALL, path) as saved:
            model = {n: p.slots[host.PARAMETER] for n, p in saved.parameters.items() if host.PARAMETER in p.slots}
            if _forms(model) != _forms(_stored(self._model)) or _ROUNDS not in saved.numbers:
                worded = "must be a file that FedOpt wrote for a model of these names, shapes and dtypes"
                way_out = "Name another file, or remove this one to begin anew."
                raise bad_value(_CALL, "path", worded, str(path), way_out)
            arrays = {name: x.read() for name, x in model.items()}
            state, _ = host.apart(saved)
            memory = {str(name): state.parameters[str(name)] for name in self.optimizer.params}
            host.load(self.optimizer, replace(state, parameters=memory), Asked(_CALL, True, {}, None))
        self.rounds = int(saved.numbers[_ROUNDS])
        for name, x in arrays.items():
            self._model[name][...] = x


def _record(arrays: Arrays) -> ArrayRecord:
    return ArrayRecord({name: Array(x) for name, x in arrays.items()})


def _mark(path: Path) -> tuple[int, int]:
    """What is another one when the file was replaced."""
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns


def _stored(arrays: Arrays) -> dict[str, file.Array]:
    """Arrays as a file has them: whole numbers and truth values, of any width, in 64 bits."""
    whole = {name: x.astype(np.int64) if x.dtype.kind in "biu" else x for name, x in arrays.items()}
    return {name: file.held(x, x.dtype.name) for name, x in whole.items()}


def _forms(arrays: Mapping[str, file.Array]) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (x.shape, x.dtype) for name, x in arrays.items()}
