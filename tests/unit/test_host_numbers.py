"""`HostOptimizer` and parameters that are a single number, without an axis."""

import ml_dtypes
import numpy as np
import pytest

from scirs2_adapters import names
from scirs2_adapters.core import HostOptimizer, get
from tests.conformance.options import brisk


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_a_single_number_is_stepped_as_a_vector_of_one(name: str, dtype: str) -> None:
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    rule = get(name)(**brisk(get(name)))  # with first steps that 16 bits hold
    single, vector = (HostOptimizer(rule, {"p": np.full(shape, 1.5, kind)}) for shape in ((), (1,)))
    for step in range(3):
        for optimizer in (single, vector):
            optimizer.step({"p": np.full(optimizer.params["p"].shape, 0.25 + step, kind)})
    np.testing.assert_array_equal(single.params["p"].reshape(1), vector.params["p"], strict=True)
    for slot, x in single.state.get("p", {}).items():
        np.testing.assert_array_equal(x.reshape(-1), vector.state["p"][slot].reshape(-1), strict=True)
