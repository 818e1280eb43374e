"""The command `scirs2 check` and the pytest option: what they print, how they end, and what they load."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from scirs2_adapters.check.outcome import Outcome, SubjectError
from scirs2_adapters.check.report import Report, lines
from scirs2_adapters.check.run import COMMON, FRAMEWORKS, check
from scirs2_adapters.check.subject import find, keywords
from scirs2_adapters.commands.app import app
from tests.boundaries.support import HEAVY, PROJECT, ROOT, fresh

OUTCOMES = (
    Outcome("state.resume", "It resumes.", seconds=0.25),
    Outcome("constructor.nan_rate", "NaN is refused.", expected="an error", came="an optimizer with lr=nan <&>"),
    Outcome("running.threads", "The same bits.", why="threads are set before"),
)
PLUGIN = PROJECT["project"]["entry-points"]["pytest11"]["scirs2"]
ESTIMATOR = "sklearn.linear_model:SGDRegressor"


def of_torch(params: object) -> None:
    """As torch's optimizers are made."""


def run(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["check", *words])
    return done.exit_code, done.stdout, done.stderr


def test_arguments_are_read_as_python_writes_them() -> None:
    assert keywords("lr=0.1,betas=(0.9,0.99),name='a,b'") == {"lr": 0.1, "betas": (0.9, 0.99), "name": "a,b"}
    assert keywords("") == {}


@pytest.mark.parametrize("text", ["0.1", "lr", "lr=", "lr=f(1)", "**{'lr': 1}", "lr=1)", "lr=1,lr=2", "lr=1); (x"])
def test_what_is_no_argument_is_refused(text: str) -> None:
    with pytest.raises(SubjectError, match=r"^`--with` must be arguments as Python has them"):
        keywords(text)


@pytest.mark.parametrize(
    ("text", "why"), [("lr=fast", "(fast is no literal; a text is 'fast')"), ("lr=f(1)", "(f(1) is no literal)")]
)
def test_a_value_that_is_no_literal_is_quoted(text: str, why: str) -> None:
    with pytest.raises(SubjectError) as refused:
        keywords(text)
    assert str(refused.value).endswith(f"{why}.")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"framework": "torc"}, "`framework` must"),
        ({"framework": "sklearn", "against": "adamm"}, "`against` must"),
        ({"framework": "sklearn", "arguments": "lr"}, "`arguments` must"),
    ],
)
def test_from_python_errors_name_the_arguments_of_python(words: dict[str, str], named: str) -> None:
    with pytest.raises(SubjectError, match=f"^{named}"):
        check(ESTIMATOR, **words)


@pytest.mark.parametrize(
    "path",
    ["json", "json:", ":loads", "no_such_module:A", "json:Nothing", "json:__name__", "json.py:loads", "/json:loads"],
)
def test_what_cannot_be_found_is_refused(path: str) -> None:
    with pytest.raises(SubjectError):
        find(path)


def test_a_module_that_exits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "exits_here.py").write_text("raise SystemExit(0)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SubjectError, match="cannot be imported"):
        find("exits_here:A")


def test_a_report_says_what_was_expected_and_what_came() -> None:
    text = "\n".join(line for outcome in OUTCOMES for line in lines(outcome))
    assert "pass  state.resume " in text
    assert "FAIL  constructor.nan_rate " in text
    assert "expected: an error\n      came:     an optimizer with lr=nan <&>" in text
    assert "n/a   running.threads " in text
    assert "(threads are set before)" in text
    assert Report("a:B", "torch", OUTCOMES).summary() == "a:B in torch: 1 passed, 1 failed, 1 not applicable"


def test_lines_of_a_narrow_terminal_go_on_below_their_text() -> None:
    many = "a few words that say what is expected, over and over"
    outcomes = [*OUTCOMES, Outcome("a.long", f"{many} {many}.", f"{many}, {many}", f"{many}; {many}")]
    wide = " ".join(line for outcome in outcomes for line in lines(outcome)).split()
    narrow = [line for outcome in outcomes for line in lines(outcome, 80)]
    assert max(map(len, narrow)) <= 80
    assert " ".join(narrow).split() == wide
    indents = [len(line) - len(line.lstrip()) for line in narrow]
    assert {40, 16} <= set(indents)


def test_a_report_is_junits_xml(tmp_path: Path) -> None:
    Report("a:B", "torch", OUTCOMES).write_junit(tmp_path / "report.xml")
    suite = ElementTree.parse(tmp_path / "report.xml").getroot()[0]
    assert (suite.attrib["tests"], suite.attrib["failures"], suite.attrib["skipped"]) == ("3", "1", "1")
    passed, failed, skipped = suite
    assert len(passed) == 0
    assert "lr=nan <&>" in str(failed[0].text)
    assert skipped[0].attrib["message"] == "threads are set before"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("json", "--framework", "sklearn"), "Received: 'json'"),
        ((ESTIMATOR, "--framework", "caffe"), "must be one of torch, keras, optax, sklearn"),
        ((ESTIMATOR, "--framework", "sklearn", "--with", "x"), "`--with` must be arguments"),
        ((ESTIMATOR, "--framework", "sklearn", "--with", "nothing_like_it=1"), "makes no optimizer of sklearn's"),
        ((ESTIMATOR, "--framework", "sklearn", "--against", "adamm"), "Did you mean `adam`?"),
        ((ESTIMATOR, "--framework", "sklearn", "--against", "x"), "`--against` must name an optimizer of ours"),
        ((ESTIMATOR, "--framework", "sklearn", "--junit", "no/such/folder.xml"), "`--junit` must be a file"),
        (("sklearn.linear_model:SGDRegresor", "--framework", "sklearn"), "Did you mean `SGDRegressor`?"),
        (("tests.unit.test_check:of_torch", "--framework", "sklearn"), "`--framework torch`"),
        (("sys:exit", "--framework", "sklearn"), "makes no optimizer of sklearn's (SystemExit"),
        (("sklearn.svm:SVC", "--framework", "sklearn"), "`partial_fit`"),
    ],
)
def test_what_cannot_be_checked_ends_with_2(words: tuple[str, ...], said: str) -> None:
    code, _, error = run(*words)
    assert code == 2
    assert said in error.replace("\n", " ")


