"""The settings, frozen: the only reader of configuration files and environment variables.

Later wins: defaults, the TOML file, `GATEWAY_*` in the environment (`GATEWAY_DIMSE__AE_TITLE=PACS1`), flags.
"""

import difflib
import ipaddress
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from gateway.security.caller import Right
from storage.objects.s3_settings import parse_s3_url

ENVIRONMENT_PREFIX = "GATEWAY_"


class ConfigError(Exception):
    """The configuration cannot be used; the message says which key, why, and what to write instead."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _address(value: str) -> str:
    host, separator, port = value.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError('write it as HOST:PORT, for example "127.0.0.1:8080"')
    return value


def _ae_title(value: str) -> str:
    value = value.strip()
    if not 1 <= len(value) <= 16 or not value.isascii() or not value.isprintable() or "\\" in value:
        raise ValueError("an AE title has 1 to 16 printable ASCII characters and no backslash (PS3.5 6.2)")
    return value


def _network(value: str) -> str:
    ipaddress.ip_network(value, strict=False)
    return value


def _origin(value: str) -> str:
    parts = urlsplit(value)
    if value != "*" and (parts.scheme not in ("http", "https") or not parts.netloc or parts.path):
        raise ValueError('write it as "https://viewer.example.org" (scheme and host, no path), or "*"')
    return value


def _store_url(value: str) -> str:
    if value.startswith("s3:"):
        settings = parse_s3_url(value)
        for file in (settings.access_key_file, settings.secret_key_file, settings.ca_file):
            if file is not None and not file.is_file():
                raise ValueError(f"there is no file {file}")
        return value
    parts = urlsplit(value)
    is_folder = parts.scheme == "file" and parts.path.startswith("/") and parts.path.strip("/")
    if value and (not is_folder or parts.netloc or parts.query or parts.fragment):
        raise ValueError('write it as "file:///absolute/folder" or "s3://bucket/prefix?endpoint=http://host:port"')
    return value


def _index_url(value: str) -> str:
    """Raises ConfigError, as what pydantic says of a ValueError may repeat the URL, and with it a password."""
    parts = urlsplit(value)
    if parts.scheme in ("postgresql", "postgres"):
        if parts.password or "password" in parse_qs(parts.query):
            raise ConfigError("[index] url holds a password: give it by PGPASSWORD or a file (?passfile=/path) instead")
        _refuse_unusable(url=value)
    elif parts.scheme == "sqlite":
        is_file = parts.path.strip("/") not in ("", ":memory:") and not parts.path.endswith("/")
        if parts.netloc or parts.query or parts.fragment or not is_file:
            raise ConfigError('[index] url: write a file as "sqlite:////absolute/path" or "sqlite:///relative/path"')
    elif value:
        raise ConfigError(
            f'[index] url: "{parts.scheme}" is not supported: write "postgresql://user@host/database" or '
            '"sqlite:////absolute/path"'
        )
    return value


def _refuse_unusable(url: str) -> None:
    """Raise ConfigError for parameters that libpq does not know, and files that it would pass over without a word."""
    from storage.index.postgres_connections import unknown_parameters  # here: half a second for who does not use it

    unknown = unknown_parameters(url)
    if unknown:
        raise ConfigError(f"[index] url: `{unknown[0]}` is no connection parameter of PostgreSQL")
    given = parse_qs(urlsplit(url).query)
    for name in ("passfile", "sslcert", "sslkey"):
        for file in map(Path, given.get(name, [])):
            if not file.is_file():
                raise ConfigError(f"[index] url: there is no file {file} ({name})")
            if name == "passfile" and file.stat().st_mode & 0o077:
                raise ConfigError(f"[index] url: {file} is not used while others can read it: make its mode 600")


Address = Annotated[str, AfterValidator(_address)]
AETitle = Annotated[str, AfterValidator(_ae_title)]
Origin = Annotated[str, AfterValidator(_origin)]
Network = Annotated[str, AfterValidator(_network)]
StoreUrl = Annotated[str, AfterValidator(_store_url)]
IndexUrl = Annotated[str, AfterValidator(_index_url)]


def place_of(url: str) -> tuple[str, ...]:
    """Where the checked URL of an object store leads, however it is written."""
    if url.startswith("s3:"):
        settings = parse_s3_url(url)
        return (settings.endpoint, settings.bucket, settings.prefix)
    return (os.path.realpath(unquote(urlsplit(url).path)),)


def host_and_port(address: str) -> tuple[str, int]:
    """Split a checked HOST:PORT; an IPv6 host may stand in brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def is_loopback(address: str) -> bool:
    """Whether HOST:PORT can be reached from this machine only."""
    host, _ = host_and_port(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Index(Section):
    url: IndexUrl = ""  # empty: sqlite:///{data}/index.sqlite
    group_max: PositiveInt = 256


class Spool(Section):
    url: StoreUrl = ""  # empty: file:///{data}/objects
    min_free_bytes: int = Field(1 << 30, ge=0)
    max_bytes: int = Field(0, ge=0)  # 0: no bound


class ArchiveCache(Section):
    folder: str = ""  # empty: {data}/cache
    max_bytes: int = Field(10 << 30, ge=0)
    max_memory_bytes: int = Field(64 << 20, ge=0)


class Archive(Section):
    url: StoreUrl = ""  # empty: file:///{data}/archive
    seal: bool = True
    seal_after_seconds: int = Field(600, ge=0)
    seal_bytes: PositiveInt = 4 << 30
    max_pack_bytes: PositiveInt = 8 << 30
    cache: ArchiveCache = ArchiveCache()


class Copies(Section):
    url: StoreUrl = ""  # empty: none are made


class Ingest(Section):
    max_instance_bytes: PositiveInt = 16 << 30
    memory_bytes_per_instance: PositiveInt = 2 << 20
    max_concurrent_stores: PositiveInt = 64


class Dimse(Section):
    listen: Address = "127.0.0.1:11112"
    ae_title: AETitle = "GATEWAY"
    require_called_ae_title: bool = True
    max_associations: PositiveInt = 64
    max_associations_per_caller: PositiveInt = 32
    max_pdu_bytes: int = Field(131072, ge=4096, le=1 << 20)
    accept_unknown_sop_classes: bool = True
    association_timeout_seconds: PositiveInt = 30
    idle_timeout_seconds: PositiveInt = 300
    read_timeout_seconds: PositiveInt = 60


class Web(Section):
    listen: Address = "127.0.0.1:8080"
    public_url: str = ""
    cors_origins: tuple[Origin, ...] = ()
    max_concurrent_requests: PositiveInt = 256
    max_concurrent_store_requests: PositiveInt = 32
    store_concurrency: PositiveInt = 4
    max_search_results: PositiveInt = 1000
    default_search_results: PositiveInt = 100
    match_unknown: bool = False
    read_timeout_seconds: PositiveInt = 60
    pixel_processes: int = Field(0, ge=0)  # 0: one a core, shared out among the workers

    @model_validator(mode="after")
    def _limits_agree(self) -> "Web":
        if self.default_search_results > self.max_search_results:
            raise ValueError("default_search_results must not be larger than max_search_results")
        return self


class Token(Section):
    name: str = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    rights: frozenset[Right] = Field(min_length=1)


class AECaller(Section):
    ae_title: AETitle
    addresses: tuple[Network, ...] = Field(min_length=1)
    rights: frozenset[Right] = frozenset({Right.STORE})


class Security(Section):
    open: bool = False
    tokens: tuple[Token, ...] = ()
    callers: tuple[AECaller, ...] = ()


class Audit(Section):
    folder: str = ""  # empty: {data}/audit
    max_bytes_per_file: PositiveInt = 64 << 20


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class Config(Section):
    """Everything that can be set. `data` is the folder below which the defaults put all that is kept."""

    data: Path = Path("data")
    workers: PositiveInt = 1
    shutdown_seconds: PositiveInt = 8
    index: Index = Index()
    spool: Spool = Spool()
    archive: Archive = Archive()
    copies: Copies = Copies()
    ingest: Ingest = Ingest()
    dimse: Dimse = Dimse()
    web: Web = Web()
    security: Security = Security()
    audit: Audit = Audit()
    log: Log = Log()

    @model_validator(mode="after")
    def _copies_are_elsewhere(self) -> "Config":
        """A copy that is no longer wanted is deleted: it must not be the pack itself."""
        if self.copies.url and place_of(self.copies.url) == place_of(self.in_force.archive.url):
            raise ValueError("[copies] url is where the archive is: copies must be kept elsewhere")
        return self

    @property
    def in_force(self) -> "Config":
        """The same with what is left out, and what is relative, as it will be used."""

        def folder(chosen: str, name: str) -> str:
            return str(Path(chosen or self.data / name).absolute())

        def store(url: str, name: str) -> str:
            return url or f"file://{quote(folder('', name))}"

        index = self.index.url or f"sqlite:///{self.data / 'index.sqlite'}"
        if index.startswith("sqlite:"):
            index = f"sqlite:///{quote(str(Path(unquote(urlsplit(index).path)[1:]).absolute()))}"
        cache = self.archive.cache.model_copy(update={"folder": folder(self.archive.cache.folder, "cache")})
        archive = {"url": store(self.archive.url, "archive"), "cache": cache}
        return self.model_copy(
            update={
                "data": self.data.absolute(),
                "index": self.index.model_copy(update={"url": index}),
                "spool": self.spool.model_copy(update={"url": store(self.spool.url, "objects")}),
                "archive": self.archive.model_copy(update=archive),
                "audit": self.audit.model_copy(update={"folder": folder(self.audit.folder, "audit")}),
            }
        )

    @property
    def doubts(self) -> list[str]:
        """What can be used but is hardly meant."""
        if not self.archive.seal and self.spool.max_bytes:
            return [
                "[archive] seal = false with [spool] max_bytes: what is stored stays in the spool, and nothing more is "
                "taken when that is full, unless `gateway seal` is run"
            ]
        return []

    @model_validator(mode="after")
    def _not_open_by_accident(self) -> "Config":
        if self.security.open:
            return self
        if not is_loopback(self.web.listen) and not self.security.tokens:
            raise ValueError(
                f"[web] listen = {self.web.listen} can be reached from other machines, but [security] names no tokens: "
                "add one (`gateway token` makes it), or write `open = true` there to let everybody in"
            )
        if not is_loopback(self.dimse.listen) and not self.security.callers:
            raise ValueError(
                f"[dimse] listen = {self.dimse.listen} can be reached from other machines, but [security] names no "
                "callers: add the AE titles and addresses that may call, or write `open = true` to let everybody in"
            )
        return self


def load(
    file: Path | None = None,
    flags: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
) -> Config:
    """The configuration from file, environment and flags (`{"web": {"listen": ...}}`). Raises ConfigError."""
    values = _read_toml(file) if file is not None else {}
    _merge(values, _from_environment(dict(os.environ) if environment is None else environment))
    _merge(values, flags or {})
    _refuse_unknown(values, Config, ())
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(problem) for problem in error.errors())) from None


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {file}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from error


def _from_environment(environment: dict[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, text in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        path = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        for part in reversed(path[1:]):
            text = {part: text}  # type: ignore[assignment]
        _merge(values, {path[0]: _scalar(text)})
    return values


def _scalar(text: Any) -> Any:
    """A JSON-looking list or table from the environment as TOML reads it; anything else stays text."""
    if isinstance(text, dict):
        return {key: _scalar(value) for key, value in text.items()}
    if re.match(r"\s*[\[{]", text):
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"a list or table in the environment is not valid TOML: {error}") from error
    return text


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _refuse_unknown(values: dict[str, Any], section: type[BaseModel], path: tuple[str, ...]) -> None:
    known = section.model_fields
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"; did you mean `{near[0]}`?" if near else f"; known here: {', '.join(sorted(known))}"
            where = f" in [{'.'.join(path)}]" if path else ""
            raise ConfigError(f"unknown key `{key}`{where}{hint}")
        inner = known[key].annotation
        if isinstance(value, dict) and isinstance(inner, type) and issubclass(inner, BaseModel):
            _refuse_unknown(value, inner, (*path, key))


def _explain(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
