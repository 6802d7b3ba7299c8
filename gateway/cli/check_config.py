"""`gateway check-config`: what the gateway would run with, or what is wrong."""

import json
from pathlib import Path
from typing import Annotated

import typer

from gateway.config import ConfigError, load

INVALID = 2


def check_config(
    config: Annotated[Path | None, typer.Argument(metavar="FILE", help="Configuration file (TOML).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the settings, or the error, as JSON.")] = False,
) -> None:
    """Check a configuration file together with the environment. Exit status 0 when it can be used, else 2."""
    try:
        settings = load(config)
    except ConfigError as error:
        print(json.dumps({"valid": False, "error": str(error)}) if as_json else f"not valid: {error}")
        raise typer.Exit(INVALID) from None
    # Hashes of tokens are no secrets to speak of, but nobody needs them on a screen either.
    shown = settings.in_force.model_dump(mode="json", exclude={"security": {"tokens": {"__all__": {"sha256"}}}})
    if as_json:
        print(json.dumps({"valid": True, "warnings": settings.doubts, "settings": shown}, ensure_ascii=False))
        return
    for doubt in settings.doubts:
        print(f"warning: {doubt}")
    print(f"{config or 'The defaults'}: valid. Settings in force:")
    for section, values in shown.items():
        if isinstance(values, dict):
            print(f"[{section}]")
            for key, value in values.items():
                print(f"  {key} = {json.dumps(value, ensure_ascii=False)}")
        else:
            print(f"{section} = {json.dumps(values, ensure_ascii=False)}")
