"""The command `scirs2`: see it train, list what there is, and find out why something does not work."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or say which install brings it."""
    try:
        import rich
        import typer
    except ModuleNotFoundError as error:
        if error.name not in ("rich", "typer"):
            raise
        from scirs2_adapters.core.errors import install

        sys.exit(f"The command `scirs2` needs {error.name}, which is not installed. Install it with {install('demo')}.")
    del rich, typer
    from scirs2_adapters.commands.app import app

    app()


if __name__ == "__main__":
    main()
