"""What a type checker makes of README's lines: `tests/typed` is read by mypy, never run."""

import subprocess
import sys

import pytest

from tests.boundaries.support import ADAPTERS, ROOT


@pytest.mark.slow
def test_the_lines_of_the_readme_have_the_types_they_show(request: pytest.FixtureRequest) -> None:
    if sorted(request.config.getoption("--adapters").split(",")) != sorted(ADAPTERS):
        pytest.skip("the lines are of every adapter, and not every adapter was asked for")
    command = [sys.executable, "-m", "mypy", "tests/typed"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr  # 2 is a crash
    ours = [line for line in done.stdout.splitlines() if line.startswith("tests/typed") or ".pyi:" in line]
    assert ours == [], "\n".join(ours)
