"""`python docs/checks.py` runs `scirs2 check` on each framework's own optimizer and on ours, and writes the tables of
docs/checks.md. It takes a few minutes; `--framework NAME` is used by the page's own processes.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

from generate import QUIET, ROOT, between_markers
from pages import table

PAGE = ROOT / "docs/checks.md"
OURS = "scirs2_adapters"
#: What is checked: title of the column, path, rule to walk beside, arguments.
SUBJECTS = {
    "torch": [("torch.optim.AdamW", "torch.optim:AdamW", "adamw", ""), ("ours", f"{OURS}.torch:AdamW", "adamw", "")],
    "keras": [("keras.optimizers.Adam", "keras.optimizers:Adam", "adam", ""), ("ours", f"{OURS}.tf:Adam", "adam", "")],
    "optax": [("optax.adam", "optax:adam", "adam", ""), ("ours", f"{OURS}.jax:adam", "adam", "")],
    "sklearn": [
        ("MLPClassifier", "sklearn.neural_network:MLPClassifier", "", ""),
        ("SGDRegressor", "sklearn.linear_model:SGDRegressor", "", ""),
        ("ours", f"{OURS}.sklearn:MLPClassifier", "", "optimizer='adamw',learning_rate_init=0.001"),
    ],
}
TITLES = {"torch": "PyTorch", "keras": "Keras on TensorFlow", "optax": "optax", "sklearn": "scikit-learn"}
DISTRIBUTIONS = {
    "torch": ("torch",),
    "keras": ("keras", "tensorflow"),
    "optax": ("optax", "jax"),
    "sklearn": ("scikit-learn",),
}

#: Of one check: its name, what must be true, status, what was expected and came, why it does not apply.
Row = tuple[str, str, str, str, str, str]


def facts(framework: str) -> list[list[Row]]:
    """The outcomes of each subject."""
    from scirs2_adapters.check.run import check

    reports = [check(path, framework, against=a, arguments=g) for _, path, a, g in SUBJECTS[framework]]
    return [[(o.name, o.says, o.status, o.expected, o.came, o.why) for o in r.outcomes] for r in reports]


def asked(framework: str) -> list[list[Row]]:
    """The same, from a process that loads this framework alone."""
    environment = {**os.environ, **QUIET, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, "--framework", framework]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{framework} cannot be checked.\n{done.stderr}")
    reports: list[list[Row]] = json.loads(done.stdout.splitlines()[-1])
    return reports


def section(framework: str, reports: list[list[Row]]) -> Iterator[str]:
    """The part of one framework: its table, and each failure."""
    titles = [title for title, *_ in SUBJECTS[framework]]
    named = ", ".join(f"{name} {version(name)}" for name in DISTRIBUTIONS[framework])
    yield f"### {TITLES[framework]}\n\n{named}, Python {platform.python_version()}.\n"
    marks = {"pass": "pass", "FAIL": "**FAIL**", "not applicable": "-"}
    rows = [[f"`{row[0]}`", row[1], *(marks[r[i][2]] for r in reports)] for i, row in enumerate(reports[0])]
    yield table(["check", "what must be true", *titles], rows) + "\n"
    failed = [(title, row) for title, rows in zip(titles, reports, strict=True) for row in rows if row[2] == "FAIL"]
    yield from (f"- {title}, `{row[0]}`: expected {row[3]}; came {row[4]}." for title, row in failed)
    skipped = {row[0]: row[5] for rows in reports for row in rows if row[5]}
    yield from ("", "Not applicable: " + "; ".join(f"`{k}`: {why}" for k, why in skipped.items()) + ".")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--framework", choices=SUBJECTS)
    framework = parser.parse_args().framework
    if framework:
        print(json.dumps(facts(framework)))
        return
    with ThreadPoolExecutor(2) as pool:
        by_framework = dict(zip(SUBJECTS, pool.map(asked, SUBJECTS), strict=True))
    body = "\n\n".join("\n".join(section(name, reports)).strip() for name, reports in by_framework.items())
    PAGE.write_text(between_markers(PAGE.read_text(), "checks", f"\n{body}\n"))


if __name__ == "__main__":
    main()
