"""The verbs of the command `scirs2`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .check import check
from .drift import drift
from .listing import list_
from .output import failed, make, matplotlib_is_here, tables
from .report import report
from .serve import serve
from .state import app as state

app = typer.Typer(no_args_is_help=True, add_completion=False, help="One optimizer, five frameworks.")
console = Console()
#: Arguments of `scirs2_adapters.export.export` as `scirs2 export` takes them.
_TYPED = {"rule": "name", "dtypes": "--dtypes", "target": "--target"}
app.add_typer(state, name="state")
app.command(name="list")(list_)
app.command()(check)
app.command()(drift)
app.command()(serve)
app.command()(report)


@app.command()
def demo(
    adapters: Annotated[str, typer.Option(help="Adapters by comma: torch,tf,jax,sklearn,hf. All by default.")] = "",
    output: Annotated[Path, typer.Option(help="Folder for the figure and the trajectories.")] = Path("demo-output"),
    quick: Annotated[bool, typer.Option("--quick", help="A few steps, to see that it runs.")] = False,
    optimizers: Annotated[
        str, typer.Option(help='Optimizers by comma, or "all": train the digits with each, and compare accuracies.')
    ] = "",
) -> None:
    """Train real models in five frameworks with the same optimizer; prints a table and saves a figure."""
    matplotlib_is_here("demo")
    from scirs2_adapters.demo.catalogue import ADAPTERS, dense
    from scirs2_adapters.demo.data import MODULES, Settings
    from scirs2_adapters.demo.run import run, run_catalogue

    wanted = _chosen("adapters", adapters, list(ADAPTERS if optimizers else MODULES))
    trained = _chosen("optimizers", "" if optimizers == "all" else optimizers, dense())
    make(output)
    settings = Settings(str(output), steps=40, text_steps=12, rounds=5) if quick else Settings(str(output))
    reports = run_catalogue(trained, wanted, settings, console)[0] if optimizers else run(wanted, settings, console)
    ran = [report for report in reports if not report.trouble]
    if not ran or any(report.trouble and (adapters or not report.absent) for report in reports):
        raise typer.Exit(1)


def _chosen(option: str, text: str, known: list[str]) -> list[str]:
    """The known names that this comma-separated text has, in our order; all of them if it has none."""
    from scirs2_adapters.core.registry import plain

    wanted = [word.strip() for word in text.split(",") if word.strip()] or known
    if unknown := [word for word in wanted if plain(word) not in known]:
        raise failed(f"`--{option}` must name some of {', '.join(known)}. Received: {unknown[0]!r}.")
    return [word for word in known if word in map(plain, wanted)]


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="An optimizer, as `scirs2 list` names it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the files.")],
    dtypes: Annotated[str, typer.Option(help="Of p, g and each slot, by comma. All float32 by default.")] = "",
    target: Annotated[str, typer.Option(help="native, x86_64, aarch64 or wasm32.")] = "native",
) -> None:
    """Write an optimizer as object files with a C interface, for programs without Python."""
    from scirs2_adapters.export import export as write

    try:
        files = write(name, output, [d.strip() for d in dtypes.split(",") if d.strip()], target)
    except OSError as error:
        worded = f"`--output` must be a folder that can be written. Received: {str(output)!r} ({error})."
        raise failed(worded) from error
    except (ValueError, RuntimeError) as error:
        worded = re.sub(r"`export\((\w+)=\.\.\.\)`", lambda m: f"`{_TYPED.get(m[1], m[1])}`", str(error))
        raise failed(worded) from error
    for path in filter(None, (files.header, files.source, *files.objects, files.library, files.script)):
        console.print(str(path), soft_wrap=True)


@app.command()
def doctor() -> None:
    """Say what is installed, which paths work here, and what would go wrong; ends with 1 if anything does."""
    from scirs2_adapters.adapters import adapters

    from . import deployment
    from . import doctor as examination

    console, facts = tables(), Table.grid(padding=(0, 2))
    for name, value in {**examination.versions(), **examination.kernel()}.items():
        facts.add_row(f"[bold]{name}[/bold]", escape(value))
    console.print(facts)
    table = Table("Adapter", "Host kernel", "Traced", show_lines=True)
    works, troubles = False, deployment.troubles()
    with console.status("stepping once in every adapter"):
        for adapter in map(examination.examine, adapters()):
            works |= adapter.works
            troubles += deployment.runtimes(adapter.name, adapter.loaded)
            answers = [adapter.missing, ""] if adapter.missing else [adapter.host or "works", adapter.traced or "works"]
            table.add_row(adapter.name, *(escape(a) for a in answers))
    console.print(table)
    for trouble in troubles:
        console.print(f"[bold]Would go wrong:[/bold] {escape(str(trouble))}", soft_wrap=True)
    if troubles or not works:
        raise typer.Exit(1)
