"""The command `scirs2`: what it prints, and what it says when something is missing or broken."""

import ast
import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

import scirs2_adapters
from scirs2_adapters import cli
from scirs2_adapters.adapters import adapters
from scirs2_adapters.commands import doctor
from scirs2_adapters.commands.app import app
from scirs2_adapters.commands.catalog import rows
from scirs2_adapters.demo import probe
from scirs2_adapters.demo.data import MODULES, Settings
from scirs2_adapters.demo.report import TITLES, Report, Run, gap, measure_gaps, table
from scirs2_adapters.demo.run import run
from scirs2_adapters.demo.timing import paired, side_by_side

ABSENT = "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')"


@pytest.fixture
def broken_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Another `torch` on the path of the processes that the command starts."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text(request.param)
    root = Path(scirs2_adapters.__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{root}")


def printed(*words: str) -> str:
    done = CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


def test_help_lists_the_verbs() -> None:
    text = printed("--help")
    assert all(verb in text for verb in ("demo", "list", "doctor"))


def test_list_names_every_optimizer_with_its_paper() -> None:
    text = printed("list")
    assert all(name in text for name in scirs2_adapters.names())
    assert all(row.paper != "-" for row in rows())


def test_memory_is_counted_by_the_extent_of_slots() -> None:
    memory = {row.name: row.memory for row in rows()}
    assert (memory["adafactor"], memory["adamw"], memory["sgd"]) == ("n + m", "2 nm", "0")


def test_slots_that_only_some_settings_ask_for_stand_in_parentheses() -> None:
    slots = {row.name: row.slots for row in rows()}
    assert slots["adam"] == "exp_avg exp_avg_sq (max_exp_avg_sq)"


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_demo_extra_the_command_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert str(caught.value).startswith(
        f"The command `scirs2` needs {missing}, which is not installed. Install it with "
    )
    assert 'pip install ".[demo]"' in str(caught.value)


def test_an_unknown_adapter_is_refused_by_name() -> None:
    done = CliRunner().invoke(app, ["demo", "--adapters", "torch,caffe"])
    assert done.exit_code == 1
    assert "Received: 'caffe'" in done.stderr


@pytest.mark.parametrize("adapter", adapters())
def test_the_examination_has_a_step_for_every_adapter(adapter: str) -> None:
    tree = ast.parse((Path(probe.__file__).parent / f"{MODULES[adapter]}.py").read_text())
    assert "step_once" in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def test_the_demo_and_the_examination_know_every_adapter() -> None:
    assert set(MODULES) == set(TITLES) == set(adapters())


def test_the_examination_steps_for_real() -> None:
    adapter = doctor.examine("sklearn")
    assert (adapter.missing, adapter.host, adapter.traced) == (None, None, None)
    assert adapter.works


@pytest.mark.parametrize("broken_torch", [ABSENT], indirect=True, ids=["absent"])
@pytest.mark.usefixtures("broken_torch")
def test_the_examination_says_what_to_install() -> None:
    adapter = doctor.examine("torch")
    assert not adapter.works
    assert 'pip install "scirs2[torch]"' in str(adapter.missing)


@pytest.mark.parametrize("broken_torch", ["import os; os.abort()"], indirect=True, ids=["aborts"])
@pytest.mark.usefixtures("broken_torch")
def test_a_framework_that_crashes_is_reported_and_does_not_take_the_examination_along() -> None:
    adapter = doctor.examine("torch")
    assert str(adapter.missing).startswith("its process ended with -")


def test_an_unwritable_cache_directory_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SCIRS2_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert "not writable" in doctor.kernel()["cache directory"]


def test_a_user_without_a_home_has_a_cache_directory_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    monkeypatch.delenv("SCIRS2_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert "not writable" in doctor.kernel()["cache directory"]


def test_a_cache_directory_that_may_not_be_looked_into_is_not_writable(monkeypatch: pytest.MonkeyPatch) -> None:
    def exists(self: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", exists)
    assert "Permission denied" in doctor._writable(Path("/somebody/else"))


def test_a_cache_directory_yet_to_be_made_is_writable_and_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCIRS2_CACHE_DIR", str(tmp_path / "a" / "b"))
    assert "(writable, 0 kernels kept)" in doctor.kernel()["cache directory"]
    assert list(tmp_path.iterdir()) == []


def test_a_gap_is_a_distance_by_the_length_of_the_whole_path() -> None:
    reference = np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 9.0]])
    other = reference + np.array([[0.0, 0.0], [0.0, 0.5], [1.0, 0.0]])
    assert gap(other, reference).tolist() == [0.05, 0.1]


