"""`gateway serve` with a bucket behind a network that fails: right answers, "not now" or none at all; few requests."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import count as count_from
from itertools import takewhile
from pathlib import Path

import httpx
import pytest

from tests import samples
from tests.faults.commands import run
from tests.faults.ledger import DICOM, PATIENCE_SECONDS, Ledger, instances, parts, sending, until
from tests.faults.test_outages import SEALING, count
from tests.faults.test_serve import stow
from tests.gateway_process import GatewayProcess
from tests.s3_proxy import S3Proxy, Trouble, s3_proxy
from tests.seaweed import Seaweed

pytestmark = pytest.mark.timeout(300)  # servers start and stop, also on a machine that is busy
STUDY = f"{samples.ROOT}.1"
BY_COMMAND = {"GATEWAY_ARCHIVE__SEAL_AFTER_SECONDS": "3600"}
NOT_CACHED = {"GATEWAY_ARCHIVE__CACHE__MAX_BYTES": "0", "GATEWAY_ARCHIVE__CACHE__MAX_MEMORY_BYTES": "0"}
ONE = f"/studies/{STUDY}/series/{STUDY}.1/instances/{STUDY}.1.3"
RESOURCES = {
    f"{ONE}/frames/1": "application/octet-stream",
    ONE: "application/dicom; transfer-syntax=*",
    f"/studies/{STUDY}/series/{STUDY}.1": DICOM,
}
TROUBLES = {
    "500": Trouble(status=500),
    "503": Trouble(status=503, code="SlowDown"),
    "no answer": Trouble(lose=True),
    "silence": Trouble(hang=True),
    "cut short": Trouble("GET", cut_at=700),
    "flipped": Trouble("GET", flip_at=700),
}
PATIENT = "&retry_seconds=60&read_retry_seconds=60&read_timeout_seconds=1"
IMPATIENT = "&retry_seconds=0.3&read_timeout_seconds=1"


@pytest.fixture
def proxy(seaweed: Seaweed) -> Iterator[S3Proxy]:
    seaweed.make_bucket("trouble")
    with s3_proxy(seaweed.endpoint) as between:
        yield between


def asked(client: httpx.Client, path: str) -> object:
    """What comes as the answer, without boundaries and addresses; None when it was refused for now or broke off."""
    try:
        answer = client.get(path, headers={"Accept": RESOURCES.get(path, "application/dicom+json")})
    except httpx.RemoteProtocolError:
        return None
    if answer.status_code == 503:
        assert int(answer.headers["Retry-After"]) > 0
        return None
    assert answer.status_code == 200, (path, answer.text)
    if answer.headers["content-type"].startswith("multipart"):
        return sorted(parts(answer))
    return answer.content.replace(str(client.base_url).encode(), b"")


def bucket(seaweed: Seaweed, proxy: S3Proxy, waits: str) -> str:
    return seaweed.url("trouble", uuid.uuid4().hex, endpoint=proxy.endpoint) + waits


@pytest.fixture
def doors(
    tmp_path: Path, seaweed: Seaweed, proxy: S3Proxy
) -> Iterator[tuple[GatewayProcess, httpx.Client, httpx.Client]]:
    """A gateway, one that asks its bucket patiently, and one on the same data that gives up soon."""
    url = bucket(seaweed, proxy, "")
    env = [BY_COMMAND | NOT_CACHED | {"GATEWAY_ARCHIVE__URL": url + waits} for waits in (PATIENT, IMPATIENT)]
    with (
        GatewayProcess(tmp_path / "data", env=env[0]) as patient,
        GatewayProcess(tmp_path / "data", "--only", "web", env=env[1]) as impatient,
        httpx.Client(timeout=PATIENCE_SECONDS, base_url=patient.dicomweb) as first,
        httpx.Client(timeout=PATIENCE_SECONDS, base_url=impatient.dicomweb) as second,
    ):
        yield patient, first, second


def test_what_is_sealed_is_read_right_or_not_at_all(
    doors: tuple[GatewayProcess, httpx.Client, httpx.Client], proxy: S3Proxy
) -> None:
    gateway, patient, impatient = doors
    ledger = Ledger()
    # Metadata is kept in memory once it was read: each look is at a series of its own.
    metadata = [f"/studies/{STUDY}/series/{STUDY}.{series}/metadata" for series in range(11, 11 + len(TROUBLES))]
    with sending(gateway, ledger, [samples.ct(1, 1, n) for n in range(1, 6)]):
        pass
    with sending(gateway, ledger, [samples.ct(1, series, 1) for series in range(11, 11 + len(TROUBLES))]):
        pass
    before = {path: asked(patient, path) for path in (*RESOURCES, *metadata)}
    run(gateway, "seal", "--all")
    for (name, trouble), rows in zip(TROUBLES.items(), metadata, strict=True):
        for path in (*RESOURCES, rows):
            proxy.forget()
            once = proxy.cause(replace(trouble, key="packs/"))
            assert asked(patient, path) == before[path], (name, path)
            assert once.hits == 1, (name, path)
        proxy.forget()
        until(lambda: asked(impatient, ONE) == before[ONE], "the bucket is not left in peace any more")
        lasting = proxy.cause(replace(trouble, key="packs/", times=10_000))
        paths = (*RESOURCES, rows)
        with ThreadPoolExecutor() as threads:
            answers = list(threads.map(partial(asked, impatient), paths))
        for path, answer in zip(paths, answers, strict=True):  # a short answer that is cut again and again is complete
            assert answer is None or (name == "cut short" and answer == before[path]), (name, path)
        assert lasting.hits
    proxy.forget()
    until(lambda: asked(impatient, ONE) == before[ONE], "the bucket is not left in peace any more")
    assert {path: asked(impatient, path) for path in before} == before
    ledger.check_all(gateway)


def test_whoever_waits_for_a_bucket_that_hangs_is_answered_when_the_gateway_stops(
    tmp_path: Path, seaweed: Seaweed, proxy: S3Proxy
) -> None:
    env = BY_COMMAND | NOT_CACHED | {"GATEWAY_ARCHIVE__URL": bucket(seaweed, proxy, "&read_timeout_seconds=3600")}
    ledger = Ledger()
    with GatewayProcess(tmp_path / "data", env=env) as gateway, ThreadPoolExecutor(60) as threads:
        with sending(gateway, ledger, [samples.ct(1, 1, n) for n in range(1, 6)]):
            pass
        run(gateway, "seal", "--all")
        with sending(gateway, ledger, [samples.ct(2, 1, 1)]):
            pass
        hanging = proxy.cause(Trouble("GET", key="packs/", times=10_000, hang=True))
        with httpx.Client(timeout=PATIENCE_SECONDS, base_url=gateway.dicomweb) as client:
            waiting = [threads.submit(asked, client, ONE) for _ in range(60)]
            until(lambda: hanging.hits, "the bucket is asked")
            loose = f"/studies/{samples.ROOT}.2/series/{samples.ROOT}.2.1/instances/{samples.ROOT}.2.1.1/frames/1"
            assert client.get(loose, headers={"Accept": "application/octet-stream"}).status_code == 200
            assert gateway.stop(60) == 0
            for one in waiting:
                assert one.result(PATIENCE_SECONDS) is None
        assert "ASGI" not in "".join(gateway.output)


@pytest.mark.long
def test_sealing_amid_all_kinds_of_trouble(tmp_path: Path, seaweed: Seaweed, proxy: S3Proxy) -> None:
    env = SEALING | NOT_CACHED | {"GATEWAY_ARCHIVE__URL": bucket(seaweed, proxy, PATIENT)}
    ledger = Ledger()
    with GatewayProcess(tmp_path / "data", env=env) as gateway:
        caused = [
            proxy.cause(replace(trouble, method=method, key="packs/"))
            for trouble in TROUBLES.values()
            for method in ([trouble.method] if trouble.method else ["PUT", "GET"])
        ]
        with sending(gateway, ledger, [samples.ct(study, 1, n) for n in range(3) for study in range(1, 5)]):
            pass
        until(lambda: all(trouble.hits for trouble in caused) or count(gateway, "instances") == 0, "all was tried")
        with sending(gateway, ledger, [samples.ct(study, 2, n) for n in range(3) for study in range(1, 5)]):
            pass
        until(lambda: count(gateway, "instances") == 0, "the backlog drains")
        proxy.forget()
        ledger.check_all(gateway)
        run(gateway, "verify")


def test_at_the_high_water_mark_stores_wait_until_the_bucket_is_back(
    tmp_path: Path, seaweed: Seaweed, proxy: S3Proxy
) -> None:
    env = SEALING | {"GATEWAY_SPOOL__MAX_BYTES": "20000", "GATEWAY_ARCHIVE__URL": bucket(seaweed, proxy, IMPATIENT)}
    ledger = Ledger()
    with GatewayProcess(tmp_path / "data", env=env) as gateway:
        proxy.down()
        todo = takewhile(lambda _: not ledger.refused, (samples.ct(1, n % 5, n) for n in count_from(1)))
        with sending(gateway, ledger, todo):
            until(lambda: sum(ledger.refused.values()) > 10, "refused")
            ledger.check(gateway)
            proxy.up()
        until(lambda: count(gateway, "instances") == 0, "the backlog drains")
        ledger.check_all(gateway)


def sealed_for_few_requests(tmp_path: Path, seaweed: Seaweed, proxy: S3Proxy, size: int, at_once: int) -> None:
    env = BY_COMMAND | NOT_CACHED | {"GATEWAY_ARCHIVE__URL": bucket(seaweed, proxy, "")}
    made = samples.part10(samples.ct(1, 1, 10_000, size=size))
    files = [made.replace(f"{STUDY}.1.10000".encode(), f"{STUDY}.1.{n}".encode()) for n in range(10_000, 11_000)]
    with GatewayProcess(tmp_path / "data", env=env) as gateway:
        for start in range(0, len(files), at_once):
            assert stow(gateway.web, *files[start : start + at_once]).status_code == 200
        proxy.forget()
        run(gateway, "seal", "--all")
        assert sum(proxy.counts().values()) <= 12, proxy.counts()
        assert sum(proxy.counts("packs/").values()) > 0
        proxy.forget()
        with httpx.Client(timeout=PATIENCE_SECONDS, base_url=gateway.dicomweb) as client:
            assert sorted(instances(client, f"/studies/{STUDY}/series/{STUDY}.1")) == sorted(files)
            assert sum(proxy.counts().values()) <= 12, proxy.counts()
            assert sum(proxy.counts("packs/").values()) > 0


def test_a_thousand_slices_are_sealed_and_read_with_few_requests(
    tmp_path: Path, seaweed: Seaweed, proxy: S3Proxy
) -> None:
    sealed_for_few_requests(tmp_path, seaweed, proxy, size=16, at_once=1000)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_real_ct_is_sealed_and_read_with_few_requests(tmp_path: Path, seaweed: Seaweed, proxy: S3Proxy) -> None:
    sealed_for_few_requests(tmp_path, seaweed, proxy, size=512, at_once=50)
