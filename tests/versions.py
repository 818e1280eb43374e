"""Tests each adapter with the oldest versions it takes, and with the newest: `make test-lowest`, `make test-newest`.

`python tests/versions.py lowest jax tf` makes an environment for each adapter in `.venvs`, anew, with nothing in it but
the adapter's extra and pytest, and runs the core checks there. The floors are read from pyproject.toml. What ran is
written to `scirs2_adapters/commands/versions.json`, for `scirs2 doctor` and for the table of docs/versions.md.
`pinned` runs them in the environment of `make setup`, which has the versions of constraints.txt. Needs Python alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tomllib
import venv
import xml.etree.ElementTree as ElementTree
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "scirs2_adapters/commands/versions.json"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SETS = ("lowest", "pinned", "newest")
CORE = "core"
#: What the tests import besides the adapter's extra.
TOOLS = ("pytest", "pytest-xdist", "hypothesis", "ml_dtypes")
#: The core checks are the files of these parts, where an adapter has them: `tests/adapters/test_<adapter>_<part>.py`.
PARTS = ("check", "contract", "rules", "fit", "words", "kept", "evaluation", "recording", "values", "monitor")
#: Those of the core alone.
CORE_TESTS = ("tests/conformance/test_trajectories.py", "tests/unit/test_host_optimizer.py")
#: What an oldest version needs of packages that it names without an upper bound: scikit-learn 1.6 calls a function that
#: SciPy 1.16 no longer has.
BOUNDS = {"sklearn": ("scipy<1.16",)}
#: What is released beside a package, in versions of its own.
COMPANIONS = {"numba": "llvmlite", "jax": "jaxlib"}
#: What prints the versions of an environment, by the list that `scirs2 doctor` prints.
VERSIONS = "import json; from scirs2_adapters.commands.doctor import versions; print(json.dumps(versions()))"


def adapters() -> list[str]:
    """The core, and every adapter: `all` of the extras names them."""
    (whole,) = PROJECT["optional-dependencies"]["all"]
    return [CORE, *whole.partition("[")[2].rstrip("]").split(",")]


def requirements(which: str, adapter: str) -> list[str]:
    """What pip is to install for a set of versions: the floors as they stand, or names."""
    lines = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"].get(adapter, ())]
    if which == "lowest":
        return [line.replace(">=", "==") for line in lines] + list(BOUNDS.get(adapter, ()))
    return [line.partition(">=")[0] for line in lines]


def tests(adapter: str) -> list[str]:
    """The files of the core checks."""
    if adapter == CORE:
        return list(CORE_TESTS)
    files = (ROOT / f"tests/adapters/test_{adapter}_{part}.py" for part in PARTS)
    return [file.relative_to(ROOT).as_posix() for file in files if file.exists()]


def install(which: str, adapter: str) -> Path:
    """The Python of a fresh environment; of the one there is, for the versions that it is made of."""
    if which == "pinned":
        return ROOT / ".venv/bin/python"
    folder = ROOT / ".venvs" / f"{which}-{adapter}"
    venv.create(folder, clear=True, with_pip=True)
    python = folder / "bin/python"
    command = [python, "-m", "pip", "install", "--quiet", *requirements(which, adapter), *TOOLS]
    subprocess.run(command, cwd=ROOT, check=True)
    return python


def check(python: Path, adapter: str) -> dict[str, int]:
    """How many of the core checks passed, failed and were skipped in an environment."""
    report = python.parents[1] / "report.xml"
    chosen = ["--adapters", "" if adapter == CORE else adapter, "--sample", f"--junit-xml={report}"]
    subprocess.run([python, "-m", "pytest", "-q", "-n", "2", *chosen, *tests(adapter)], cwd=ROOT, check=False)
    return counts(report.read_text())


def counts(report: str) -> dict[str, int]:
    """The counts of a JUnit report: a test whose fixtures fail has failed."""
    suites = list(ElementTree.fromstring(report).iter("testsuite"))
    said = {key: sum(int(s.get(key, 0)) for s in suites) for key in ("tests", "failures", "errors", "skipped")}
    failed = said["failures"] + said["errors"]
    return {"passed": said["tests"] - failed - said["skipped"], "failed": failed, "skipped": said["skipped"]}


def installed(python: Path, adapter: str) -> dict[str, str]:
    """Distribution -> version in an environment, of Python and of what the adapter takes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([python, "-c", VERSIONS], capture_output=True, text=True, env=environment, check=True)
    versions: dict[str, str] = json.loads(done.stdout)
    taken = {"python", *requirements("newest", adapter)}
    taken |= {COMPANIONS[name] for name in taken & COMPANIONS.keys()}
    return {name: text.split()[0] for name, text in versions.items() if name in taken}


def keep(record: dict[str, Any]) -> None:
    """Write down a run in place of the last one of its kind."""
    others = [
        r for r in json.loads(RECORD.read_text()) if (r["adapter"], r["set"]) != (record["adapter"], record["set"])
    ]
    order = adapters()
    runs = sorted([*others, record], key=lambda r: (order.index(r["adapter"]), SETS.index(r["set"])))
    RECORD.write_text("[\n" + ",\n".join(f"  {json.dumps(run)}" for run in runs) + "\n]\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the core checks of adapters with other versions.")
    parser.add_argument("set", choices=SETS)
    parser.add_argument("adapter", nargs="*", choices=[*adapters(), []], help="default: the core and every adapter")
    chosen = parser.parse_args()
    broken = []
    for adapter in chosen.adapter or adapters():
        python = install(chosen.set, adapter)
        result = check(python, adapter)
        of = {"adapter": adapter, "set": chosen.set}
        keep({**of, **result, "versions": installed(python, adapter), "date": f"{date.today()}"})
        print(f"{adapter}, {chosen.set}: {result}")
        broken += [adapter] if result["failed"] or not result["passed"] else []
    if broken:
        sys.exit(f"Checks failed with the {chosen.set} versions of: {', '.join(broken)}.")


if __name__ == "__main__":
    main()
