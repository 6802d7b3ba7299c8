"""An S3 store on a real server behind a network that fails: what is retried, resumed, refused and named."""

import os
import socket
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from storage.errors import Conflict, Exhausted, NotFound, StorageError, Unavailable
from storage.objects import s3_patience
from storage.objects.s3 import S3Store
from storage.objects.s3_settings import parse_s3_url
from storage.objects.s3_tally import Tally
from tests.faults.ledger import until
from tests.s3_proxy import S3Proxy, Trouble, s3_proxy
from tests.seaweed import READER_ACCESS_KEY, READER_SECRET_KEY, Seaweed

BUCKET = "s3-store"
MIB = 1 << 20
DATA = bytes(range(256)) * 20_000  # 5 MB


@pytest.fixture(scope="module")
def proxy(seaweed: Seaweed) -> Iterator[S3Proxy]:
    seaweed.make_bucket(BUCKET)
    with s3_proxy(seaweed.endpoint) as running:
        yield running


@pytest.fixture
def open_store(seaweed: Seaweed, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(s3_patience, "_FIRST_PAUSE_SECONDS", 0.01)
    opened: list[S3Store] = []

    def open_one(more: str = "", *, bucket: str = BUCKET, checked: bool = True, **options: Any) -> S3Store:
        url = seaweed.url(bucket, uuid.uuid4().hex, endpoint=proxy.endpoint) + more
        store = S3Store(parse_s3_url(url), **options)
        opened.append(store)
        if checked:
            store.check()
            proxy.forget()
        return store

    yield open_one
    proxy.forget()
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Any) -> S3Store:
    opened: S3Store = open_store()
    return opened


def contents(store: S3Store, key: str, span: tuple[int, int] | None = None) -> bytes:
    with store.get(key, span) as body:
        return body.read()


def file_of(tmp_path: Path, data: bytes) -> Path:
    file = tmp_path / "pack.zip"
    file.write_bytes(data)
    return file


# What it costs


def test_each_act_is_one_request_over_one_connection(store: S3Store, proxy: S3Proxy) -> None:
    before = proxy.connections
    store.put("a", [DATA])
    store.put("b", [DATA], if_absent=False)
    assert proxy.counts() == {"PUT": 2}
    assert contents(store, "a") == DATA
    assert contents(store, "a", (1000, 2 * MIB)) == DATA[1000 : 1000 + 2 * MIB]
    assert proxy.counts() == {"PUT": 2, "GET": 2}
    store.head("a")
    with pytest.raises(Conflict):
        store.put("a", [b"x"])
    assert proxy.counts() == {"PUT": 3, "GET": 2, "HEAD": 1}
    assert proxy.connections - before <= 1  # that of the check may be used on


def test_a_large_file_is_few_requests(open_store: Any, proxy: S3Proxy, tmp_path: Path) -> None:
    store = open_store(part_bytes=5 * MIB)
    store.put("packs/a", file_of(tmp_path, DATA * 4))  # 20.48 MB: 4 parts
    assert sum(proxy.counts().values()) <= 7
    assert proxy.counts()["PUT"] == 4
    assert contents(store, "packs/a") == DATA * 4
    assert store.head("packs/a").length == len(DATA) * 4
    assert contents(store, "packs/a", (5 * MIB - 3, 7)) == (DATA * 4)[5 * MIB - 3 : 5 * MIB + 4]


def test_a_thousand_deletions_are_one_request(store: S3Store, proxy: S3Proxy) -> None:
    store.put("a/7", [b"x"])
    store.delete(f"a/{number}" for number in range(1001))
    assert proxy.counts("delete") == {"POST": 2}
    assert list(store.scan()) == []


