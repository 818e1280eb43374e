"""Keras keeps the loss to itself, so an optimizer whose step depends on it is refused when it is made."""

import pytest

from scirs2_adapters import tf as adapter
from scirs2_adapters.core import get
from scirs2_adapters.core.registry import with_value

WORDS = r"must be an optimizer whose step does not depend on the loss, which Keras does not .*scirs2_adapters\.jax"


@pytest.mark.parametrize("name", with_value())
def test_one_that_needs_the_loss_is_refused(name: str) -> None:
    cls = getattr(adapter, get(name).__name__)
    assert cls.__name__ not in adapter.__all__
    with pytest.raises(ValueError, match=rf"`{cls.__name__}` {WORDS}"):
        cls()
    with pytest.raises(ValueError, match=rf"`Lookahead\(base=...\)` {WORDS}"):
        adapter.Lookahead(base=name)
