#!/usr/bin/env bash
# flwr 1.42.0: FedAdam corrects the bias of Adam's moments in round t as if t + 1 updates had been made.
# Seen: with its defaults and tau=0 the first step, of a round in which every client moves by 1, is 0.0742 and not eta=0.1;
# (1 - 0.9) / (1 - 0.9^2) * sqrt((1 - 0.99^2) / (1 - 0.99)) = 0.742.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check flwr==1.42.0 numpy
FLWR_TELEMETRY_ENABLED=0 FLWR_HOME="$folder" "$folder/venv/bin/python" - <<'PYTHON'
import logging
from importlib.metadata import version

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdam
from flwr.supercore.task_identity import TaskIdentity

logging.disable(logging.INFO)
for name in ("_task_id", "_run_id", "_node_id"):
    setattr(TaskIdentity, name, 1)  # what Flower's processes set when they begin


class Grid:
    def get_node_ids(self) -> list[int]:
        return [1, 2]


strategy = FedAdam(tau=0.0)
start = np.zeros(3)
messages = strategy.configure_train(1, ArrayRecord({"x": Array(start)}), ConfigRecord(), Grid())
content = RecordDict({"arrays": ArrayRecord({"x": Array(start + 1)}), "metrics": MetricRecord({"num-examples": 1})})
arrays, _ = strategy.aggregate_train(1, [Message(content, reply_to=message) for message in messages])
step = arrays["x"].numpy()
print(f"flwr {version('flwr')}, eta {strategy.eta}: the first step is {step}")
assert version("flwr") == "1.42.0"
np.testing.assert_allclose(step, 0.0742, rtol=1e-3)
print("as seen before: the first step of FedAdam is 0.742 of the learning rate, where Adam's is 1")
PYTHON
