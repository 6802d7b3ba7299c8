"""The list of commands: what it says, and that it waits for none of their libraries."""

import subprocess
import sys
from importlib import import_module
from inspect import getdoc

import pytest
from typer.testing import CliRunner

from gateway.cli import COMMANDS, app

LOOK = """
import sys
from gateway.cli import app
try:
    app(["--help"])
except SystemExit:
    pass
print(sorted(name for name in sys.modules if name.startswith(("gateway.", "boto", "sqlalchemy", "pydantic"))))
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_told_as_it_tells_of_itself(name: str) -> None:
    word = name.replace("-", "_")
    told = getdoc(getattr(import_module(f"gateway.cli.{word}"), word))
    assert told is not None and told.startswith(COMMANDS[name])
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0 and f"gateway {name}" in result.stdout


def test_the_list_of_commands_imports_none_of_them() -> None:
    lines = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[-1] == "['gateway.cli']"
    assert all(any(name in line for line in lines) for name in COMMANDS)


def test_what_is_no_command_is_refused() -> None:
    assert CliRunner().invoke(app, ["seel"]).exit_code == 2
