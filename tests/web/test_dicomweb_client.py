"""The door through dicomweb-client, a strict client that is not ours, with its own defaults."""

import io
from collections.abc import Iterator

import numpy
import pydicom
import pytest
from dicomweb_client import DICOMwebClient

from tests import samples
from tests.web.conftest import Door
from tests.web.test_retrieve import jls

STUDY, SERIES, INSTANCE = "2.25.90817.1", "2.25.90817.1.1", "2.25.90817.1.1.1"


@pytest.fixture
def client(ct: Door) -> Iterator[DICOMwebClient]:
    client = DICOMwebClient(ct.url)
    yield client
    client._session.close()


def test_store_search_retrieve(door: Door) -> None:
    client = DICOMwebClient(door.url)
    datasets = [pydicom.dcmread(io.BytesIO(samples.part10(samples.ct(number=number)))) for number in (1, 2)]
    answer = client.store_instances(datasets)
    assert len(answer.ReferencedSOPSequence) == 2
    assert client.store_instances(datasets, STUDY).RetrieveURL == f"{door.url}/studies/{STUDY}"
    client._session.close()


def test_search(client: DICOMwebClient) -> None:
    assert len(client.search_for_studies()) == 2
    assert (
        len(client.search_for_studies(search_filters={"PatientID": "P1"}, fields=["StudyDescription", "00080060"])) == 1
    )
    assert len(client.search_for_series(STUDY)) == 2
    assert len(client.search_for_instances(STUDY, SERIES, limit=10)) == 2
    assert len(client.search_for_instances(get_remaining=True, limit=2)) == 5
    assert client.search_for_studies(search_filters={"PatientID": "nobody"}) == []


def test_retrieve(client: DICOMwebClient) -> None:
    assert len(client.retrieve_study(STUDY)) == 4
    assert len(list(client.iter_series(STUDY, SERIES))) == 2
    assert client.retrieve_instance(STUDY, SERIES, INSTANCE).PatientID == "P1"
    assert len(client.retrieve_study_metadata(STUDY)) == 4
    assert len(client.retrieve_series_metadata(STUDY, SERIES)) == 2
    assert client.retrieve_instance_metadata(STUDY, SERIES, INSTANCE)["00100020"]["Value"] == ["P1"]


def test_frames_and_bulk_data(ct: Door, client: DICOMwebClient) -> None:
    ds = client.retrieve_instance(STUDY, SERIES, INSTANCE)
    for media_types in (None, ("application/octet-stream",), (("application/octet-stream", "1.2.840.10008.1.2.1"),)):
        (frame,) = client.retrieve_instance_frames(STUDY, SERIES, INSTANCE, [1], media_types=media_types)
        assert frame == ds.PixelData
        assert numpy.frombuffer(frame, "<i2").size == ds.Rows * ds.Columns
    metadata = client.retrieve_instance_metadata(STUDY, SERIES, INSTANCE)
    (value,) = client.retrieve_bulkdata(metadata["7FE00010"]["BulkDataURI"])
    assert value == ds.PixelData


def test_compressed_frames(ct: Door, client: DICOMwebClient) -> None:
    ct.keep(jls(frames=2))
    where = ("2.25.90817.3", "2.25.90817.3.1", "2.25.90817.3.1.1")
    for media_types in (None, ("image/jls",), (("image/jls", "1.2.840.10008.1.2.4.80"),), ("image/*",)):
        frames = client.retrieve_instance_frames(*where, [1, 2], media_types=media_types)
        assert [bytes(frame).rstrip(b"\0") for frame in frames] == [
            b"\xff\xd8 frame 1 \xff\xd9",
            b"\xff\xd8 frame 2 \xff\xd9",
        ]
