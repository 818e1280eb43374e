"""Which adapters there are: the folders beside this file; a new framework is a new folder and no list to edit."""

from pathlib import Path


def adapters() -> tuple[str, ...]:
    """Names of the adapters, sorted; none of them is imported."""
    return tuple(sorted(file.parent.name for file in Path(__file__).parent.glob("*/__init__.py")))
