"""More threads than the work is worth, so that a test of threads needs no millions of numbers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scirs2_adapters.core.cpu import batch

LITTLE = 1 << 12
SHARES = ("SHARE", "SLOW_SHARE", "REGION_SHARE")


def for_little_work() -> None:
    """From now on, in this process, a thread is started for every few thousand numbers."""
    for name in SHARES:
        setattr(batch, name, LITTLE)


@pytest.fixture(scope="module")
def threads_for_little_work() -> Iterator[None]:
    """The same, in the tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        for name in SHARES:
            patch.setattr(batch, name, LITTLE)
        yield
