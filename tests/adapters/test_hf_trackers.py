"""What `OptimizerMonitor` logs is in the files that transformers writes for TensorBoard, spaces as underscores."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event
from transformers import Trainer

from scirs2_adapters.hf import OptimizerMonitor, with_optimizer
from tests.adapters.hf_support import arguments, gpt2, trainer

pytestmark = pytest.mark.usefixtures("one_thread")


def events(file: Path) -> Iterator[Event]:
    """The records of a file: the length in 8 bytes, a checksum of 4, the event, a checksum of 4."""
    data, at = file.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        yield Event.FromString(data[at + 12 : at + 12 + length])
        at += length + 16


def test_tensorboard_has_every_number_at_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))
    cls = with_optimizer(Trainer, "adamw", lr_by={"wte|wpe": 1e-4})
    args = arguments(tmp_path, report_to="tensorboard", weight_decay=0.1)
    made = trainer(gpt2(), args, cls, callbacks=[OptimizerMonitor(every=2, plan=False)])
    made.train()
    (file,) = (tmp_path / "logs").iterdir()
    values = {(value.tag, e.step): value.simple_value for e in events(file) for value in e.summary.value}
    rows = [row for row in made.state.log_history if "optimizer/state_bytes" in row]
    assert [row["step"] for row in rows] == [2, 4]
    for row in rows:
        ours = {key: value for key, value in row.items() if key.startswith("optimizer/")}
        assert len(ours) == 3 * 3 + 2
        for key, value in ours.items():
            assert values[f"train/{key}".replace(" ", "_"), row["step"]] == pytest.approx(value, rel=1e-6), key
    assert ("train/loss", 2) in values