def test_each_problem_has_a_reference_of_its_own(tmp_path: Path) -> None:
    def made(adapter: str, kind: str, end: float) -> Run:
        file = tmp_path / f"{adapter}-{kind}.npy"
        np.save(file, np.array([[0.0], [end]]))
        return Run(adapter, "adamw", kind, trajectory=str(file))

    reports = [
        Report("torch", [made("torch", "ours", 1.0), made("torch", "own", 1.25)]),
        Report("hf", [made("hf", "reference", 4.0), made("hf", "ours", 5.0)]),
    ]
    assert measure_gaps(reports) == "torch"
    gaps = {(r.adapter, r.kind): r.gap if r.gap is None else float(r.gap.max()) for f in reports for r in f.runs}
    assert gaps == {("torch", "ours"): None, ("torch", "own"): 0.25, ("hf", "reference"): None, ("hf", "ours"): 0.25}


def test_an_adapter_that_could_not_run_has_its_row() -> None:
    out = io.StringIO()
    reports = [Report("jax", trouble="not there", absent=True), Report("tf", trouble="died")]
    Console(file=out, width=120).print(table(reports))
    assert "not installed" in out.getvalue()
    assert "failed" in out.getvalue()


def test_the_table_can_be_read_in_80_columns() -> None:
    out = io.StringIO()
    one = Report("tf", counterparts={"adamw": "keras.optimizers.AdamW"}, path="host", ratios={"adamw": 0.25})
    one.runs = [Run("tf", "adamw", kind, [], 0.1234, 0.9876, "file", np.zeros(1)) for kind in ("ours", "own")]
    Console(file=out, width=80).print(table([one, Report("sklearn", trouble="died")]))
    shown = ("keras.optimizers.AdamW", "scikit-learn", "host kernel", "0.1234", "98.76%", "same bits", "0.25")
    assert [cell for cell in shown if cell not in out.getvalue()] == []


def test_an_output_that_cannot_be_made_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = CliRunner().invoke(app, ["demo", "--output", str(tmp_path / "file")])
    assert done.exit_code == 1
    assert "`--output` must be a folder that can be made." in done.output


def test_functions_are_timed_in_turn() -> None:
    order: list[str] = []
    times = side_by_side([lambda: order.append("a"), lambda: order.append("b")], rounds=2, repeat=2)
    assert "".join(order[6:]) == "aabb" + "bbaa"
    assert [len(column) for column in times] == [2, 2]


def test_the_ratio_is_ours_by_theirs() -> None:
    assert paired(lambda: None, lambda: sum(range(20_000)), rounds=9).ratio < 1


@pytest.mark.slow
def test_the_demo_trains_along_one_path_and_saves_a_figure(tmp_path: Path) -> None:
    out = io.StringIO()
    settings = Settings(str(tmp_path), steps=30, text_steps=4, rounds=2)
    reports = run(["torch", "sklearn"], settings, Console(file=out, width=140))
    assert [f.trouble for f in reports] == ["", ""]
    ours = [r for f in reports for r in f.runs if r.kind == "ours"]
    assert [(r.adapter, r.optimizer) for r in ours] == [(r, o) for r in ("torch", "sklearn") for o in ("adamw", "lion")]
    assert all(r.gap is not None and r.gap.max() < 2e-6 for r in ours if r.adapter != "torch")
    last = out.getvalue().strip().splitlines()[-1]
    assert last == f"Figure: {tmp_path / 'demo.png'}"
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken_torch", "absent", "why"),
    [(ABSENT, True, "pip install"), ("raise OSError('libtorch.so is broken')", False, "libtorch.so is broken")],
    indirect=["broken_torch"],
    ids=["absent", "broken"],
)
@pytest.mark.usefixtures("broken_torch")
def test_the_demo_goes_on_without_an_adapter_and_says_why(tmp_path: Path, absent: bool, why: str) -> None:
    out = io.StringIO()
    torch, sklearn = run(["torch", "sklearn"], Settings(str(tmp_path), steps=4, rounds=1), Console(file=out, width=140))
    assert torch.absent is absent
    assert why in torch.trouble
    assert not sklearn.trouble
    assert f"PyTorch: {torch.trouble}" in out.getvalue()  # whole: `[torch]` is no style of the console's
    assert "Figure: " in out.getvalue()
