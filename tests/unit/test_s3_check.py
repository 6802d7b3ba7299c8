"""How often a bucket is tried, what a trial leaves, and that deletion in a bucket that keeps versions is deletion."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from storage.errors import Unavailable
from storage.objects import s3_check
from storage.objects.s3 import S3Store
from storage.objects.s3_check import Watch
from storage.objects.s3_settings import parse_s3_url
from tests.s3_proxy import S3Proxy, Trouble, s3_proxy
from tests.seaweed import Seaweed

BUCKET = "s3-check"


@pytest.fixture(scope="module")
def proxy(seaweed: Seaweed) -> Iterator[S3Proxy]:
    seaweed.make_bucket(BUCKET)
    with s3_proxy(seaweed.endpoint) as running:
        yield running


class Watched:
    """A watch over a bucket, with a clock that is set by hand."""

    def __init__(self, url: str) -> None:
        self.now = 0.0
        self.store = S3Store(parse_s3_url(url))
        self.settings = self.store._settings
        self.watch = Watch(self.store._bucket, self.store._wire, self.settings, clock=lambda: self.now)


@pytest.fixture
def watched(seaweed: Seaweed, proxy: S3Proxy) -> Iterator[Watched]:
    proxy.forget()
    one = Watched(seaweed.url(BUCKET, uuid.uuid4().hex, endpoint=proxy.endpoint))
    yield one
    proxy.forget()
    one.store.close()


def test_a_bucket_in_order_is_listed_once_a_minute_and_tried_each_quarter_of_an_hour(
    watched: Watched, proxy: S3Proxy
) -> None:
    watched.watch.check()
    assert proxy.counts()["PUT"] == 3
    proxy.forget()
    for watched.now in range(0, 900, 5):
        watched.watch.check()
    assert proxy.counts() == {"GET": 14}
    watched.now = 900
    watched.watch.check()
    assert proxy.counts()["PUT"] == 3


def test_after_trouble_everything_is_tried(watched: Watched, proxy: S3Proxy) -> None:
    watched.watch.check()
    watched.now = 60
    proxy.cause(Trouble(key="list-type", status=403, code="AccessDenied"))
    with pytest.raises(Unavailable, match=f"the bucket {BUCKET} at .* no right to list"):
        watched.watch.check()
    proxy.forget()
    proxy.cause(Trouble(method="PUT", status=403, code="AccessDenied"))
    with pytest.raises(Unavailable, match="no right to write"):
        watched.watch.check()
    watched.watch.check()
    proxy.forget()
    watched.watch.check()
    assert proxy.counts() == {}
    watched.watch.check(doubtful=True)
    assert proxy.counts()["PUT"] == 3


def test_who_was_in_vain_asked_for_an_object_is_tried_before_the_minute_is_over(
    seaweed: Seaweed, proxy: S3Proxy
) -> None:
    store = S3Store(parse_s3_url(seaweed.url(BUCKET, uuid.uuid4().hex, endpoint=proxy.endpoint) + "&retry_seconds=0"))
    store.check()
    proxy.down()
    try:
        for act in (lambda: store.head("a"), store.check):
            with pytest.raises(Unavailable):
                act()
    finally:
        proxy.up()
    store.check()
    store.close()


def test_what_is_known_of_a_server_is_learnt_once(watched: Watched, proxy: S3Proxy) -> None:
    assert watched.watch.traits() == watched.watch.traits()
    assert proxy.counts()["PUT"] == 3


def probes(seaweed: Seaweed, watched: Watched) -> list[str]:
    found = seaweed.client.list_objects_v2(Bucket=BUCKET, Prefix=f"{watched.settings.prefix}.check/")
    return [item["Key"] for item in found.get("Contents", ())]


def test_what_a_trial_could_not_delete_the_next_one_does(watched: Watched, proxy: S3Proxy, seaweed: Seaweed) -> None:
    for _ in range(3):
        proxy.cause(Trouble(method="DELETE", status=500))
        with pytest.raises(Unavailable, match="cannot delete now"):
            watched.watch.check()
    assert len(probes(seaweed, watched)) == 2
    watched.watch.check()
    assert probes(seaweed, watched) == []


def test_what_a_process_left_that_ended_is_removed_an_hour_later(
    watched: Watched, seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = f"{watched.settings.prefix}.check/0123456789abcdef/a-b"
    seaweed.client.put_object(Bucket=BUCKET, Key=left, Body=b"probe")
    watched.watch.check()
    assert probes(seaweed, watched) == [left]
    monkeypatch.setattr(s3_check, "_LEFT_OVER", -3600 * 1_000_000)
    watched.watch.check(doubtful=True)
    assert probes(seaweed, watched) == []


# Buckets that keep versions


def versions(seaweed: Seaweed, bucket: str) -> list[str]:
    found = seaweed.client.list_object_versions(Bucket=bucket)
    return sorted(version["Key"] for version in found.get("Versions", ()))


@pytest.fixture
def versioned(seaweed: Seaweed) -> str:
    bucket = seaweed.make_bucket(f"versions-{uuid.uuid4().hex}")
    keep_versions(seaweed, bucket, "Enabled")
    return bucket


def keep_versions(seaweed: Seaweed, bucket: str, status: str) -> None:
    seaweed.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})


@pytest.mark.parametrize("status", ["Enabled", "Suspended"])
def test_what_is_deleted_leaves_no_version(seaweed: Seaweed, versioned: str, status: str) -> None:
    store = S3Store(parse_s3_url(seaweed.url(versioned)))
    store.check()
    assert versions(seaweed, versioned) == []
    for key in ("a", "a-b", "a/b", "b"):
        store.put(key, [b"first"])
    store.put("a", [b"second"], if_absent=False)
    keep_versions(seaweed, versioned, status)
    again = S3Store(parse_s3_url(seaweed.url(versioned)))
    again.delete(["a", "b", "not-there"])
    assert versions(seaweed, versioned) == ["a-b", "a/b"]
    for one in (store, again):
        one.close()


def test_many_versions_are_deleted_page_by_page(
    seaweed: Seaweed, versioned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.objects.s3_bucket.MOST", 2)
    store = S3Store(parse_s3_url(seaweed.url(versioned)))
    for number in range(5):
        store.put("a", [b"%d" % number], if_absent=False)
    store.put("a-b", [b"another"])
    store.delete(["a"])
    assert versions(seaweed, versioned) == ["a-b"]
    store.close()


def test_a_bucket_that_locks_its_versions_is_refused(seaweed: Seaweed) -> None:
    client: Any = seaweed.client
    bucket = f"locked-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    client.put_object_lock_configuration(
        Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    store = S3Store(parse_s3_url(seaweed.url(bucket)))
    with pytest.raises(Unavailable, match=rf"the bucket {bucket} .* keeps versions, .*Object Lock"):
        store.check()
    store.close()
