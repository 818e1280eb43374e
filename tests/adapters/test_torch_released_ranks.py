"""Gradients released on two ranks: FSDP2 steps as usual, and what steps before the sum over the ranks is refused."""

from typing import Any

import pytest

from scirs2_adapters.core import get
from tests.adapters.torch_spread import rounding
from tests.adapters.torch_support import ALL
from tests.adapters.two_ranks import reports
from tests.sampling import asked_for

NAMES = [name for name in ALL if not get(name)().model_slots()]


pytestmark = pytest.mark.sampled_together


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[str, Any]:
    """What both ranks report."""
    first, second = reports(
        "tests.adapters.torch_released_ranks", tmp_path_factory.mktemp("ranks"), asked_for(request, NAMES)
    )
    assert first == second
    return first


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_sharded_parameters_are_stepped_in_backward(name: str, report: dict[str, Any]) -> None:
    cases = report[name]["fully_sharded"]
    assert len(cases) == 3
    for freed, gap, bits_of_usual_steps in cases.values():
        assert freed
        assert gap <= rounding(name)
        assert bits_of_usual_steps


@pytest.mark.slow
@pytest.mark.parametrize("how", ["DistributedDataParallel", "a subclass", "later", "FullyShardedDataParallel"])
def test_steps_before_the_sum_over_the_ranks_are_refused(how: str, report: dict[str, Any]) -> None:
    wrapper = how if how.startswith("Fully") else "DistributedDataParallel"
    assert f"`AdamW.release_gradients` cannot be used with {wrapper}" in report["refused"][how]
