"""Every code block of README and docs runs, every docstring's example too, and generated files are what they would be.

A block is ```` ```python ````. The blocks of a page run in order, those of each adapter in a copy of a process that has
imported it and nothing else, as two frameworks in one process get in each other's way. `python file=path` is the text
of that file. `python no-run` is not run, and its first line says why.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from scirs2_adapters import names
from scirs2_adapters.core import with_closure
from tests.boundaries.support import ADAPTERS, ROOT
from tests.preloaded import Preloaded
from tests.sampling import known, taken
from tests.xla import flags

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```python *([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ADAPTER = re.compile(rf"scirs2_adapters\.({'|'.join(ADAPTERS)})\b")
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


class Block(NamedTuple):
    """A code block: the line of its fence, what stands behind `python`, and the code."""

    line: int
    info: str
    code: str

    @property
    def adapter(self) -> str:
        """The adapter it uses; "core" if it uses none."""
        match = ADAPTER.search(self.code)
        return match[1] if match else "core"


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [Block(text[: m.start()].count("\n") + 1, m[1].strip(), m[2]) for m in FENCE.finditer(text)]


@pytest.fixture(scope="module")
def process_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Preloaded]]:
    """The process of an adapter, which has run the lines of the readme that import it."""
    started: dict[str, Preloaded] = {}

    def of(adapter: str) -> Preloaded:
        if adapter not in started:
            log = tmp_path_factory.mktemp(adapter) / "errors"
            quick = {"XLA_FLAGS": flags()} if adapter == "jax" else {}
            started[adapter] = Preloaded("\n".join(readme_lines(adapter)), log, **QUIET, **quick)
        return started[adapter]

    yield of
    for process in started.values():
        process.close()


def readme_lines(adapter: str) -> list[str]:
    """The lines of the readme that import an adapter."""
    return re.findall(rf"from scirs2_adapters\.{adapter} import \w+", PAGES[0].read_text())


CASES = [(page, adapter) for page in PAGES for adapter in dict.fromkeys(b.adapter for b in blocks(page) if not b.info)]


def test_a_file_that_a_page_shows_is_that_file() -> None:
    files = [b for page in PAGES for b in blocks(page) if b.info.startswith("file=")]
    shown = {b.info.removeprefix("file="): b.code for b in files}
    assert shown == {path: (ROOT / path).read_text() for path in shown} != {}


@pytest.mark.slow
@pytest.mark.parametrize(("page", "adapter"), CASES, ids=[f"{p.relative_to(ROOT)}-{adapter}" for p, adapter in CASES])
def test_every_code_block_runs(
    page: Path, adapter: str, process_of: Callable[[str], Preloaded], tmp_path: Path
) -> None:
    sources = [(b.line, b.code) for b in blocks(page) if not b.info and b.adapter == adapter]
    process_of(adapter).run(page.name, tmp_path, sources)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_block_that_is_not_run_says_why(page: Path) -> None:
    for block in blocks(page):
        assert block.info in ("", "no-run") or block.info.startswith("file="), f"{page.name}:{block.line}"
        if block.info == "no-run":
            assert block.code.startswith("# Not run: "), f"{page.name}:{block.line} needs a reason in its first line"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_headings_lead_to_one(page: Path) -> None:
    links = re.findall(r"\]\(((?!\w+:)[^)#\s]*)#([^)\s]+)\)", page.read_text())
    targets = [((page.parent / to).resolve() if to else page, anchor) for to, anchor in links]
    assert [(to.name, anchor) for to, anchor in targets if anchor not in anchors(to)] == []


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_adapter_has_a_page_with_a_block_that_runs(adapter: str) -> None:
    assert (ROOT / f"docs/{adapter}.md", adapter) in CASES


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_the_lines_of_the_readme_can_be_imported(
    adapter: str, process_of: Callable[[str], Preloaded], tmp_path: Path
) -> None:
    assert readme_lines(adapter)
    process_of(adapter).run("README.md", tmp_path, [])


@pytest.mark.parametrize("name", [*names(), *with_closure()])
def test_the_docstring_of_a_rule_has_all_parts_and_its_example_runs(name: str) -> None:
    import doctest

    from scirs2_adapters import get

    rule = get(name)
    text = rule.__doc__ or ""
    assert [p for p in ("Arguments:", "Example:", "Paper:", "Differs from the paper:") if f"\n{p}" not in text] == []
    assert [field for field in rule.fields if f"\n  {field}: " not in text] == []
    example = doctest.DocTestParser().get_doctest(text, {}, name, None, 0)
    assert doctest.DocTestRunner(verbose=False).run(example).failed == 0


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_the_examples_in_the_docstrings_of_an_adapter_run(
    adapter: str, process_of: Callable[[str], Preloaded], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Those of an adapter's optimizers differ in little but names: a sampled run takes some."""
    left_out = known() - {*taken(request, known())}
    code = f"""
import doctest, inspect, scirs2_adapters.{adapter} as adapter
from scirs2_adapters.core.registry import plain
for name in adapter.__all__:
    text = inspect.getdoc(getattr(adapter, name)) or ""
    assert text, name
    if plain(name) not in {left_out}:
        example = doctest.DocTestParser().get_doctest(text, {{}}, name, None, 0)
        assert not doctest.DocTestRunner(verbose=False).run(example).failed, name
"""
    process_of(adapter).run("docstrings", tmp_path, [(0, code)])


@pytest.mark.slow
def test_generated_files_are_fresh(request: pytest.FixtureRequest) -> None:
    if sorted(request.config.getoption("--adapters").split(",")) != sorted(ADAPTERS):
        pytest.skip("the generated pages show every adapter, and not every adapter was asked for")
    command = [sys.executable, str(ROOT / "docs/generate.py"), "--check"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