def test_the_command_ends_with_1_where_a_check_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "report.xml"
    code, out, _ = run(ESTIMATOR, "--framework", "sklearn", "--junit", str(file))
    failed = ElementTree.parse(file).getroot()[0].attrib["failures"]
    assert (code == 1) is (failed != "0")
    assert out.splitlines()[-1].startswith(f"{ESTIMATOR} in sklearn: ")
    monkeypatch.setattr("scirs2_adapters.check.checks.sklearn_estimators.check_estimator", lambda *_, **__: [])
    assert run(ESTIMATOR, "--framework", "sklearn")[0] == 0
    assert run(ESTIMATOR, "--framework", "sklearn", "--junit", str(tmp_path))[0] == 2


def test_the_plugin_loads_nothing_but_pytest() -> None:
    code = f"import pytest, sys, {PLUGIN}\nprint(*sorted(({set(HEAVY)} | {{'numpy'}}) & set(sys.modules)))"
    assert fresh(code).stdout.split() == []


def pytest_run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", "-v", "-rs", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)


def test_pytest_runs_each_check_as_a_test(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text("def test_one(): pass\n")
    done = pytest_run(
        tmp_path, "--scirs2-check", ESTIMATOR, "--scirs2-framework", "sklearn", "-k", "resume or test_one or threads"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed, 1 skipped" in done.stdout
    assert "products of matrices are the BLAS library's" in done.stdout


def test_pytest_says_what_cannot_be_checked(tmp_path: Path) -> None:
    done = pytest_run(tmp_path, "--scirs2-check", "json:Nothing")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "`json` has no `Nothing`" in done.stdout + done.stderr
    done = pytest_run(tmp_path, "--scirs2-check", ESTIMATOR, "--scirs2-framework", "torc")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "`--scirs2-framework` must be one of" in done.stdout + done.stderr


def test_without_the_option_pytest_runs_as_ever(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text("import sys\ndef test_one(): assert 'numpy' not in sys.modules\n")
    done = pytest_run(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_the_page_shows_every_check_and_the_pinned_versions() -> None:
    """`python docs/checks.py` writes it anew."""
    page = (ROOT / "docs/checks.md").read_text()
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    for name in ("torch", "keras", "tensorflow", "optax", "jax", "scikit-learn"):
        assert f"{name} {pins[name]}" in page
    shared = {f"`{file}.{name}`" for file, name in _functions(*COMMON)}
    specific = {
        f"`{file.removeprefix(f'{framework}_')}.{name}`"
        for framework, files in FRAMEWORKS.items()
        for file, name in _functions(*files)
    }
    assert [check for check in shared if page.count(f"| {check} |") != len(FRAMEWORKS)] == []
    assert [check for check in specific if page.count(f"| {check} |") < 1] == []
    every = [*COMMON, *(file for files in FRAMEWORKS.values() for file in files)]
    assert [says for says in _sentences(*every) if f" | {says} | " not in page] == []


def _functions(*files: str) -> list[tuple[str, str]]:
    """The names in a file's list of checks, read without importing a framework."""
    texts = {file: (ROOT / f"scirs2_adapters/check/checks/{file}.py").read_text() for file in files}
    lists = {file: text.rpartition("CHECKS = (")[2].partition(")")[0] for file, text in texts.items()}
    return [(file, name.strip()) for file, names in lists.items() for name in names.split(",") if name.strip()]


def _sentences(*files: str) -> Iterator[str]:
    """What each check says, read likewise."""
    for file in files:
        listed = {name for _, name in _functions(file)}
        for node in ast.parse((ROOT / f"scirs2_adapters/check/checks/{file}.py").read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name in listed:
                yield " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
