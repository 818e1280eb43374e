"""How many launches and copies a step on a CUDA device takes, counted by a stub in the place of the device."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import cuda_steps
from benchmarks.cuda_stub import counted, obstacle, with_kernels
from scirs2_adapters.adapters.torch.executors import kernel, packed
from scirs2_adapters.adapters.torch.executors.packed import Sender
from scirs2_adapters.adapters.torch.executors.triton_text import launches
from scirs2_adapters.core import get
from scirs2_adapters.core.program.recorded import Program, record
from scirs2_adapters.core.slots import Extent, Leaf

SHAPES = [(40, 50), (7,), (0, 3), ()]


def program_of(name: str) -> Program:
    return record(get(name)(), Leaf((40, 50), "float32"))


#: Launches more of rules for matrices: for lines that take a mean over all of their matrix.
OF_LINES = {"came": 2, "adamp": 1}


@pytest.mark.parametrize("name", with_kernels())
def test_a_step_is_one_launch_and_one_more_for_a_sum(name: str) -> None:
    """The last program of a pass finishes its sums. One launch more makes numbers of each tensor where there are no
    sums, and one adds up what is of all tensors.
    """
    program = program_of(name)
    numbers = any(slot.extent is Extent.TENSOR for slot in program.slots)
    expected = 1 + program.levels + (numbers and not program.levels) + program.sums
    assert launches(program) == expected + OF_LINES.get(name, 0)
    assert counted(name, [(40, 50)], {}, rounds=1).launches == launches(program)


@pytest.mark.parametrize("name", ["noisysgd", "muon", "sm3", "soap"])
def test_what_no_kernel_steps_has_a_reason(name: str) -> None:
    assert obstacle(name)


@pytest.mark.parametrize(("name", "expected"), [("adamw", 1), ("nadam", 2), ("lamb", 2)])
def test_a_step_sends_its_coefficients_and_addresses_only_when_gradients_have_moved(name: str, expected: int) -> None:
    counts = counted(name, SHAPES, {}, rounds=3)
    columns = 2 + len(program_of(name).slots)
    assert (counts.launches, counts.copies, counts.moved_copies) == (expected, 1, 1)
    assert counts.moved_sent - counts.sent >= 8 * columns * len(SHAPES)


def test_a_step_with_the_same_coefficients_sends_nothing() -> None:
    counts = counted("sgd", SHAPES, {}, rounds=3)
    assert (counts.launches, counts.copies, counts.sent) == (1, 0, 0)


class Stand:
    """A sender with one batch of two tensors and its stream."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stream, self.capturing = 1, False
        monkeypatch.setattr(packed, "current_stream", lambda device: (self.stream, self.capturing))
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: x)
        self.sender = Sender(torch.device("cpu"))
        self.batch = SimpleNamespace(lists={"items": np.zeros((2, 2), np.int32)})
        self.table = np.array([[16, 32], [48, 72]])

    def send(self, *numbers: Any) -> dict[str, torch.Tensor]:
        rows = np.array([0, 1])
        self.rows = getattr(self, "rows", rows)
        return dict(self.sender.send([self.batch], [self.table], [self.rows], [numbers]).arguments[0])


