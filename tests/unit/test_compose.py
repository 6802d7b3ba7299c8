"""What a configuration becomes."""

from pathlib import Path

import httpx
import pytest

from gateway.archive.identities import KnownStore
from gateway.archive.places import ARCHIVE, COPY, SPOOL
from gateway.compose import Gateway, Role, compose
from gateway.compose_archive import chores
from gateway.config import Archive, Config, ConfigError, Copies, Index, Section, Spool, Web
from storage.objects import s3_check
from storage.objects.s3 import S3Store
from tests.seaweed import Seaweed

BUCKET = "s3://bucket/prefix?endpoint=http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.mark.parametrize(
    ("only", "runs"),
    [(None, {"web", "dimse", "seal"}), (Role.WEB, {"web"}), (Role.DIMSE, {"dimse"}), (Role.WORKERS, {"web", "seal"})],
)
def test_each_part_can_run_alone(tmp_path: Path, only: Role | None, runs: set[str]) -> None:
    gateway = compose(Config(data=tmp_path), only)
    doors = {part for part in ("web", "dimse") if getattr(gateway, part) is not None}
    assert doors | (acts(gateway) & {"seal"}) == runs
    gateway.stop(1)


def test_workers_alone_are_watched_over_http_and_give_out_nothing_else(tmp_path: Path) -> None:
    gateway = compose(Config(data=tmp_path, web=Web(listen="127.0.0.1:0")), Role.WORKERS)
    gateway.start()
    try:
        assert gateway.web is not None
        root = "http://{}:{}".format(*gateway.web.address)
        assert [
            httpx.get(root + path, timeout=60).status_code for path in ("/healthz", "/readyz", "/dicomweb/studies")
        ] == [
            200,
            200,
            404,
        ]
        assert "gateway_loose_seconds" in httpx.get(root + "/metrics", timeout=60).text
    finally:
        gateway.stop(30)


def test_uploads_that_never_came_to_their_end_are_given_up_in_every_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tidied = []
    monkeypatch.setattr(S3Store, "remove_stale_uploads", lambda store, seconds: tidied.append((store, seconds)))
    copy = BUCKET.replace("prefix", "copy")
    config = Config(data=tmp_path, spool=Spool(url=BUCKET), archive=Archive(url=BUCKET), copies=Copies(url=copy))
    gateway = compose(config, Role.WORKERS)
    assert "tidy" in acts(gateway)
    (tidy,) = [job for job in chores(gateway.backend.places, gateway.backend.index) if job.act == "tidy"]
    assert tidy.run() is False
    assert tidied == [(bucket(gateway, name), 2 * 24 * 3600) for name in (SPOOL, ARCHIVE, COPY)]
    gateway.stop(1)


def bucket(gateway: Gateway, name: str) -> S3Store:
    store = gateway.backend.places.stores[name]
    assert isinstance(store, KnownStore) and isinstance(store.inner, S3Store)
    return store.inner


def acts(gateway: Gateway) -> set[str]:
    """The jobs of its workers."""
    return set() if gateway.backend.workers is None else {thread.name for thread in gateway.backend.workers._threads}


def test_what_is_to_stay_loose_is_not_sealed_and_the_other_work_is_done(tmp_path: Path) -> None:
    gateway = compose(Config(data=tmp_path, archive=Archive(seal=False)))
    assert acts(gateway) >= {"compact", "sweep"}
    assert "seal" not in acts(gateway)
    gateway.stop(1)


def test_workers_beside_others_are_left_to_one_process(tmp_path: Path) -> None:
    gateway = compose(Config(data=tmp_path), with_workers=False)
    assert (gateway.backend.workers, gateway.web is None, gateway.dimse is None) == (None, False, False)
    gateway.stop(1)


@pytest.mark.parametrize(
    "url", ["postgresql://user:secret@127.0.0.1/gateway", "postgresql://127.0.0.1/gateway?user=u&password=secret"]
)
def test_a_password_in_the_url_of_the_index_is_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="password") as caught:
        compose(Config(data=tmp_path, index=Index(url=url)), Role.WEB)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("place", [SPOOL, ARCHIVE, COPY])
def test_a_server_that_writes_a_key_twice_will_do_everywhere(
    tmp_path: Path, seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """No key is used twice, of packs neither."""
    monkeypatch.setattr(s3_check, "_refuses_twice", lambda *_: False)
    url = seaweed.url(seaweed.make_bucket("twice"), tmp_path.name)
    section: dict[str, dict[str, Section]] = {
        SPOOL: {"spool": Spool(url=url, min_free_bytes=0)},
        ARCHIVE: {"archive": Archive(url=url)},
        COPY: {"copies": Copies(url=url)},
    }
    web = Web(listen="127.0.0.1:0")
    gateway = compose(Config.model_validate({"data": tmp_path, "web": web, **section[place]}), Role.WORKERS)
    try:
        gateway.start()
        assert not bucket(gateway, place).exclusive
    finally:
        gateway.stop(30)
