"""Which frameworks a run drives: all, or those named by `--rooms torch,jax`. It says so, and fails if one is not there.

A suite that quietly skips an absent framework looks exactly like one that passed.
"""

from importlib.metadata import PackageNotFoundError, version

import pytest

from tests.boundaries.support import DISTRIBUTIONS, ROOMS, frameworks


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rooms", default=",".join(ROOMS), help="rooms to test, by comma (default: all)")


def requested(config: pytest.Config) -> list[str]:
    return [room for room in str(config.getoption("--rooms")).split(",") if room]


def installed(room: str) -> dict[str, str | None]:
    """Distribution -> version, None where it is absent; read from metadata, nothing is imported."""
    found: dict[str, str | None] = {}
    for name in frameworks(room):
        distribution = DISTRIBUTIONS.get(name, name)
        try:
            found[distribution] = version(distribution)
        except PackageNotFoundError:
            found[distribution] = None
    return found


def pytest_configure(config: pytest.Config) -> None:
    unknown = sorted(set(requested(config)) - set(ROOMS))
    absent = [
        f"{room}: {name}" for room in requested(config) if room in ROOMS for name, v in installed(room).items() if not v
    ]
    if unknown or absent:
        raise pytest.UsageError(f"--rooms asks for what is not here: {', '.join(unknown + absent)}")


def pytest_report_header(config: pytest.Config) -> list[str]:
    rows = (f"{room} ({', '.join(f'{name} {v}' for name, v in installed(room).items())})" for room in requested(config))
    return [f"rooms driven: {', '.join(rows)}"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, as deselected, the cases of rooms that were not asked for."""
    wanted = set(requested(config))
    rooms = {item: getattr(item, "callspec", None) and item.callspec.params.get("room") for item in items}  # type: ignore[attr-defined]
    left_out = [item for item, room in rooms.items() if isinstance(room, str) and room in ROOMS and room not in wanted]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]
