"""An optimizer that is not there, asked of each adapter."""

from __future__ import annotations

from importlib import import_module

import pytest

from tests.boundaries.support import ADAPTERS


@pytest.mark.parametrize("adapter", [a for a in ADAPTERS if a != "hf"])  # which has rules by name and no classes
def test_the_error_names_the_module_as_it_is_typed(adapter: str) -> None:
    module = import_module(f"scirs2_adapters.{adapter}")
    with pytest.raises(AttributeError, match=rf"^module 'scirs2_adapters\.{adapter}' has no attribute 'Addam'"):
        module.Addam  # noqa: B018
