"""What `match` changes, and what it must leave alone."""

import numpy as np
import pytest

from scirs2_adapters import get
from scirs2_adapters.core import HostOptimizer


@pytest.mark.parametrize("name", ["adam", "adamw", "lamb"])
def test_optax_corrects_the_second_moment_without_amsgrad_too(name: str) -> None:
    """optax takes AMSGrad's maximum of corrected moments; without AMSGrad there is no maximum, and one correction."""
    ends = []
    for match in (None, "optax"):
        params = {"w": np.array([1.0, -2.0, 3.0])}
        HostOptimizer(get(name)(weight_decay=0.0, match=match), params).step({"w": np.array([0.1, -0.2, 0.3])})
        ends.append(params["w"])
    assert np.allclose(*ends, rtol=0, atol=1e-15)
