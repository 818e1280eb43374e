"""Writes whatever follows from the declarations: type stubs, tables of README and docs, docs/optimizers.md. `make gen`.

`python docs/generate.py` writes; with `--check` it writes nothing and fails if a file is not what it would write. Each
adapter is looked at in a process of its own (adapter_facts.py), since two frameworks in one process get in each other's
way.
"""

import argparse
import difflib
import functools
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# Before what is installed, which may be another checkout's package: its tables would be written here.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import catalogue
import pages
import stubs
import versions

from scirs2_adapters.adapters import adapters

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "scirs2_adapters"
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow", "HF_HUB_OFFLINE": "1", "JAX_PLATFORMS": "cpu"}


def facts(script: str, adapter: str) -> dict[str, Any]:
    """What a script prints of an adapter, as JSON: its stub and its spelling of fields, or bytes."""
    answers: dict[str, Any] = printed(adapter, str(ROOT / "docs" / script), adapter)
    return answers


def keras_tests() -> str:
    """The part about Keras' own tests. Which backend counts them makes no difference; numpy is there at once."""
    return str(printed("tf", "-m", "tests.adapters.keras_suite", KERAS_BACKEND="numpy"))


def printed(adapter: str, *command: str, **variables: str) -> Any:
    """What a process that needs this adapter prints as JSON."""
    environment = {**os.environ, **QUIET, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"The adapter {adapter} cannot be looked at; `make setup` installs every framework.\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def between_markers(text: str, part: str, body: str) -> str:
    """`text` with what stands between a part's markers replaced."""
    opened, closed = f"<!-- generated:{part} -->", f"<!-- /generated:{part} -->"
    return re.sub(rf"{opened}.*?{closed}", lambda _: f"{opened}\n{body}\n{closed}", text, flags=re.DOTALL)


def generated() -> dict[Path, str]:
    """Every generated file with the text it should have."""
    with ThreadPoolExecutor(2) as pool:
        made = pool.map(functools.partial(facts, "adapter_facts.py"), adapters())
        weighed = pool.submit(facts, "memory_facts.py", "torch")
        tested = pool.submit(keras_tests)
        by_adapter = dict(zip(adapters(), made, strict=True))
    spelling = {adapter: answers["spelling"] for adapter, answers in by_adapter.items()}
    refused = {adapter: answers["refusals"] for adapter, answers in by_adapter.items() if answers["refusals"]}
    readme = (ROOT / "README.md").read_text()
    readme = between_markers(readme, "optimizers", pages.summary_table())
    readme = between_markers(readme, "tested", pages.tested_table())
    memory = (ROOT / "docs/memory.md").read_text()
    for part, table in pages.memory_tables(weighed.result()).items():
        memory = between_markers(memory, part, table)
    proofs = (ROOT / "docs/catalogue.md").read_text()
    for part, body in catalogue.parts(refused, by_adapter["torch"]["cuda"]).items():
        proofs = between_markers(proofs, part, body)
    tested_versions = ROOT / "docs/versions.md"
    files = {
        tested_versions: between_markers(tested_versions.read_text(), "versions", versions.matrix()),
        PACKAGE / "core/__init__.pyi": stubs.core(),
        ROOT / "docs/optimizers.md": pages.optimizers(spelling),
        ROOT / "docs/catalogue.md": proofs,
        ROOT / "docs/memory.md": memory,
        ROOT / "docs/tf.md": between_markers((ROOT / "docs/tf.md").read_text(), "keras-tests", tested.result()),
        ROOT / "README.md": readme,
    }
    return files | {
        PACKAGE / f"adapters/{adapter}/__init__.pyi": answers["stub"] for adapter, answers in by_adapter.items()
    }


def stale(files: dict[Path, str]) -> list[str]:
    """What would change, as a unified diff."""
    diff = []
    for path, text in files.items():
        old = path.read_text() if path.exists() else ""
        name = path.relative_to(ROOT).as_posix()
        diff += difflib.unified_diff(old.splitlines(), text.splitlines(), name, f"{name} (fresh)", lineterm="", n=1)
    return diff


def main() -> None:
    parser = argparse.ArgumentParser(description="Write stubs and tables anew.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is stale")
    check = parser.parse_args().check
    files = generated()
    changes = stale(files)
    if check and changes:
        sys.exit("\n".join([*changes[:80], "Generated files are stale: run `make gen`."]))
    if not check:
        for path, text in files.items():
            path.write_text(text)
    for line in catalogue.missing():
        print(line)
    print(f"{len(files)} generated files are {'fresh' if check or not changes else 'written'}.")


if __name__ == "__main__":
    main()
