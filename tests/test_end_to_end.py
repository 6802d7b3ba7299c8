"""The whole gateway as its users meet it: a real process, dcmtk in, dicomweb-client and plain HTTP out."""

import io
import socket
import subprocess
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom.uid import ExplicitVRLittleEndian

from tests import samples
from tests.dimse.conftest import requires_dcmtk
from tests.gateway_process import GatewayProcess

# How storescu is told to send a file in the transfer syntax in which it lies there.
NEVER_SENT = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.2")  # PS3.18 8.7.3
STORESCU_FLAGS = {
    "1.2.840.10008.1.2": "-xi",
    "1.2.840.10008.1.2.1": "-xe",
    "1.2.840.10008.1.2.2": "-xb",
    "1.2.840.10008.1.2.1.99": "-xd",
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
    "1.2.840.10008.1.2.5": "-xr",
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path_factory.mktemp("gateway")) as process:
        yield process


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def storescp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """dcmtk's receiver, writing the bytes exactly as they came: the witness of what storescu really sends."""
    folder, port = tmp_path_factory.mktemp("storescp"), free_port()
    process = subprocess.Popen(["storescp", "-B", "+xa", "--output-directory", str(folder), str(port)])
    for _ in range(100):
        if subprocess.run(["echoscu", "127.0.0.1", str(port)], capture_output=True).returncode == 0:
            break
        time.sleep(0.05)
    yield port, folder
    process.terminate()
    process.wait()


def storescu(host: str, port: int, flag: str, files: list[Path]) -> None:
    """Send the files; storescu stops at the first refusal, so its status proves that all were stored."""
    command = ["storescu", "-R", flag, "-aec", "GATEWAY", host, str(port), *map(str, files)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, env={"TCP_NODELAY": "1"})
    assert result.returncode == 0, result.stderr[-2000:]


