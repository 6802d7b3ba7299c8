"""The `gateway` command: each subcommand is one file here, with one function that is registered below.

The command speaks to people (rich) and to machines (`--json`). Exit status 0: done; 1: not all of it; 2: not at all.
"""

import typer

from gateway.cli.check_config import check_config
from gateway.cli.serve import serve
from gateway.cli.token import token

app = typer.Typer(
    name="gateway",
    help="A DICOMweb imaging archive: C-STORE and STOW-RS in, QIDO-RS and WADO-RS out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(name="serve")(serve)
app.command(name="check-config")(check_config)
app.command(name="token")(token)
