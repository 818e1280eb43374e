"""The verbs of `scirs2 state`: what is in a file of an optimizer's state, another form of it, and two of them compared.

They end with 0 if all is well or nothing differs, 1 if something differs, and 2 for input that cannot be used.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Column, Table

from scirs2_adapters.core.matrix import INPUTS_FIRST, OUTPUTS_FIRST
from scirs2_adapters.core.portable import convert as converting
from scirs2_adapters.core.portable.file import Progress as Told
from scirs2_adapters.core.portable.file import once, refused
from scirs2_adapters.core.portable.layouts import layout_of
from scirs2_adapters.core.portable.state import State, loaded, numbers_in
from scirs2_adapters.core.portable.state import save as save_state
from scirs2_adapters.core.registry import get

from .output import tables

app = typer.Typer(no_args_is_help=True, help="Optimizer state in files: show, convert, diff.")
#: How the kernels of each target lie; numpy's stay as they are.
TARGETS = {"torch": OUTPUTS_FIRST, "optax": INPUTS_FIRST, "keras": INPUTS_FIRST, "numpy": ""}
_BAD = 2
#: Tables without lines, which leave more room for names.
_PLAIN: Mapping[str, Any] = {"box": None, "pad_edge": False, "padding": (0, 2, 0, 0)}
#: An argument in errors of the functions that do the work, and what it is called here.
_CALL = re.compile(r"`scirs2 (?:state \w+|drift)\((\w+)=\.\.\.\)`")
_TYPED = {"path": "FILE", "layout": "--layout", "rule": "--rule", "names": "--names", "tolerance": "--tolerance"}
Rule = Annotated[str, typer.Option(help="The optimizer, where the file does not say.")]


@app.command()
def show(file: Path, rule: Rule = "") -> None:
    """Print what is in a file: the optimizer and each slot with its shape, dtype and norm."""
    with reported(), _opened("scirs2 state show", file, rule) as state:
        console, facts = tables(), Table.grid(padding=(0, 2))
        for key, value in state.facts.items():
            if value != "-":
                facts.add_row(f"[bold]{key}[/bold]", escape(value))
        table = Table(Column("Parameter", overflow="fold"), "Slot", "Shape", "Dtype", "Norm", "Steps", **_PLAIN)
        for name, p in state.parameters.items():
            for slot, x in p.slots.items():
                norm = f"{np.linalg.norm(numbers_in(p, slot)):.6g}"
                table.add_row(escape(name), slot, str(list(x.shape)).replace("[", "\\["), x.dtype, norm, str(p.steps))
            if not p.slots:
                table.add_row(escape(name), "", "", "", "", str(p.steps))
        console.print(facts, "", table)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A file of scirs2.state, torch, Keras, flax or orbax.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Ends in .pt for a state dict of torch's.")],
    to: Annotated[str, typer.Option(help="torch, optax, keras or numpy.")],
    names: Annotated[Path | None, typer.Option(help="JSON: names in IN to names in OUT.")] = None,
    layout: Annotated[str, typer.Option(help="How kernels lie in IN, if IN does not say: torch, keras, flax.")] = "",
    rule: Rule = "",
) -> None:
    """Write the state with kernels and names as another framework has them, one array at a time."""
    call = "scirs2 state convert"
    with reported(), _opened(call, source, rule) as state:
        if to not in TARGETS:
            raise ValueError(f"`--to` must be one of {', '.join(TARGETS)}. Received: {to!r}.")
        _check_target(target, to)
        state = replace(state, layout=layout_of(call, layout or None) or state.layout)
        state = converting.converted(call, state, TARGETS[to], names_in(names))
        with _progress("writing", sum(x.nbytes for x in state.arrays.values())) as told:
            _writer(target)(state, target, told)


def _writer(target: Path) -> Callable[[State, Path, Told], None]:
    """What writes files of this name."""
    if target.suffix == ".pt":
        writer: Callable[[State, Path, Told], None] = import_module("scirs2_adapters.adapters.torch.files").write
        return writer
    return save_state


def _check_target(target: Path, to: str) -> None:
    """Refuse a place where no such file can be written, before the work is done."""
    if target.suffix == ".pt" and to != "torch":
        raise ValueError(f"`OUT` ends in .pt, which is torch's. Received: --to {to}.")
    if target.suffix in _ENDINGS:
        way_out = "Name it .safetensors; `scirs2_adapters.state.load` puts it into an optimizer of any framework."
        raise ValueError(f"`OUT` must not end in {target.suffix}, which its own framework writes. {way_out}")
    if target.is_dir() or not target.parent.is_dir():
        raise ValueError(f"`OUT` must be a file in a folder that there is. Received: {str(target)!r}.")


@app.command()
def diff(one: Path, other: Path, rule: Rule = "") -> None:
    """Print where two files differ, by name and slot, with the largest difference; ends with 1 if they do."""
    call, differing = "scirs2 state diff", 0
    with reported(), _opened(call, one, rule) as a, _opened(call, other, rule) as b:
        table = Table(Column("Where", overflow="fold"), "Largest difference", **_PLAIN)
        for place, largest, reason in converting.differences(a, b):
            table.add_row(escape(place), escape(reason) or f"{largest:.6g}")
            differing += 1
        if differing:
            tables().print(table)
    if differing:
        raise typer.Exit(1)


def names_in(path: Path | None) -> dict[str, str]:
    """The names in a JSON file."""
    if path is None:
        return {}
    try:
        names, why = json.loads(path.read_text(), object_pairs_hook=once), "of another form"
    except (OSError, ValueError) as error:
        names, why = None, str(error)
    if not isinstance(names, dict) or not all(isinstance(x, str) for x in names.values()):
        worded = "must be a file with a JSON object from name to name"
        raise ValueError(f"`--names` {worded}. Received: {str(path)!r} ({why}).")
    return names


@contextlib.contextmanager
def _opened(call: str, path: Path, rule: str) -> Iterator[State]:
    """The state in a file of ours, or of a framework."""
    path, framework = _kind(path)
    if framework:
        module = import_module(f"scirs2_adapters.adapters.{framework}.files")
        yield module.read(call, path, rule or None)
        return
    with contextlib.ExitStack() as stack:
        with _progress("checking", os.path.getsize(path)) as told:
            state = stack.enter_context(loaded(call, path, told))
        if rule and state.rule != get(rule).name:
            raise refused(call, str(path), f"this one is of {state.full_name}, and not of {rule}")
        yield state


#: What files of others begin with, or are called. Folders of the Trainer and of accelerate have one of these files.
_MAGIC = {b"\x89HDF": "tf", b"PK\x03\x04": "torch", b"\x80\x02\x8a\n": "torch"}
_ENDINGS = {".keras": "tf", ".h5": "tf", ".msgpack": "jax"}
_IN_FOLDERS = re.compile(r"optimizer(_\d+)?\.(pt|bin)")
_OF_DEEPSPEED = ("zero", "latest_universal", "zero_to_fp32.py")
_OF_ORBAX = ("_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt", "checkpoint")


def _kind(path: Path) -> tuple[Path, str]:
    """The file that is meant, and the adapter that reads it; none for ours."""
    if path.is_dir():
        return _in_folder(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    if (framework := _ENDINGS.get(path.suffix)) is not None:
        return path, framework
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return path, "tf" if "config.json" in archive.namelist() else "torch"
    with path.open("rb") as file:
        return path, _MAGIC.get(file.read(4), "")


def _in_folder(path: Path) -> tuple[Path, str]:
    """The file in a folder, or the folder itself where it is one of orbax."""
    inside = sorted(x.name for x in path.iterdir())
    files = [name for name in inside if _IN_FOLDERS.fullmatch(name)]
    if len(files) > 1:
        raise ValueError(
            f"The folder {str(path)!r} must have one optimizer's file in it. It has {', '.join(files)}: name one."
        )
    if files:
        return path / files[0], "torch"
    if {*_OF_DEEPSPEED} & {*inside} or any(name.endswith("_optim_states.pt") for name in inside):
        return path, "torch"
    inner = sorted(x.name for x in path.iterdir() if x.is_dir() and any((x / name).exists() for name in _OF_ORBAX))
    if "_METADATA" not in inside and len(inner) == 1:  # of a manager of checkpoints, or of one of several items
        return _in_folder(path / inner[0])
    if "_METADATA" not in inside and inner:
        raise ValueError(
            f"The folder {str(path)!r} must have one checkpoint in it. It has {', '.join(inner)}: name one."
        )
    if {*_OF_ORBAX} & {*inside}:
        return path, "jax"
    worded = "must have optimizer.pt or optimizer.bin in it, or be one of DeepSpeed or orbax"
    has = ", ".join(inside[:8]) + ", ..." * (len(inside) > 8)
    raise ValueError(f"The folder {str(path)!r} {worded}. It has {has or 'nothing'}.")


@contextlib.contextmanager
def _progress(label: str, total: int) -> Iterator[Told]:
    """A bar for files that take a while."""
    with Progress(console=Console(stderr=True), transient=True, disable=total < 1 << 28) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.update(task, advance=count)


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Errors of input as a sentence, and 2."""
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError) as error:
        _end(_CALL.sub(lambda call: f"`{_TYPED.get(call[1], call[1])}`", str(error)))


def _end(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(_BAD)
