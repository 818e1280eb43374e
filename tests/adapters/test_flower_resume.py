"""Flower's strategy goes on from its file after a crash, to the same bits, or says why it does not.

Flower pins other versions than the common set: `make test-flower` has an environment for it and runs this file. The
messages are Flower's; the grid that carries them calls the clients in this process.
"""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower has an environment to itself: make test-flower")

from flwr.serverapp.exception import AggregationError

from scirs2_adapters import state
from scirs2_adapters.core import Lion, get, names, schedules
from scirs2_adapters.core.errors import ArgumentValueError
from tests.adapters.flower_support import Arrays, Grid, bits, client, crashing_at, fedopt, identity, model, run  # noqa: F401

#: Rules that the server can step by: gradients are all that it has. `sparseadam` takes those of some rows only.
STEPPED = [
    name for name in names() if not get(name).needs_closure and not get(name)().needs_value and name != "sparseadam"
]


@pytest.mark.parametrize("optimizer", STEPPED)
def test_a_run_goes_on_after_a_crash_to_the_same_bits(optimizer: str, tmp_path: Path) -> None:
    rate = schedules.Cosine(init_value=0.1, end_value=0.0, steps=6)
    whole = run(fedopt(optimizer, learning_rate=rate), 4)
    for crash in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            run(fedopt(optimizer, learning_rate=rate, path=tmp_path / "state"), 4, Grid(crashing_at(crash)))
    grid = Grid(nodes=(3, 1, 2))  # nodes have other numbers after a restart
    resumed = run(fedopt(optimizer, learning_rate=rate, path=tmp_path / "state"), 4, grid)
    assert sorted(set(grid.rounds)) == [3, 4]
    assert bits(resumed) == bits(whole)
    again = run(fedopt(optimizer, learning_rate=rate, path=tmp_path / "state"), 4, Grid(crashing_at(0)))
    assert bits(again) == bits(whole)
    assert state.describe(tmp_path / "state").step_count == 4


def test_a_crash_in_the_first_round_keeps_the_first_model(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(fedopt("adam", path=tmp_path / "state"), 2, Grid(crashing_at(1)))
    other = {name: x + 1 for name, x in model().items()}
    assert bits(run(fedopt("adam", path=tmp_path / "state"), 2, start=other)) == bits(run(fedopt("adam"), 2))


def test_a_server_that_was_taken_for_dead_stops(tmp_path: Path) -> None:
    """Another one has gone on from its file: each would write over what the other has done."""

    def train(node: int, number: int, arrays: Arrays) -> Arrays:
        if (node, number) == (1, 2):
            run(fedopt("adam", path=tmp_path / "state"), 3)
        return client(node, number, arrays)

    with pytest.raises(AggregationError, match="was written by another server"):
        run(fedopt("adam", path=tmp_path / "state"), 3, Grid(train))
    assert state.describe(tmp_path / "state").step_count == 3


def test_a_path_that_cannot_be_written_is_an_error_before_the_first_round(tmp_path: Path) -> None:
    grid = Grid()
    with pytest.raises(FileNotFoundError):
        run(fedopt("adam", path=tmp_path / "none" / "state"), 1, grid)
    assert grid.rounds == []


WHOLE = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


@pytest.mark.parametrize("dtype", WHOLE)
def test_arrays_of_whole_numbers_go_on_after_a_crash(dtype: str, tmp_path: Path) -> None:
    start = model() | {"whole": np.array([0, 1, 1], dtype)}

    def same(node: int, number: int, arrays: Arrays) -> Arrays:
        return client(node, number, arrays) | {"whole": arrays["whole"]}

    run(fedopt("adam", path=tmp_path / "state"), 1, Grid(same), start)
    resumed = run(fedopt("adam", path=tmp_path / "state"), 2, Grid(same), start)
    assert bits({"whole": resumed["whole"]}) == bits({"whole": start["whole"]})


def test_a_file_of_another_model_or_optimizer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    run(fedopt("adam", path=path), 1)
    before = path.read_bytes()
    with pytest.raises(ArgumentValueError, match="these names, shapes and dtypes"):
        run(fedopt("adam", path=path), 2, start={"w": np.ones(3, np.float32)})
    with pytest.raises(ValueError, match="adam"):
        run(fedopt(Lion(), path=path), 2)
    assert path.read_bytes() == before
