"""`gateway token`, and the command as a whole."""

import json
import subprocess
import sys
import tomllib

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.config import Config, Security, Token
from gateway.security.caller import Right
from gateway.security.tokens import Tokens


def test_what_is_printed_can_be_pasted_and_lets_the_token_in() -> None:
    result = CliRunner().invoke(app, ["token", "--name", '放射科 "A"', "--right", "read", "--right", "delete"])
    assert result.exit_code == 0
    secret, _, settings = result.stdout.partition("\n")
    security = Security.model_validate(tomllib.loads(settings)["security"])
    assert security.tokens[0].name == '放射科 "A"'
    caller = Tokens(security.tokens).authenticate(f"Bearer {secret}", "192.0.2.1")
    assert caller.rights == {Right.READ, Right.DELETE}
    assert Config.model_validate({"security": security, "web": {"listen": "0.0.0.0:8080"}})


def test_json_for_machines() -> None:
    made = json.loads(CliRunner().invoke(app, ["token", "--name", "pacs", "--json"]).stdout)
    token = Token(name=made["name"], sha256=made["sha256"], rights=frozenset(made["rights"]))
    assert Tokens([token]).authenticate(f"Bearer {made['token']}", "192.0.2.1").identity == "pacs"
    assert made["rights"] == ["store", "read"]


def test_each_token_is_another() -> None:
    made = {CliRunner().invoke(app, ["token", "--name", "x"]).stdout for _ in range(3)}
    assert len(made) == 3


@pytest.mark.parametrize("command", ["serve", "store", "search", "token", "check-config"])
def test_every_command_explains_itself(command: str) -> None:
    overview = CliRunner().invoke(app, [])
    assert command in overview.output
    assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0


def test_an_unknown_command_is_a_usage_error() -> None:
    assert CliRunner().invoke(app, ["delete-everything"]).exit_code == 2


def test_a_search_does_not_wait_for_the_libraries_of_a_server() -> None:
    program = (
        "import sys; from gateway.cli import app, search; "
        "print({'sqlalchemy', 'starlette', 'pynetdicom', 'prometheus_client'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "set()"
