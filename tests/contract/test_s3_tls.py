"""S3 over TLS with an authority of one's own, and buckets that are hosts: a real server with a real certificate."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.errors import StorageError, Unavailable
from storage.objects.s3 import S3Store
from storage.objects.s3_errors import Passing
from storage.objects.s3_settings import parse_s3_url
from tests.certificates import Certified, authority, signed
from tests.seaweed import Seaweed

BUCKET = "behind-tls"


@pytest.fixture(scope="module")
def own_authority(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    return authority(tmp_path_factory.mktemp("tls") / "authority")


@pytest.fixture(scope="module")
def port(seaweed: Seaweed, own_authority: Certified) -> Iterator[int]:
    """Of a door whose certificate is for localhost and for the bucket as a host, and for no address."""
    seaweed.make_bucket(BUCKET)
    certified = signed(own_authority, "localhost", f"{BUCKET}.localhost")
    with seaweed.secure_door(certified.certificate, certified.key) as port:
        yield port


@pytest.fixture
def open_store(seaweed: Seaweed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., S3Store]]:
    opened: list[S3Store] = []

    def open_one(endpoint: str, more: str = "", prefix: str = "") -> S3Store:
        prefix = prefix or tmp_path_factory.mktemp("prefix").name
        url = seaweed.url(BUCKET, prefix, endpoint=endpoint) + f"{more}&retry_seconds=0"
        opened.append(S3Store(parse_s3_url(url)))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def exercise(store: S3Store) -> None:
    """Requests for objects, and for lists and deletions."""
    store.check()
    store.put("packs/a", [b"sealed"])
    assert store.get("packs/a", (1, 3)).read() == b"eal"
    assert [meta.key for meta in store.scan()] == ["packs/a"]
    store.delete(["packs/a"])
    assert list(store.scan()) == []


def test_with_the_authority_named_it_is_a_store_like_any_other(
    open_store: Callable[..., S3Store], port: int, own_authority: Certified
) -> None:
    store = open_store(f"https://localhost:{port}", f"&ca_file={own_authority.certificate}")
    assert not store._wire.signs_payloads, "TLS guards the bytes"
    exercise(store)


def test_without_it_the_server_is_not_trusted_and_what_to_do_is_said(
    open_store: Callable[..., S3Store], port: int
) -> None:
    store = open_store(f"https://localhost:{port}")
    for act in (store.check, lambda: store.get("packs/a"), lambda: list(store._listing.scan("", ""))):
        with pytest.raises(Unavailable, match=r"not signed by an authority that is known here; .* ca_file=") as caught:
            act()
        assert not isinstance(caught.value, Passing), "it will not pass by itself"


def test_the_authority_can_be_that_of_the_environment(
    open_store: Callable[..., S3Store], port: int, own_authority: Certified, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(own_authority.certificate))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    exercise(open_store(f"https://localhost:{port}"))


def test_no_proxy_of_the_environment_is_asked(
    open_store: Callable[..., S3Store],
    port: int,
    own_authority: Certified,
    seaweed: Seaweed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    exercise(open_store(seaweed.endpoint))
    exercise(open_store(f"https://localhost:{port}", f"&ca_file={own_authority.certificate}"))


def test_a_certificate_for_another_host_is_refused(
    open_store: Callable[..., S3Store], port: int, own_authority: Certified
) -> None:
    store = open_store(f"https://127.0.0.1:{port}", f"&ca_file={own_authority.certificate}")
    with pytest.raises(Unavailable, match=r"its certificate is for another host; .* endpoint="):
        store.check()
    with pytest.raises(Unavailable, match="its certificate is for another host"):
        store.delete(["packs/a"])


def test_a_certificate_that_has_expired_is_named_so(
    open_store: Callable[..., S3Store], seaweed: Seaweed, own_authority: Certified, port: int
) -> None:
    old = signed(own_authority, "localhost", days=-1)
    with seaweed.secure_door(old.certificate, old.key) as stale:
        store = open_store(f"https://localhost:{stale}", f"&ca_file={own_authority.certificate}")
        with pytest.raises(Unavailable, match="has expired"):
            store.check()


def test_a_server_without_tls_is_told_apart(open_store: Callable[..., S3Store], seaweed: Seaweed, port: int) -> None:
    store = open_store(seaweed.endpoint.replace("http://", "https://"))
    with pytest.raises(Unavailable, match="does not speak TLS"):
        store.check()


def test_a_server_that_wants_tls_is_told_apart(open_store: Callable[..., S3Store], port: int) -> None:
    store = open_store(f"http://localhost:{port}")
    with pytest.raises(Unavailable, match="speaks TLS at this port; write endpoint=https://"):
        store.check()


def test_a_connection_that_breaks_in_tls_may_pass(open_store: Callable[..., S3Store], port: int) -> None:
    """Not a question of trust: it is tried again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        store = open_store(f"https://localhost:{listener.getsockname()[1]}")

        def hang_up() -> None:
            peer, _ = listener.accept()
            peer.recv(100)
            peer.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(Passing):
            store.get("packs/a")
        thread.join()


@pytest.mark.parametrize("content", [None, b"not a certificate"])
def test_a_file_of_the_authority_that_cannot_be_used_is_named(
    open_store: Callable[..., S3Store], tmp_path: Path, content: bytes | None
) -> None:
    path: Path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StorageError, match=f"ca_file {path}"):
        open_store("https://localhost:1", f"&ca_file={path}")


def test_the_bucket_as_a_host(
    open_store: Callable[..., S3Store],
    port: int,
    own_authority: Certified,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def on_loopback(host: Any, *arguments: Any, **options: Any) -> Any:
        asked.append(host)
        return resolve("127.0.0.1" if str(host).endswith(".localhost") else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", on_loopback)
    authority = f"&ca_file={own_authority.certificate}"
    virtual = open_store(f"https://localhost:{port}", f"{authority}&addressing=virtual", "virtual")
    exercise(virtual)
    assert set(asked) == {f"{BUCKET}.localhost"}
    virtual.put("packs/b", [b"there"])
    by_path = open_store(f"https://localhost:{port}", f"{authority}&addressing=path", "virtual")
    assert by_path.get("packs/b").read() == b"there"
