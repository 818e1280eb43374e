"""What `match` changes, and what it must leave alone."""

import numpy as np
import pytest

from scirs2_adapters import get
from scirs2_adapters.core import Adam, HostOptimizer, Lookahead


@pytest.mark.parametrize("name", ["adam", "adamw", "lamb"])
def test_optax_corrects_the_second_moment_without_amsgrad_too(name: str) -> None:
    """optax takes AMSGrad's maximum of corrected moments; without AMSGrad there is no maximum, and one correction."""
    ends = []
    for match in (None, "optax"):
        params = {"w": np.array([1.0, -2.0, 3.0])}
        HostOptimizer(get(name)(weight_decay=0.0, match=match), params).step({"w": np.array([0.1, -0.2, 0.3])})
        ends.append(params["w"])
    assert np.allclose(*ends, rtol=0, atol=1e-15)


def test_a_wrapper_hands_match_to_a_base_that_is_a_rule_already() -> None:
    asked = Lookahead(Adam(), match="optax")
    assert asked.match == asked.base.match == "optax"
    assert Lookahead(Adam(match="keras"), sync_period=2).match == "keras"


def test_a_wrapper_can_be_given_another_match_and_none() -> None:
    changed = Lookahead("adam").replace(match="optax")
    assert changed.base == Adam(match="optax")
    assert changed.replace(learning_rate=0.5).match == "optax"
    assert changed.replace(match=None).base == Adam()


def test_a_wrapper_refuses_a_match_that_its_base_does_not_have() -> None:
    with pytest.raises(ValueError, match="keras"):
        Lookahead(Adam(), match="numpy")
