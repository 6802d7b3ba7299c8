"""The gateway over folders and buckets: whatever the spool and the archive are, sealed or not, answers are the same."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian

from tests import samples
from tests.faults.test_serve import c_store, serve, stow
from tests.gateway_process import GatewayProcess
from tests.s3_proxy import S3Proxy, s3_proxy
from tests.seaweed import Seaweed

PATIENCE_SECONDS = 90
HTTP = httpx.Client(timeout=60)  # to make one takes longer than most requests
STUDY = f"{samples.ROOT}.1"


@pytest.fixture(scope="module", autouse=True)
def closing_connections() -> Iterator[None]:
    yield
    HTTP.close()


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until it comes true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def store_study(gateway: GatewayProcess) -> None:
    """A study by both doors: two series, a newer version, several frames, bytes that are not little endian."""
    frames = samples.ct(1, 2, 1, NumberOfFrames=3, PixelData=bytes(range(256)) * 6)
    files = [samples.part10(samples.ct(1, 1, number)) for number in range(1, 6)]
    files += [
        samples.part10(frames, ExplicitVRBigEndian),
        samples.part10(samples.ct(1, 2, 2, NumberOfFrames=2, PixelData=b"\1\2" * 512), DeflatedExplicitVRLittleEndian),
        samples.part10(samples.ct(1, 2, 3, size=1200), ExplicitVRLittleEndian),
    ]
    assert stow(gateway.web, *files).status_code == 200
    assert c_store(gateway, *(samples.ct(1, 1, number) for number in range(6, 10))) == [0x0000] * 4
    newer = samples.part10(samples.ct(1, 1, 1, StudyDescription="other"))
    assert stow(gateway.web, newer).status_code in (200, 202)


def answers(gateway: GatewayProcess) -> dict[str, object]:
    """What the gateway answers about the study, by path."""
    found: dict[str, object] = {}
    paths = ["/studies?includefield=all", "/series?includefield=all", "/instances?includefield=all&limit=100"]
    for path in paths:
        found[path] = HTTP.get(gateway.dicomweb + path).json()
    rows = HTTP.get(f"{gateway.dicomweb}/studies/{STUDY}/metadata").json()
    found["metadata"] = rows
    for row in rows:
        series, sop = row["0020000E"]["Value"][0], row["00080018"]["Value"][0]
        at = f"/studies/{STUDY}/series/{series}/instances/{sop}"
        numbers = range(1, int(row.get("00280008", {}).get("Value", [1])[0]) + 1)
        found[at] = file(gateway, at)
        found[f"{at}/bulkdata/7FE00010"] = file(gateway, f"{at}/bulkdata/7FE00010", "application/octet-stream")
        for number in numbers:
            path = f"{at}/frames/{number}"
            found[path] = file(gateway, path, "application/octet-stream")
    whole = HTTP.get(
        f"{gateway.dicomweb}/studies/{STUDY}",
        headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'},
    )
    assert whole.status_code == 200
    boundary = whole.headers["content-type"].rpartition("boundary=")[2].strip('"').encode()
    found["parts"] = sorted(whole.content.replace(gateway.web.encode(), b"").split(b"--" + boundary))
    return strip(found, gateway.web)


def file(gateway: GatewayProcess, path: str, media: str = "application/dicom; transfer-syntax=*") -> bytes:
    answer = HTTP.get(gateway.dicomweb + path, headers={"Accept": media})
    assert answer.status_code == 200, (path, answer.text)
    return answer.content


def strip(found: dict[str, object], web: str) -> dict[str, object]:
    """The same without the port, which is another after a restart."""
    return {path: value if isinstance(value, bytes) else repr(value).replace(web, "") for path, value in found.items()}


def seal(gateway: GatewayProcess) -> None:
    """`gateway seal --all`, beside the gateway."""
    command = [sys.executable, "-m", "gateway", "seal", "--all", "--data", str(gateway.data)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, env={**os.environ, **gateway.env}
    )
    assert done.returncode == 0, done.stdout + done.stderr


def loose_left(gateway: GatewayProcess) -> float:
    lines = HTTP.get(f"{gateway.web}/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith('gateway_loose{unit="instances"}'))


@pytest.fixture
def buckets(seaweed: Seaweed, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """The URL of a prefix of a bucket that only this test uses."""
    seaweed.make_bucket("stores")
    name = str(abs(hash(request.node.nodeid)))
    return lambda what: seaweed.url("stores", f"{name}/{what}")


@pytest.mark.parametrize(
    ("spool", "archive"),
    [
        ("folder", "bucket"),
        ("bucket", "bucket"),
        pytest.param("folder", "folder", marks=pytest.mark.long),
        pytest.param("bucket", "folder", marks=pytest.mark.long),
    ],
)
def test_sealed_or_not_in_folders_or_buckets_the_answers_are_the_same(
    tmp_path: Path, buckets: Callable[[str], str], spool: str, archive: str
) -> None:
    env = {"GATEWAY_ARCHIVE__SEAL_AFTER_SECONDS": "3600"}
    if spool == "bucket":
        env["GATEWAY_SPOOL__URL"] = buckets("spool")
    if archive == "bucket":
        env["GATEWAY_ARCHIVE__URL"] = buckets("archive")
    with GatewayProcess(tmp_path / "data", env=env) as gateway:
        store_study(gateway)
        before = answers(gateway)
        seal(gateway)
        assert answers(gateway) == before
        again = samples.part10(samples.ct(1, 2, 3, size=1200), ExplicitVRLittleEndian)
        assert stow(gateway.web, again).status_code == 200
        assert stow(gateway.web, samples.part10(samples.ct(1, 1, 100))).status_code == 200  # late, into a sealed series
        assert (
            len(HTTP.get(f"{gateway.dicomweb}/instances?limit=100").json()) == len(list(before_instances(before))) + 1
        )
        assert HTTP.get(f"{gateway.web}/readyz").json() == {"ready": True}


def before_instances(before: dict[str, object]) -> Iterator[str]:
    return (path for path in before if "/instances/" in path and path.count("/") == 6)


@pytest.fixture
def proxy(seaweed: Seaweed) -> Iterator[S3Proxy]:
    with s3_proxy(seaweed.endpoint) as running:
        yield running


def test_while_the_archive_is_away_ingest_goes_on_and_what_is_sealed_waits(
    tmp_path: Path, seaweed: Seaweed, proxy: S3Proxy
) -> None:
    seaweed.make_bucket("away")
    url = seaweed.url("away", str(abs(hash(tmp_path))), endpoint=proxy.endpoint)
    url += "&retry_seconds=1&connect_timeout_seconds=1&read_timeout_seconds=2"
    env = {"GATEWAY_ARCHIVE__URL": url, "GATEWAY_ARCHIVE__SEAL_AFTER_SECONDS": "0"}
    env |= {"GATEWAY_ARCHIVE__CACHE__MAX_BYTES": "0", "GATEWAY_ARCHIVE__CACHE__MAX_MEMORY_BYTES": "0"}
    with GatewayProcess(tmp_path / "data", env=env) as gateway:
        assert stow(gateway.web, samples.part10(samples.ct(1, 1, 1))).status_code == 200
        sealed = f"/studies/{STUDY}/series/{STUDY}.1/instances/{STUDY}.1.1"
        until(lambda: list((tmp_path / "data" / "objects").rglob("*.dcm")) and is_sealed(gateway), "sealed")
        bytes_of_it = file(gateway, sealed)
        proxy.down()
        assert HTTP.get(f"{gateway.dicomweb}{sealed}", headers={"Accept": "*/*"}).status_code == 503
        assert stow(gateway.web, samples.part10(samples.ct(1, 1, 2))).status_code == 200
        assert c_store(gateway, samples.ct(1, 1, 3)) == [0x0000]
        loose = f"/studies/{STUDY}/series/{STUDY}.1/instances/{STUDY}.1.2"
        assert file(gateway, loose) == samples.part10(samples.ct(1, 1, 2))
        assert len(HTTP.get(f"{gateway.dicomweb}/instances").json()) == 3

        def degraded() -> bool:
            answer = HTTP.get(f"{gateway.web}/readyz")
            assert answer.status_code == 200
            return "archive" in answer.json().get("degraded", "")

        until(degraded, "degraded")
    with GatewayProcess(tmp_path / "data", env=env) as gateway:  # it starts without its archive
        assert stow(gateway.web, samples.part10(samples.ct(1, 1, 4))).status_code == 200
        proxy.up()
        until(lambda: is_sealed(gateway), "sealed once the archive is back")
        assert file(gateway, sealed) == bytes_of_it


def is_sealed(gateway: GatewayProcess) -> bool:
    lines = HTTP.get(f"{gateway.web}/metrics").text.splitlines()
    sealed = [float(line.split()[1]) for line in lines if line.startswith('gateway_packs_total{act="sealed"}')]
    return bool(sealed) and sealed[0] > 0 and loose_left(gateway) == 0


@pytest.mark.parametrize(
    ("bucket", "change", "said"),
    [("absent", {}, "no such bucket"), ("stores", {"secret_key": "wrong"}, "secret key"), ("stores", {}, "")],
    ids=["no bucket", "wrong secret", "right"],
)
def test_an_archive_that_is_configured_wrongly_is_named_at_the_start(
    tmp_path: Path, seaweed: Seaweed, bucket: str, change: dict[str, str], said: str
) -> None:
    seaweed.make_bucket("stores")
    url = seaweed.url(bucket, "start")
    for name, text in change.items():
        path = tmp_path / name
        path.write_text(text)
        url = "&".join(f"{name}_file={path}" if part.startswith(f"{name}_file=") else part for part in url.split("&"))
    env = {"GATEWAY_ARCHIVE__URL": url}
    if not said:
        with GatewayProcess(tmp_path / "data", env=env) as gateway:
            assert HTTP.get(f"{gateway.web}/readyz").status_code == 200
        return
    result = serve("--data", str(tmp_path / "data"), "--web", "127.0.0.1:0", "--dimse", "127.0.0.1:0", env=env)
    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_at_the_high_water_mark_both_doors_refuse_until_it_is_sealed(tmp_path: Path) -> None:
    env = {"GATEWAY_SPOOL__MAX_BYTES": "2000", "GATEWAY_ARCHIVE__SEAL_AFTER_SECONDS": "3600"}
    with GatewayProcess(tmp_path / "data", env=env) as gateway:
        assert stow(gateway.web, samples.part10(samples.ct(1, 1, 1))).status_code == 200
        until(lambda: c_store(gateway, samples.ct(1, 1, 2)) == [0xA700], "refused by C-STORE")
        answer = stow(gateway.web, samples.part10(samples.ct(1, 1, 2)))
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert HTTP.get(f"{gateway.web}/readyz").status_code == 503
        assert len(file(gateway, f"/studies/{STUDY}/series/{STUDY}.1/instances/{STUDY}.1.1")) > 0
        seal(gateway)
        until(lambda: c_store(gateway, samples.ct(1, 1, 3)) == [0x0000], "stored again")


def test_what_is_sealed_is_read_from_its_copy_when_the_archive_fails(tmp_path: Path) -> None:
    env = {"GATEWAY_ARCHIVE__SEAL_AFTER_SECONDS": "0", "GATEWAY_COPIES__URL": f"file://{tmp_path}/copy"}
    with GatewayProcess(tmp_path / "data", env=env) as gateway:
        assert stow(gateway.web, samples.part10(samples.ct(1, 1, 1))).status_code == 200
        until(lambda: list((tmp_path / "copy").rglob("*.zip")), "copied")
        until(lambda: is_sealed(gateway), "sealed")
        for pack in (tmp_path / "data" / "archive").rglob("*.zip"):
            pack.unlink()
        sealed = f"/studies/{STUDY}/series/{STUDY}.1/instances/{STUDY}.1.1"
        assert file(gateway, sealed) == samples.part10(samples.ct(1, 1, 1))
        assert len(HTTP.get(f"{gateway.dicomweb}/studies/{STUDY}/metadata").json()) == 1


def test_workers_can_run_in_a_process_of_their_own(tmp_path: Path) -> None:
    env = {"GATEWAY_ARCHIVE__SEAL_AFTER_SECONDS": "0"}
    with (
        GatewayProcess(tmp_path / "data", "--only", "web", env=env) as door,
        GatewayProcess(tmp_path / "data", "--only", "workers", env=env) as workers,
    ):
        assert (workers.web, workers.dimse[1]) == ("", 0)
        assert stow(door.web, samples.part10(samples.ct(1, 1, 1))).status_code == 200
        until(lambda: list((tmp_path / "data" / "archive").rglob("*.zip")), "sealed")
        sealed = f"/studies/{STUDY}/series/{STUDY}.1/instances/{STUDY}.1.1"
        assert file(door, sealed) == samples.part10(samples.ct(1, 1, 1))
