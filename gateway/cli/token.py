"""`gateway token`: a new bearer token, and the lines of the configuration that let it in."""

import json
from typing import Annotated

import typer

from gateway.security.caller import Right
from gateway.security.tokens import new_token


def token(
    name: Annotated[str, typer.Option(help="Who will use it; the name appears in the audit, the token never does.")],
    rights: Annotated[
        list[Right] | None, typer.Option("--right", help="What it allows; may be repeated. [default: store, read]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make a bearer token. It is shown once; the configuration keeps only its SHA-256."""
    secret, sha256 = new_token()
    allowed = [right.value for right in dict.fromkeys(rights or [Right.STORE, Right.READ])]
    if as_json:
        typer.echo(json.dumps({"token": secret, "name": name, "sha256": sha256, "rights": allowed}))
        return
    typer.echo(f"{secret}\n")
    typer.echo("# Give the token above to its user; add these lines to the configuration:")
    typer.echo("[[security.tokens]]")
    # JSON strings and lists of them are TOML too.
    typer.echo(f"name = {json.dumps(name, ensure_ascii=False)}\nsha256 = {json.dumps(sha256)}")
    typer.echo(f"rights = {json.dumps(allowed)}")
