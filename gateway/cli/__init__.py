"""The `gateway` command: each subcommand is one file here, with one function that bears its name.

The command speaks to people (rich) and to machines (`--json`). Exit status 0: done; 1: not all of it; 2: not at all.
"""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

# What the list of commands says of each: the first sentence of its own help.
COMMANDS = {
    "serve": "Receive by C-STORE and STOW-RS, answer QIDO-RS and WADO-RS, until SIGTERM or Ctrl-C.",
    "store": "Store DICOM files; after a run that was not complete, run it again to send only the rest.",
    "search": "Search studies, series or instances.",
    "seal": "Seal series now, beside a running gateway or without it.",
    "verify": "Read every object (packs, loose ones, copies), beside a running gateway or without it.",
    "reindex": "Rebuild the index from packs and loose objects alone.",
    "export": "Write every instance of a study as it was received, under numbers; the gateway may run or not.",
    "delete": "Delete a study, a series or an instance with all its versions, beside a running gateway or without it.",
    "token": "Make a bearer token.",
    "check-config": "Check a configuration file together with the environment.",
}


class _Command(TyperCommand):
    """A subcommand of which the name and a line are known; imported when it is run: neither a search nor the list of
    commands need wait for the libraries of a server.
    """

    def make_context(self, *given: Any, **named: Any) -> Any:
        assert self.name is not None
        return _imported(self.name).make_context(*given, **named)


def _imported(name: str) -> Any:
    word = name.replace("-", "_")
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command(name=name)(getattr(import_module(f"gateway.cli.{word}"), word))
    return typer.main.get_command(alone)


class _Commands(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, name: str) -> _Command | None:
        return _Command(name, help=COMMANDS[name]) if name in COMMANDS else None


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