def test_what_is_asked_is_told_by_operation_and_outcome(
    open_store: Any, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: Counter[tuple[str, str]] = Counter()
    moved: Counter[str] = Counter()
    tally = Tally(lambda *what: asked.update([what]), lambda way, length: moved.update({way: length}))
    store = open_store(part_bytes=5 * MIB, tally=tally)
    for counted in (asked, moved):
        counted.clear()
    store.put("a", [DATA])
    proxy.cause(Trouble("GET", key="/a", status=500))
    proxy.cause(Trouble("GET", key="/a", lose=True))
    assert contents(store, "a", (0, MIB)) == DATA[:MIB]
    assert moved == {"sent": len(DATA), "received": MIB}
    with pytest.raises(NotFound):
        store.head("b")
    store.put("b", file_of(tmp_path, DATA * 2))
    assert [found.key for found in store.scan("a")] == ["a"]
    store.delete(["a", "b"])
    store.remove_stale_uploads(3600)
    lists = asked.pop(("list", "ok"))  # as many as the order of the server wants
    assert asked == {
        ("put", "ok"): 1,
        ("get", "error"): 1,
        ("get", "unanswered"): 1,
        ("get", "ok"): 1,
        ("head", "refused"): 2,  # and whether it may be written
        ("create_upload", "ok"): 1,
        ("put_part", "ok"): 2,
        ("complete_upload", "ok"): 1,
        ("delete_many", "ok"): 1,
        ("list_uploads", "ok"): 1,
    }
    assert sum(asked.values()) + lists == sum(proxy.counts().values())


# What passes by itself


@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD"])
def test_errors_of_the_server_are_tried_again(store: S3Store, proxy: S3Proxy, method: str) -> None:
    store.put("a", [DATA])
    proxy.forget()
    trouble = proxy.cause(Trouble(method=method, times=2, status=500))
    store.put("b", [b"x"])
    assert contents(store, "a") == DATA
    assert store.head("a").length == len(DATA)
    assert trouble.hits == 2
    assert proxy.counts()[method] == 3


def test_lists_and_deletions_are_tried_again(store: S3Store, proxy: S3Proxy) -> None:
    store.put("a", [b"x"])
    proxy.cause(Trouble(method="GET", key="list-type", times=2, status=503, code="SlowDown"))
    assert [found.key for found in store.scan()] == ["a"]
    proxy.cause(Trouble(method="POST", times=2, status=500))
    store.delete(["a"])
    with pytest.raises(NotFound):
        store.head("a")


def test_a_put_whose_answer_was_lost_is_recognised(store: S3Store, proxy: S3Proxy) -> None:
    lost = proxy.cause(Trouble(method="PUT", lose=True))
    store.put("a", [DATA])
    assert lost.hits == 1
    assert contents(store, "a") == DATA


def test_a_put_whose_answer_was_lost_is_not_taken_for_anothers(store: S3Store, proxy: S3Proxy) -> None:
    store.put("a", [DATA])
    proxy.cause(Trouble(method="PUT", status=500))
    with pytest.raises(Conflict):  # the same bytes, and yet another's
        store.put("a", [DATA])


def test_a_body_that_is_cut_short_is_read_on(store: S3Store, proxy: S3Proxy) -> None:
    store.put("a", [DATA])
    proxy.forget()
    cut = proxy.cause(Trouble(method="GET", times=2, cut_at=2 * MIB))
    with store.get("a") as body:
        assert b"".join(body.chunks()) == DATA
    assert cut.hits == 2
    again = [seen.headers["range"] for seen in proxy.requests if "range" in seen.headers]
    assert len(again) == 2
    assert all(not value.startswith("bytes=0-") for value in again)
    assert all("if-match" in seen.headers for seen in proxy.requests if "range" in seen.headers)
    proxy.cause(Trouble(method="GET", cut_at=1000))
    assert contents(store, "a", (MIB, 3 * MIB)) == DATA[MIB : 4 * MIB]


def test_a_body_that_is_always_cut_short_is_never_ended_politely(store: S3Store, proxy: S3Proxy) -> None:
    store.put("a", [DATA])
    proxy.cause(Trouble(method="GET", times=1000, cut_at=100))
    with pytest.raises(Unavailable):
        contents(store, "a")


def test_an_object_that_is_replaced_while_it_is_read_is_not_mixed(
    store: S3Store, proxy: S3Proxy, seaweed: Seaweed
) -> None:
    store.put("a", [DATA])
    proxy.cause(Trouble(method="GET", cut_at=2 * MIB))
    with store.get("a") as body:
        chunks = body.chunks()
        next(chunks)
        store.put("a", [DATA[::-1]], if_absent=False)
        with pytest.raises(Unavailable, match="replaced"):
            list(chunks)


def test_flipped_bytes_are_handed_on_for_the_digests_to_judge(store: S3Store, proxy: S3Proxy) -> None:
    store.put("a", [b"0123456789"])
    proxy.cause(Trouble(method="GET", flip_at=4))
    assert contents(store, "a") == b"0123556789"
    assert contents(store, "a") == b"0123456789"


# What does not


def test_patience_ends(open_store: Any, proxy: S3Proxy) -> None:
    store = open_store("&retry_seconds=0.2")
    proxy.cause(Trouble(times=100_000, status=500))
    with pytest.raises(Unavailable, match="cannot delete now"):
        store.delete(["a"])
    with pytest.raises(Unavailable, match="cannot list now"):
        list(store.scan())
    acts: list[Callable[[], object]] = [lambda: store.put("a", [b"x"]), lambda: store.get("a"), lambda: store.head("a")]
    for act in acts:
        with pytest.raises(Unavailable, match="500"):
            act()


def test_a_server_that_hangs_is_given_up_and_left_in_peace(open_store: Any, proxy: S3Proxy) -> None:
    store = open_store("&retry_seconds=0&read_timeout_seconds=0.5", checked=False)
    store._patiently._breaker._rest_seconds = 3600
    hanging = proxy.cause(Trouble(times=100, hang=True))
    acts: list[Callable[[], object]] = [
        lambda: store.put("a", [b"x"]),
        lambda: store.delete(["a"]),
        lambda: store.get("a"),
    ]
    for act in acts:
        with pytest.raises(Unavailable, match="does not answer in time"):
            act()
    for _ in range(100):
        with pytest.raises(Unavailable, match="does not answer in time"):
            store.get("a", (0, 1))
    proxy.release()
    assert hanging.hits == 3


def test_a_server_that_hangs_holds_only_so_many_who_read(
    open_store: Any, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_patience, "_SLOW_SECONDS", 0)
    store = open_store("&retry_seconds=3600&read_timeout_seconds=3600")
    hanging = proxy.cause(Trouble("GET", times=1000, hang=True))
    with ThreadPoolExecutor(s3_patience._READING_PLACES) as threads:
        waiting = [threads.submit(store.get, "a") for _ in range(s3_patience._READING_PLACES)]
        until(lambda: hanging.hits == len(waiting), "as many wait as may")
        with pytest.raises(Unavailable, match="slow"):
            store.get("a")
        store.put("b", [b"x"])  # what is written does not wait for those
        store.hang_up()
        for one in waiting:
            with pytest.raises(Unavailable):
                one.result(60)
    proxy.release()


def test_who_waits_for_a_server_that_hangs_is_let_go_when_the_gateway_stops(open_store: Any, proxy: S3Proxy) -> None:
    store = open_store("&retry_seconds=3600&read_timeout_seconds=3600")
    store.put("a", [DATA])
    hanging = proxy.cause(Trouble("GET", times=1000, hang=True))
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(store.get, "a")
        until(lambda: hanging.hits == 1, "the request comes")
        store.hang_up()
        with pytest.raises(Unavailable):
            waiting.result(60)
    with pytest.raises(Unavailable, match="closed"):
        store.put("b", [b"x"])
    proxy.release()


@pytest.mark.parametrize(
    ("method", "act"),
    [
        ("GET", lambda store: list(store.scan("a"))),
        ("POST", lambda store: store.delete(["a"])),
        ("GET", lambda store: store.remove_stale_uploads(0)),
    ],
    ids=["list", "delete", "list uploads"],
)
def test_lists_and_deletions_that_hang_are_let_go_too(
    open_store: Any, proxy: S3Proxy, method: str, act: Callable[[S3Store], object]
) -> None:
    store = open_store("&retry_seconds=3600&read_timeout_seconds=3600")
    hanging = proxy.cause(Trouble(method, times=1000, hang=True))
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(act, store)
        until(lambda: hanging.hits == 1, "the request comes")
        store.hang_up()
        with pytest.raises(Unavailable):
            waiting.result(60)
    proxy.release()


def test_who_is_connecting_when_the_gateway_stops_does_not_wait_for_an_answer(
    open_store: Any, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store("&retry_seconds=3600&read_timeout_seconds=3600", checked=False)
    connect = socket.socket.connect

    def connect_late(sock: socket.socket, address: Any) -> None:
        connect(sock, address)
        store.hang_up()  # before anybody knows of this connection

    hanging = proxy.cause(Trouble(times=1000, hang=True))
    monkeypatch.setattr(socket.socket, "connect", connect_late)
    with pytest.raises(Unavailable):
        store.get("a")
    assert hanging.hits == 0
    proxy.release()


def test_a_list_that_does_not_come_whole_is_none(store: S3Store, proxy: S3Proxy) -> None:
    store.put("a", [b"x"])
    cut = proxy.cause(Trouble("GET", key="list-type", cut_at=100))
    assert [found.key for found in store.scan()] == ["a"]
    assert cut.hits == 1


def test_a_server_that_comes_back_is_found_again(
    open_store: Any, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_patience, "_REST_SECONDS", 0)
    store = open_store("&retry_seconds=1")
    store.put("a", [b"x"])
    proxy.down()
    try:
        with pytest.raises(Unavailable, match="cannot be reached"):
            store.get("a")  # connections that were open break first, and that is tried again
        with pytest.raises(Unavailable, match="cannot be reached"):
            list(store.scan())
    finally:
        proxy.up()
    assert contents(store, "a") == b"x"


def test_a_refusal_is_not_tried_again(store: S3Store, proxy: S3Proxy) -> None:
    proxy.cause(Trouble(method="PUT", status=403, code="AccessDenied"))
    with pytest.raises(Unavailable, match="no right to write"):
        store.put("a", [b"x"])
    proxy.cause(Trouble(method="GET", status=403, code="RequestTimeTooSkewed"))
    with pytest.raises(Unavailable, match="clock"):
        store.get("a")
    assert proxy.counts() == {"PUT": 1, "GET": 1}


def test_a_store_without_room_says_so(store: S3Store, proxy: S3Proxy) -> None:
    proxy.cause(Trouble(method="PUT", status=507, code="InsufficientStorage"))
    with pytest.raises(Exhausted):
        store.put("a", [b"x"])


def test_connections_are_bounded(open_store: Any, proxy: S3Proxy) -> None:
    store = open_store("&max_connections=2&connect_timeout_seconds=1")
    store.put("a", [DATA * 4])
    bodies = [store.get("a") for _ in range(2)]
    with pytest.raises(Exhausted):
        store.get("a")
    for body in bodies:
        body.close()
    assert len(contents(store, "a")) == len(DATA) * 4


# Parts


def test_a_part_that_fails_is_sent_again(open_store: Any, proxy: S3Proxy, tmp_path: Path) -> None:
    store = open_store(part_bytes=5 * MIB)
    proxy.cause(Trouble(method="PUT", key="partNumber=2", times=2, status=500))
    store.put("a", file_of(tmp_path, DATA * 3))
    assert contents(store, "a") == DATA * 3
    assert proxy.counts("partNumber=1&") == {"PUT": 1}


def test_an_upload_that_fails_is_aborted(open_store: Any, proxy: S3Proxy, seaweed: Seaweed, tmp_path: Path) -> None:
    store = open_store(part_bytes=5 * MIB)
    proxy.cause(Trouble(method="PUT", key="partNumber=3", status=403, code="AccessDenied"))
    with pytest.raises(Unavailable, match="no right to write"):
        store.put("a", file_of(tmp_path, DATA * 3))
    assert proxy.counts("uploadId")["DELETE"] == 1
    assert uploads(seaweed, store) == []
    with pytest.raises(NotFound):
        store.head("a")


def test_a_completion_whose_answer_was_lost_is_recognised(open_store: Any, proxy: S3Proxy, tmp_path: Path) -> None:
    store = open_store(part_bytes=5 * MIB)
    lost = proxy.cause(Trouble(method="POST", key="uploadId", lose=True))
    store.put("a", file_of(tmp_path, DATA * 3))
    assert lost.hits == 1
    assert contents(store, "a") == DATA * 3


def test_parts_do_not_replace_an_object(open_store: Any, proxy: S3Proxy, tmp_path: Path) -> None:
    store = open_store(part_bytes=5 * MIB)
    store.put("a", [b"first"])
    with pytest.raises(Conflict):
        store.put("a", file_of(tmp_path, DATA * 3))
    assert proxy.counts("partNumber") == {}
    store.put("a", file_of(tmp_path, DATA * 3), if_absent=False)
    assert contents(store, "a") == DATA * 3


def test_buffers_too_are_sent_in_parts(open_store: Any) -> None:
    store = open_store(part_bytes=5 * MIB)
    pieces = [DATA[: 3 * MIB]] * 5
    store.put("a", pieces)
    assert contents(store, "a") == b"".join(pieces)


def test_stale_uploads_are_removed_and_others_left(open_store: Any, seaweed: Seaweed) -> None:
    store = open_store()
    settings = store._settings
    seaweed.client.create_multipart_upload(Bucket=BUCKET, Key=settings.prefix + "packs/a")
    assert store.remove_stale_uploads(3600) == 0
    assert uploads(seaweed, store) == ["packs/a"]
    assert store.remove_stale_uploads(-5) == 1
    assert uploads(seaweed, store) == []


def uploads(seaweed: Seaweed, store: S3Store) -> list[str]:
    prefix = store._settings.prefix
    found = seaweed.client.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix).get("Uploads", [])
    return [upload["Key"].removeprefix(prefix) for upload in found]


# The check, and names


def refused(store: S3Store) -> str:
    with pytest.raises(StorageError) as caught:
        store.check()
    assert isinstance(caught.value, Unavailable)
    return str(caught.value)


def test_the_check_names_what_is_missing(
    open_store: Any, proxy: S3Proxy, seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no such bucket" in refused(open_store(bucket="not-there", checked=False))
    store = open_store(checked=False)
    for method, verb in {"PUT": "write", "GET": "read", "DELETE": "delete"}.items():
        proxy.cause(Trouble(method=method, status=403, code="AccessDenied"))
        assert f"no right to {verb}" in refused(store)
    proxy.cause(Trouble(key="list-type", status=403, code="AccessDenied"))
    assert "no right to list" in refused(store)
    store.check()
    plain = f"s3://{BUCKET}?endpoint={proxy.endpoint}"
    for access, secret, said in (
        (seaweed.access_key, "wrong", "secret key does not belong"),
        ("unknown", "wrong", "access key is not known"),
        (READER_ACCESS_KEY, READER_SECRET_KEY, "no right to write"),
    ):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", access)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        text = refused(S3Store(parse_s3_url(plain)))
        assert said in text
        assert access not in text and secret not in text


@pytest.fixture
def metadata_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[socket.socket]]:
    """Nothing has credentials but a metadata service of a cloud, which never answers: who asked it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    asked: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")

    def accept() -> None:
        with suppress(OSError):
            while True:
                asked.append(listener.accept()[0])

    thread = threading.Thread(target=accept)
    thread.start()
    yield asked
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    for one in asked:
        one.close()


def test_without_credentials_a_silent_metadata_service_is_asked_once(
    metadata_requests: list[socket.socket], proxy: S3Proxy
) -> None:
    with pytest.raises(Unavailable, match=f"the bucket {BUCKET} .*there are no credentials.*AWS_ACCESS_KEY_ID"):
        S3Store(parse_s3_url(f"s3://{BUCKET}?endpoint={proxy.endpoint}"))
    assert len(metadata_requests) == 2, "one for a token, one without, a second each"


def test_the_metadata_service_is_not_asked_when_that_is_switched_off(
    metadata_requests: list[socket.socket], proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(Unavailable, match="there are no credentials"):
        S3Store(parse_s3_url(f"s3://{BUCKET}?endpoint={proxy.endpoint}"))
    assert metadata_requests == []


def test_files_with_keys_are_read_and_what_is_no_key_is_named(tmp_path: Path) -> None:
    file, missing = tmp_path / "key", tmp_path / "missing"
    file.write_text("two words\n")
    for access in (file, missing):
        with pytest.raises(Unavailable, match=r"key|file"):
            S3Store(parse_s3_url(f"s3://{BUCKET}?access_key_file={access}&secret_key_file={access}"))
    with pytest.raises(Unavailable, match="nobody"):
        S3Store(parse_s3_url(f"s3://{BUCKET}?profile=nobody"))


def test_a_missing_bucket_is_not_a_missing_object(open_store: Any, seaweed: Seaweed) -> None:
    seaweed.make_bucket("goes-away")
    store = open_store(bucket="goes-away")
    seaweed.client.delete_bucket(Bucket="goes-away")
    for act in (lambda: store.get("a"), lambda: store.head("a"), lambda: list(store.scan())):
        with pytest.raises(Unavailable, match="no such bucket"):
            act()


def test_a_key_that_must_be_absent_is_looked_for_where_the_server_does_not_refuse(
    store: S3Store, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(store), "exclusive", False)
    store.put("a", [b"x"])
    with pytest.raises(Conflict):
        store.put("a", [b"y"])
    assert proxy.counts() == {"HEAD": 2, "PUT": 1}


def test_a_scan_passes_over_what_is_no_key_of_ours(store: S3Store, seaweed: Seaweed) -> None:
    prefix = store._settings.prefix
    for name in ("a/.hidden", "a b", ".check/left-over", "a/b"):
        seaweed.client.put_object(Bucket=BUCKET, Key=prefix + name, Body=b"x")
    assert [found.key for found in store.scan()] == ["a/b"]
