import json
import tomllib
from pathlib import Path

import pytest
import typer

from gateway.cli.check_config import check_config
from gateway.compose_archive import index_file
from gateway.config import Config, ConfigError, host_and_port, is_loopback, load, place_of

EXAMPLE = Path(__file__).parents[2] / "config" / "gateway.toml"
TOKEN = {"name": "radiology", "sha256": "0" * 64, "rights": ["read"]}
CALLER = {"ae_title": "CT1", "addresses": ["192.0.2.0/24"]}


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    return file


def test_the_example_file_states_every_key_with_its_default() -> None:
    example = tomllib.loads(EXAMPLE.read_text())
    assert load(EXAMPLE, environment={}) == Config()
    for name, field in Config.model_fields.items():
        assert name in example, name
        if isinstance(example[name], dict):
            assert set(example[name]) == set(field.annotation.model_fields), name  # type: ignore[union-attr]


def test_later_sources_win(tmp_path: Path) -> None:
    file = written(tmp_path, '[dimse]\nae_title = "FROMFILE"\nmax_associations = 3\n')
    environment = {"GATEWAY_DIMSE__AE_TITLE": "FROMENV", "GATEWAY_WEB__LISTEN": "127.0.0.1:1", "PATH": "/bin"}
    config = load(file, {"web": {"listen": "127.0.0.1:2"}}, environment)
    assert (config.dimse.ae_title, config.dimse.max_associations, config.web.listen) == ("FROMENV", 3, "127.0.0.1:2")


def test_lists_come_from_the_environment_as_toml() -> None:
    value = '[{ae_title = "CT1", addresses = ["192.0.2.7"]}]'
    (caller,) = load(environment={"GATEWAY_SECURITY__CALLERS": value}).security.callers
    assert caller.addresses == ("192.0.2.7",)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[dimse]\nae_titel = "X"', "did you mean `ae_title`"),
        ("[web]\nport = 80", "unknown key `port` in [web]"),
        ("[dmse]\n", "did you mean `dimse`"),
        ('[dimse]\nae_title = "MORE THAN SIXTEEN CHARS"', "dimse.ae_title"),
        ('[web]\nlisten = "8080"', "HOST:PORT"),
        ("[dimse]\nmax_associations = 0", "dimse.max_associations"),
        ("[web]\nmax_search_results = 10", "default_search_results"),
        ('[spool]\nurl = "/srv/objects"', "spool.url: write it as"),
        ('[spool]\nurl = "file:objects"', "spool.url: write it as"),
        ('[archive]\nurl = "file:srv/packs"', "archive.url: write it as"),
        ('[copies]\nurl = "file://srv/copies"', "copies.url: write it as"),
        ('[archive]\nurl = "s3://bucket?secret=x"', "'secret' is not known"),
        ('[copies]\nurl = "s3://user:secret@bucket"', "credentials do not belong into the URL"),
        ('[archive]\nurl = "file:///srv/packs?region=x"', "archive.url: write it as"),
        ('[index]\nurl = "mysql://host/db"', 'write "postgresql://user@host/database"'),
        ('[index]\nurl = "sqlite:///"', "[index] url: write a file as"),
        ('[index]\nurl = "sqlite:////srv/index?mode=ro"', "[index] url: write a file as"),
        ('[copies]\nurl = "file:///srv/a"\n[archive]\nurl = "file:///srv/x/../a/"', "copies must be kept elsewhere"),
        ('data = "/srv"\n[copies]\nurl = "file:///srv/archive"', "copies must be kept elsewhere"),
        (
            '[copies]\nurl = "s3://bucket/a/"\n[archive]\nurl = "s3://bucket/a?max_connections=9"',
            "copies must be kept elsewhere",
        ),
        ('[archive]\nurl = "s3://bucket?ca_file=/none/ca.pem"', "archive.url: there is no file /none/ca.pem"),
        (
            '[spool]\nurl = "s3://bucket?access_key_file=/none/key&secret_key_file=/none/secret"',
            "spool.url: there is no file /none/key",
        ),
        ("[archive]\nmax_pack_byte = 1", "did you mean `max_pack_bytes`"),
        ("[archive.cache]\nmax_bytes = -1", "archive.cache.max_bytes"),
        ("not toml", "not valid TOML"),
        ('[[security.tokens]]\nname = "a"\nsha256 = "clear text"\nrights = ["read"]', "security.tokens.0.sha256"),
        ('[[security.callers]]\nae_title = "CT1"\naddresses = ["nowhere"]', "security.callers.0.addresses"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text), environment={})
    assert named in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg", "mysql", "sqlite"])
def test_a_password_in_the_url_of_the_index_is_refused_and_not_repeated(scheme: str) -> None:
    for url in (f"{scheme}://user:hidden@host/db", f"{scheme}://host/db?user=u&password=hidden"):
        with pytest.raises(ConfigError, match=r"\[index\] url") as caught:
            load(environment={"GATEWAY_INDEX__URL": url})
        assert "hidden" not in f"{caught.value}{caught.value.__cause__}{caught.value.__context__}"