def retrieved(web: str, ds: pydicom.Dataset) -> bytes:
    url = f"{web}/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
    answer = httpx.get(url, headers={"Accept": "application/dicom; transfer-syntax=*"}, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.content


def comparable(file: bytes) -> bytes:
    """The data set; a deflated one without the byte that pads it to an even length on the wire (PS3.5 A.5)."""
    ds = pydicom.dcmread(io.BytesIO(file), stop_before_pixels=True)
    data = samples.dataset_bytes(file)
    return zlib.decompressobj(-15).decompress(data) if ds.file_meta.TransferSyntaxUID.is_deflated else data


@requires_dcmtk
def test_every_valid_file_sent_by_storescu_comes_back_byte_for_byte(
    gateway: GatewayProcess, storescp: tuple[int, Path], tmp_path: Path
) -> None:
    witness_port, witness_folder = storescp
    groups: dict[str, dict[str, Path]] = defaultdict(dict)
    for number, (_, data) in enumerate(samples.valid_files()):
        ds = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
        file = tmp_path / f"{number}.dcm"
        file.write_bytes(data)
        groups[str(ds.file_meta.TransferSyntaxUID)][str(ds.SOPInstanceUID)] = file
    client = DICOMwebClient(gateway.dicomweb)
    compared = 0
    for transfer_syntax, files in groups.items():
        sendable = [file for file in files.values() if _storescu_can_read(file)]
        storescu("127.0.0.1", witness_port, STORESCU_FLAGS[transfer_syntax], sendable)
        storescu(*gateway.dimse, STORESCU_FLAGS[transfer_syntax], sendable)
        witnesses = list(witness_folder.iterdir())
        assert witnesses
        for witness in witnesses:
            sent = witness.read_bytes()
            ds = pydicom.dcmread(io.BytesIO(sent), stop_before_pixels=True)
            answer = retrieved(gateway.dicomweb, ds)
            got = pydicom.dcmread(io.BytesIO(answer), stop_before_pixels=True)
            if transfer_syntax in NEVER_SENT:
                assert got.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
                assert [e.tag for e in got] == [e.tag for e in ds if e.tag.element], witness.name
            else:
                assert comparable(answer) == comparable(sent), witness.name
                assert got.file_meta.TransferSyntaxUID == ds.file_meta.TransferSyntaxUID
            (row,) = client.search_for_instances(
                study_instance_uid=ds.StudyInstanceUID,
                series_instance_uid=ds.SeriesInstanceUID,
                search_filters={"SOPInstanceUID": str(ds.SOPInstanceUID)},
            )
            assert row["00080018"]["Value"] == [ds.SOPInstanceUID]
            witness.unlink()
            compared += 1
    assert compared > 150


def _storescu_can_read(file: Path) -> bool:
    """dcmtk cannot parse a few of the deliberately odd files; what it cannot read it cannot send."""
    command = ["dcmdump", "-q", "+P", "0008,0016", "+P", "0008,0018", str(file)]
    result = subprocess.run(command, capture_output=True, text=True)
    return result.returncode == 0 and result.stdout.count(" UI ") >= 2


@requires_dcmtk
def test_a_ct_with_a_chinese_name_is_found_and_read(gateway: GatewayProcess, tmp_path: Path) -> None:
    sent: dict[str, bytes] = {}
    for series in (1, 2, 3):
        for number in range(1, 201):
            ds = samples.ct(7, series, number, size=32, Modality="CT")
            file = tmp_path / f"{series}-{number}.dcm"
            file.write_bytes(samples.part10(ds))
            sent[ds.SOPInstanceUID] = ds.PixelData
    storescu(*gateway.dimse, "-xe", sorted(tmp_path.iterdir()))

    client = DICOMwebClient(gateway.dicomweb)
    filters = {"PatientName": "*小东*", "PatientID": "P7"}
    (study,) = client.search_for_studies(fields=["StudyDescription"], search_filters=filters)
    assert study["00100010"]["Value"][0]["Ideographic"] == "王^小东"
    assert study["00081030"]["Value"] == ["胸部CT平扫"]
    assert (study["00201206"]["Value"], study["00201208"]["Value"]) == ([3], [600])
    assert study["00080061"]["Value"] == ["CT"]
    study_uid = study["0020000D"]["Value"][0]
    series = client.search_for_series(study_uid)
    assert [row["00200011"]["Value"] for row in series] == [[1], [2], [3]]
    for row in series:
        series_uid = row["0020000E"]["Value"][0]
        metadata = client.retrieve_series_metadata(study_uid, series_uid)
        assert [instance["00200013"]["Value"] for instance in metadata] == [[n] for n in range(1, 201)]
        instances = client.retrieve_series(study_uid, series_uid)
        assert {ds.SOPInstanceUID: ds.PixelData for ds in instances}.items() <= sent.items()
        assert len(instances) == 200
        (frame,) = client.retrieve_instance_frames(
            study_uid, series_uid, instances[9].SOPInstanceUID, [1], media_types=("application/octet-stream",)
        )
        assert frame == sent[instances[9].SOPInstanceUID]


def test_stow_and_read_with_dicomweb_client(gateway: GatewayProcess) -> None:
    client = DICOMwebClient(gateway.dicomweb)
    sent = [samples.ct(8, 1, number) for number in (1, 2, 3)]
    for ds in sent:
        samples.part10(ds)  # adds the file meta group
    answer = client.store_instances(sent)
    assert len(answer.ReferencedSOPSequence) == 3
    assert "FailedSOPSequence" not in answer
    got = client.retrieve_instance(*(str(sent[1][k].value) for k in samples.IDENTITY[:3]))
    assert got == sent[1]
    assert np.array_equal(got.pixel_array, sent[1].pixel_array)


@requires_dcmtk
def test_the_same_bytes_by_both_doors_are_one_instance(gateway: GatewayProcess, tmp_path: Path) -> None:
    file = tmp_path / "one.dcm"
    file.write_bytes(samples.part10(samples.ct(9)))
    ds = pydicom.dcmread(file)
    DICOMwebClient(gateway.dicomweb).store_instances([ds])
    storescu(*gateway.dimse, "-xe", [file])
    rows = httpx.get(f"{gateway.dicomweb}/studies/{ds.StudyInstanceUID}/instances", timeout=60).json()
    assert len(rows) == 1
    assert samples.dataset_bytes(retrieved(gateway.dicomweb, ds)) == samples.dataset_bytes(file.read_bytes())
    assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
