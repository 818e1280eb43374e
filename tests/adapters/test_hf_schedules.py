"""The core's schedules and those of transformers give the same numbers, to the last step of theirs.

Beyond it theirs may rise again. With `min_lr_ratio`, their warm-up of a WSD begins at that ratio too, and ours at 0.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from transformers import (
    get_cosine_schedule_with_warmup,
    get_inverse_sqrt_schedule,
    get_linear_schedule_with_warmup,
    get_wsd_schedule,
)

from scirs2_adapters.core import schedules as s
from tests.adapters.test_torch_schedules import rates

wsd = partial(get_wsd_schedule, num_warmup_steps=5, num_stable_steps=10, num_decay_steps=15)
PAIRS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "inverse square root": (s.Warmup(s.InverseSqrt(0.3, 20), 10), lambda o: get_inverse_sqrt_schedule(o, 10, 20)),
    "cosine": (s.Warmup(s.Cosine(0.3, 25), 5), lambda o: get_cosine_schedule_with_warmup(o, 5, 30)),
    "linear": (s.Warmup(s.Linear(0.3, 25), 5), lambda o: get_linear_schedule_with_warmup(o, 5, 30)),
    "wsd, linear": (s.WSD(0.3, 5, 10, 15), partial(wsd, decay_type="linear")),
    "wsd, cosine": (s.WSD(0.3, 5, 10, 15, decay="cosine"), partial(wsd, decay_type="cosine")),
    "wsd, 1-sqrt": (s.WSD(0.3, 5, 10, 15, decay="1-sqrt"), partial(wsd, decay_type="1-sqrt")),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_a_schedule_is_that_of_transformers(kind: str) -> None:
    ours, make = PAIRS[kind]
    np.testing.assert_allclose([ours(t) for t in range(31)], rates(make, 31), rtol=1e-12, atol=1e-16)
