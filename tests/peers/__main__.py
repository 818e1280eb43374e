"""`python -m tests.peers` runs the comparisons with peers and with the slow twins, and writes the gaps that they saw to
docs/peers.json: for each optimizer what it was compared with, in how many cases, and the largest gap in float64. It
takes pytest's arguments: with `-k NAME` the others keep what was seen before.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docs/peers.json"
COMPARISONS = ("tests/peers", "tests/conformance/test_reference.py")
FRAMEWORKS = ("torch", "optax", "keras")


def main(argv: list[str]) -> int:
    """Run them, write the file, and say how the tests ended."""
    ended = pytest.main(["-q", "-p", f"{__package__}.noted", *argv, *(str(ROOT / path) for path in COMPARISONS)])
    if ended == 0:
        FILE.write_text(json.dumps(merged(), indent=1) + "\n")
        print(f"Written: {FILE}")
    return int(ended)


def merged() -> dict[str, object]:
    """What was seen now and, of other optimizers, before; and which peers are compared elsewhere."""
    from .noted import SEEN  # which pytest loads itself
    from .test_matches import ELSEWHERE

    before = json.loads(FILE.read_text())["optimizers"] if FILE.is_file() else {}
    elsewhere: dict[str, dict[str, str]] = {}
    for (name, framework), why in ELSEWHERE.items():
        elsewhere.setdefault(name, {})[framework] = why
    optimizers = {name: dict(sorted(peers.items())) for name, peers in sorted((before | SEEN).items())}
    return {"versions": {name: version(name) for name in FRAMEWORKS}, "elsewhere": elsewhere, "optimizers": optimizers}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
