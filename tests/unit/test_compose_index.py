"""Which index a configuration asks for."""

from pathlib import Path

import pytest

from gateway.compose_archive import open_index
from gateway.config import Config, ConfigError
from storage.index.postgres import PostgresIndex
from storage.index.sqlite import SqliteIndex
from tests.contract.pack_samples import KeptDocuments
from tests.postgres import Postgres


def opened(data: Path, url: str) -> object:
    index = open_index(Config.model_validate({"data": data, "index": {"url": url}}), KeptDocuments())
    index.check()
    index.close()
    return type(index)


def test_a_file_unless_a_server_is_named(tmp_path: Path, postgres: Postgres) -> None:
    assert opened(tmp_path, "") is SqliteIndex
    assert (tmp_path / "index.sqlite").exists()
    assert opened(tmp_path, postgres.empty_index()) is PostgresIndex


@pytest.mark.parametrize("url", ["postgresql://me:secret@db1/imaging", "postgresql://me@db1/imaging?password=secret"])
def test_a_password_does_not_stand_in_the_url(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="PGPASSWORD") as caught:
        opened(tmp_path, url)
    assert "secret" not in str(caught.value)