def test_what_is_hardly_meant_is_said() -> None:
    assert Config().doubts == []
    (doubt,) = load(flags={"archive": {"seal": False}, "spool": {"max_bytes": 1}}, environment={}).doubts
    assert "gateway seal" in doubt


def test_a_configuration_is_checked_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_config(written(tmp_path, "[archive]\nseal = false\n[spool]\nmax_bytes = 1\n"))
    assert capsys.readouterr().out.startswith("warning: [archive] seal = false")
    with pytest.raises(typer.Exit) as caught:
        check_config(written(tmp_path, '[index]\nurl = "postgresql+psycopg://u:hidden@h/db"'), as_json=True)
    assert caught.value.exit_code == 2
    out = capsys.readouterr().out
    assert "hidden" not in out
    assert "postgresql://" in out


def test_what_would_be_used_is_shown_with_its_paths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "影像"
    check_config(written(tmp_path, 'data = "影像"\n[audit]\nfolder = "trace"\n'), as_json=True)
    shown = json.loads(capsys.readouterr().out)["settings"]
    assert shown["data"] == str(data)
    assert [place_of(shown[name]["url"]) for name in ("spool", "archive")] == [
        (str(data / "objects"),),
        (str(data / "archive"),),
    ]
    assert index_file(load(flags={"index": shown["index"]}, environment={})) == data / "index.sqlite"
    assert (shown["archive"]["cache"]["folder"], shown["audit"]["folder"]) == (
        str(data / "cache"),
        str(tmp_path / "trace"),
    )
    assert shown["copies"]["url"] == ""
    check_config(
        written(tmp_path, '[index]\nurl = "sqlite:///in/here.sqlite"\n[spool]\nurl = "s3://bucket"\n'), as_json=True
    )
    shown = json.loads(capsys.readouterr().out)["settings"]
    assert (shown["index"]["url"], shown["spool"]["url"]) == (f"sqlite:///{tmp_path}/in/here.sqlite", "s3://bucket")


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("sqlite:///:memory:", "write a file"),
        ("sqlite:////srv/gateway/", "write a file"),
        ("postgresql://gateway@db1/gateway?foo=1", "`foo` is no connection parameter"),
        ("postgresql://gateway@db1/gateway?passfile=/nowhere/at/all", "there is no file /nowhere/at/all"),
        ("postgresql://gateway@db1/gateway?sslmode=verify-full&sslcert=/nowhere/at/all", "there is no file"),
    ],
)
def test_an_index_that_cannot_be_is_refused(url: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load(flags={"index": {"url": url}}, environment={})


def test_a_password_file_that_libpq_would_pass_over_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pgpass"
    file.touch(mode=0o600)
    index = {"url": f"postgresql://gateway@db1/gateway?passfile={file}&connect_timeout=3&sslmode=require"}
    assert load(flags={"index": index}, environment={}).index.url == index["url"]
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="mode 600"):
        load(flags={"index": index}, environment={})


def test_a_missing_file_and_an_unknown_variable_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load(tmp_path / "absent.toml", environment={})
    with pytest.raises(ConfigError, match="did you mean `data`"):
        load(environment={"GATEWAY_DATTA": "x"})


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:8080", "gateway.example.org:8080"])
def test_nothing_is_open_to_other_machines_by_accident(listen: str) -> None:
    with pytest.raises(ConfigError, match="names no tokens"):
        load(flags={"web": {"listen": listen}}, environment={})
    with pytest.raises(ConfigError, match="names no callers"):
        load(flags={"dimse": {"listen": listen}}, environment={})
    load(flags={"web": {"listen": listen}, "security": {"tokens": [TOKEN]}}, environment={})
    load(flags={"dimse": {"listen": listen}, "security": {"callers": [CALLER]}}, environment={})
    load(flags={"web": {"listen": listen}, "dimse": {"listen": listen}, "security": {"open": True}}, environment={})


def test_addresses() -> None:
    assert host_and_port("[::1]:104") == ("::1", 104)
    assert all(map(is_loopback, ["127.0.0.1:1", "127.8.8.8:1", "localhost:1", "[::1]:1"]))
    assert not any(map(is_loopback, ["0.0.0.0:1", "[::]:1", "localhost.example.org:1"]))


def test_origins_are_origins() -> None:
    load(flags={"web": {"cors_origins": ["https://viewer.example.org", "*"]}}, environment={})
    for wrong in ("viewer.example.org", "https://viewer.example.org/ohif", "ftp://x"):
        with pytest.raises(ConfigError, match=r"web\.cors_origins"):
            load(flags={"web": {"cors_origins": [wrong]}}, environment={})
