"""A gateway whose archive hangs opens its doors all the same."""

import socket
from pathlib import Path

import httpx
import pytest

from gateway import compose_archive
from gateway.compose import Role, compose
from gateway.config import Archive, Config, Web


def test_the_doors_are_opened_while_the_archive_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "access")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr(compose_archive, "_LOOK_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connections are accepted, and nothing is ever said
        url = f"s3://bucket?endpoint=http://127.0.0.1:{silent.getsockname()[1]}&read_timeout_seconds=3600"
        config = Config(data=tmp_path, archive=Archive(url=url), web=Web(listen="127.0.0.1:0"))
        gateway = compose(config, Role.WEB)
        try:
            gateway.start()
            assert gateway.web is not None
            answer = httpx.get("http://{}:{}/readyz".format(*gateway.web.address), timeout=60)
            assert "does not answer" in answer.text
        finally:
            gateway.stop(30)
