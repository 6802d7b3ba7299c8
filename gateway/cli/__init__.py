"""The `gateway` command: each subcommand is one file here, with one function that bears its name.

The command speaks to people (rich) and to machines (`--json`). Exit status 0: done; 1: not all of it; 2: not at all.
"""

from importlib import import_module

import typer
from typer.core import TyperGroup

_COMMANDS = ("serve", "store", "search", "seal", "verify", "reindex", "export", "token", "check-config")


class _Commands(TyperGroup):
    """Imports a subcommand when it is asked for: a search need not wait for the libraries of a server."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return list(_COMMANDS)

    def get_command(self, ctx: typer.Context, name: str):  # type: ignore[no-untyped-def,override]
        if name not in _COMMANDS:
            return None
        word = name.replace("-", "_")
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command(name=name)(getattr(import_module(f"gateway.cli.{word}"), word))
        return typer.main.get_command(alone)


app = typer.Typer(
    name="gateway",
    cls=_Commands,
    help="A DICOMweb imaging archive: C-STORE and STOW-RS in, QIDO-RS and WADO-RS out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def gateway() -> None:
    """A DICOMweb imaging archive: C-STORE and STOW-RS in, QIDO-RS and WADO-RS out."""
