"""Gradients released on two ranks: FSDP2 steps as usual, and what steps before the sum over the ranks is refused."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from scirs2_adapters.core import get
from tests.adapters.test_torch_distributed import _wait
from tests.adapters.torch_support import ALL
from tests.boundaries.support import ROOT

NAMES = [name for name in ALL if not get(name)().model_slots()]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What both ranks report."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    ranks = []
    for rank in range(2):
        command = [sys.executable, "-m", "tests.adapters.torch_released_ranks", str(rank), str(folder), *NAMES]
        with (folder / f"log{rank}").open("w") as log:
            ranks.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log))
    _wait(ranks)
    logs = [(folder / f"log{rank}").read_text()[-3000:] for rank in range(2)]
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(logs)
    first, second = (json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2))
    assert first == second
    return dict(first)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_sharded_parameters_are_stepped_in_backward(name: str, found: dict[str, Any]) -> None:
    cases = found[name]["fully_sharded"]
    assert len(cases) == 3
    for freed, gap, bits_of_usual_steps in cases.values():
        assert freed
        assert gap <= 1e-9
        assert bits_of_usual_steps


@pytest.mark.slow
@pytest.mark.parametrize("how", ["DistributedDataParallel", "a subclass", "later", "FullyShardedDataParallel"])
def test_steps_before_the_sum_over_the_ranks_are_refused(how: str, found: dict[str, Any]) -> None:
    wrapper = how if how.startswith("Fully") else "DistributedDataParallel"
    assert f"`AdamW.release_gradients` cannot be used with {wrapper}" in found["refused"][how]