def test_what_is_sent_is_what_the_kernels_read(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(monkeypatch)
    sent = stand.send(0.1, 0.2)
    assert sent["coefficients"].tolist() == [0.1, 0.2]
    assert sent["table"].tolist() == [16, 32, 48, 72]
    assert sent["rows"].tolist() == [0, 1]
    assert stand.sender.sent is not None
    assert stand.sender.sent.aligned == [(True, False)]
    stand.table[0, 1] = 64  # a gradient has moved
    assert stand.send(0.1, 0.2)["table"].tolist() == [16, 64, 48, 72]
    assert stand.send(0.1, torch.tensor(0.3))["coefficients"].tolist() == pytest.approx([0.1, 0.3])


def test_another_stream_gets_copies_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(monkeypatch)
    before = stand.send(0.1)
    copies = stand.sender.copies
    stand.send(0.1)
    assert stand.sender.copies == copies
    stand.stream = 2
    after = stand.send(0.1)
    assert all(after[name] is not before[name] for name in before)


def test_what_a_captured_step_reads_stays_and_is_not_taken_for_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that is captured is made at the first replay, and not before."""
    stand = Stand(monkeypatch)
    eager = stand.send(0.1)
    stand.stream, stand.capturing = 2, True
    assert stand.send(0.1)["table"] is eager["table"]
    captured = stand.send(0.5)
    assert captured["coefficients"].tolist() == [0.5]
    stand.stream, stand.capturing = 1, False
    again = stand.send(0.5)["coefficients"]
    assert again is not captured["coefficients"]
    assert [dict(sent.arguments[0])["coefficients"].tolist() for sent in stand.sender.kept] == [[0.1], [0.5]]
    assert stand.sender.kept[1].pinned


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would measure this machine's card for minutes")
def test_the_benchmark_without_a_device(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert cuda_steps.main([]) == 2
    assert "--dry-run" in capsys.readouterr().err
    monkeypatch.setattr(cuda_steps, "SIZES", {"4 small": [2000, 7, 60, 1]})
    monkeypatch.setattr(cuda_steps, "with_kernels", lambda: ["nadam", "fromage"])
    assert cuda_steps.main(["--dry-run", "--rounds", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == [get(c.name).name for c in cuda_steps.CASES] + ["fromage"]
    assert cuda_steps.traffic("AdamW") == 28
    assert cuda_steps.traffic("LAMB") == 44
    assert cuda_steps.traffic("Adafactor") == 4 * (3 + 1 + 2 + 1), (
        "p and the gradient twice, it, both, and p is written"
    )
    row = {"ms": 1.0, "host_ms": 0.1, "gigabytes": 4000.0, "of_copy": 0.97, "ours_to_it": 0.5}
    assert cuda_steps.line("AdamW", "s", "ours", row) == "| AdamW | s | ours | 1.000 | 0.100 | 4,000 | 97% | 0.50 |"


def test_a_benchmark_that_is_cut_off_leaves_what_it_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And goes on after what fails."""
    ends: list[Any] = [torch.OutOfMemoryError("too large"), ValueError("other"), KeyboardInterrupt()]

    def measured(case: cuda_steps.Case, sizes: list[int], copy: float) -> dict[str, dict[str, float]]:
        if len(sizes) == 2:
            raise ends.pop(0)
        return {"ours": {"ms": 1.0, "host_ms": 0.1, "ours_to_it": 1.0}}

    for name, value in (("get_device_name", lambda: "a card"), ("empty_cache", lambda: None)):
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(cuda_steps, "SIZES", {"one": [1], "two": [1, 1]})
    monkeypatch.setattr(cuda_steps, "measured", measured)
    monkeypatch.setattr(cuda_steps, "copy_speed", lambda: 4000.0)
    with pytest.raises(KeyboardInterrupt):
        cuda_steps.on_a_card(tmp_path / "cuda.json")
    kept = json.loads((tmp_path / "cuda.json").read_text())
    assert [*kept["cases"]] == ["AdamW, one", "SGD, one", "Lion, one"]
    errors = ["OutOfMemoryError: too large", "ValueError: other"]
    assert kept["left_out"] == dict(zip(["AdamW, two", "SGD, two"], errors, strict=True))
    assert [*tmp_path.iterdir()] == [tmp_path / "cuda.json"]


def test_a_benchmark_without_time_says_what_it_left_out(tmp_path: Path) -> None:
    results = cuda_steps.Results(tmp_path / "cuda.json", time.monotonic() - cuda_steps.LIMIT, {"left_out": {}})
    assert results.take({}, "AdamW, one", dict) == {}
    assert json.loads((tmp_path / "cuda.json").read_text()) == {"left_out": {"AdamW, one": "no time was left"}}


def test_labels_tell_cases_of_one_optimizer_apart() -> None:
    labels = [case.label for case in cuda_steps.CASES]
    assert labels[-2:] == ["Muon", 'Muon(match="torch")']
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("guards", [True, False])
def test_gradients_of_another_form_are_seen(guards: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By torch's comparison, and by ours in the versions that have none."""
    if not guards:
        monkeypatch.setattr(kernel, "TensorGuards", None)
    x = torch.randn(4, 4)
    known = kernel.Forms([x, torch.ones(3)])
    assert known.are_of([torch.zeros(4, 4), torch.ones(3)])
    for other in (x.t(), x.double(), x[:2], torch._neg_view(x), x.reshape(16)):
        assert not known.are_of([other, torch.ones(3)])
    assert not known.are_of([x])
    with torch.autocast("cpu"), torch.inference_mode():
        assert known.are_of([torch.zeros(4, 4), torch.ones(3)])
