"""The product of triangles in blocks beside the usual product."""

from __future__ import annotations

import numpy as np
import pytest

from scirs2_adapters.core import triangular
from scirs2_adapters.core.step.reference import NUMPY


@pytest.mark.parametrize("size", [1, 7, 8, 20, 64, 65])
def test_blocks_make_up_the_product_and_leave_what_is_below_the_diagonal(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triangular, "BLOCK", 8)
    rng = np.random.default_rng(size)
    x, a, b = (np.triu(rng.normal(size=(size, size))) for _ in range(3))
    copies = x.copy(), a.copy(), b.copy()
    product = NUMPY.trmm(x, a, b, -0.3)
    np.testing.assert_allclose(product, x - 0.3 * a @ b, rtol=1e-13, atol=1e-13)
    assert np.array_equal(np.tril(product, -1), np.zeros((size, size)))
    assert all(map(np.array_equal, (x, a, b), copies))
