"""STOW-RS into a real archive on a disk: what senders really send, stored, found and given back."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import pytest

from gateway import metrics
from gateway.compose_archive import open_archive
from gateway.config import Config, Spool, Web
from gateway.web.app import build
from gateway.web.server import WebServer
from storage.dicom.parse import parse
from tests import raw, samples
from tests.web.conftest import everybody
from tests.web.test_stow import MULTIPART, body_of, file, reasons, uids

INSTANCE = "/studies/2.25.90817.1/series/2.25.90817.1.1/instances/2.25.90817.1.1.1"
DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'


@dataclass
class Stored:
    """The web door, with a real archive behind it."""

    url: str
    client: httpx.Client

    def post(self, *files: bytes, path: str = "/studies") -> httpx.Response:
        return self.client.post(self.url + path, content=body_of(*files), headers={"content-type": MULTIPART})

    def found(self, query: str = "/instances") -> list[dict[str, Any]]:
        response = self.client.get(self.url + query, headers={"accept": "application/dicom+json"})
        return [] if response.status_code == 204 else list(response.json())

    def metadata(self, path: str = INSTANCE) -> dict[str, Any]:
        (found,) = self.client.get(self.url + path + "/metadata").json()
        return dict(found)


@pytest.fixture
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    backend = open_archive(Config(data=tmp_path_factory.mktemp("stored"), spool=Spool(min_free_bytes=0)))
    web = Web(listen="127.0.0.1:0")
    ready = backend.local.check
    server = WebServer(build(backend.local, everybody, web, ready=ready, metrics_text=metrics.render), web)
    server.start()
    host, port = server.address
    try:
        with httpx.Client(timeout=60) as client:
            yield Stored(f"http://{host}:{port}/dicomweb", client)
    finally:
        server.stop(5)
        backend.close()


def test_s_ct_json_what_the_archive_gives_as_metadata_can_be_stored_again(door: Stored) -> None:
    assert door.post(file(1)).status_code == 200
    metadata = door.metadata()
    uri = metadata["7FE00010"]["BulkDataURI"]
    pixels = door.client.get(uri, headers={"accept": "application/octet-stream"}).content
    metadata["00080018"]["Value"] = ["2.25.90817.1.1.9"]
    content = b"--b\r\nContent-Type: application/dicom+json\r\n\r\n" + orjson.dumps([metadata]) + b"\r\n"
    content += f"--b\r\nContent-Type: application/octet-stream\r\nContent-Location: {uri}\r\n\r\n".encode() + pixels
    headers = {"content-type": 'multipart/related; type="application/dicom+json"; boundary=b'}
    response = door.client.post(door.url + "/studies", content=content + b"\r\n--b--", headers=headers)
    assert (response.status_code, response.headers.get("warning")) == (200, None)
    copy = door.metadata(INSTANCE[:-1] + "9")
    changing = ("00080005", "00080018", "7FE00010")
    assert [entry for entry in copy.items() if entry[0] not in changing] == [
        entry for entry in metadata.items() if entry[0] not in changing
    ]
    again = door.client.get(copy["7FE00010"]["BulkDataURI"], headers={"accept": "application/octet-stream"})
    assert again.content == pixels == samples.ct().PixelData


def test_s_ct_dicom_s_durable_s_location_what_is_stored_is_found_at_once(door: Stored) -> None:
    response = door.post(file(1), file(2))
    assert response.status_code == 200
    assert response.headers["location"] == f"{door.url}/studies/2.25.90817.1"
    assert len(door.found()) == 2
    stored = response.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
    assert file(1) in door.client.get(stored, headers={"accept": DICOM}).content


def test_s_json_root_is_one_data_set(door: Stored) -> None:
    assert isinstance(door.post(file(1)).json(), dict)
    assert isinstance(door.post(b"no DICOM").json(), dict)


def test_s_202_some_stored_and_some_not(door: Stored) -> None:
    response = door.post(file(1), b"no DICOM")
    assert response.status_code == 202
    assert (uids(response.json(), "00081199"), reasons(response.json(), "0008119A")) == (["2.25.90817.1.1.1"], [0xC000])


def test_s_concurrent_stores_of_one_new_study(door: Stored) -> None:
    statuses = []

    def store(number: int) -> None:
        with httpx.Client(timeout=60) as client:
            statuses.append(Stored(door.url, client).post(file(number)).status_code)

    threads = [threading.Thread(target=store, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 6
    assert [row["00201208"]["Value"] for row in door.found("/studies?includefield=00201208")] == [[6]]


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.2"])
def test_s_implicit_and_big_endian_are_taken(door: Stored, syntax: str) -> None:
    ds = samples.ct()
    ds["PixelData"].VR = "OW"
    assert door.post(samples.part10(ds, syntax)).status_code == 200
    assert door.metadata()["00280010"]["Value"] == [16]


@pytest.mark.parametrize("bad", ["1.2." + "3" * 64, "1..2", "1.2.x", "../../x", "1.2/3"])
def test_s_baduid_is_refused(door: Stored, bad: str) -> None:
    content = raw.part10("1.2.840.10008.1.2.1", raw.uids(sop=bad.encode() + b"\0" * (len(bad) % 2)) + raw.parents())
    response = door.post(content)
    assert (response.status_code, reasons(response.json(), "0008119A")) == (400, [0xC003])
    assert door.found() == []


def test_s_baduid_padding_and_leading_zeros_are_taken(door: Stored) -> None:
    response = door.post(raw.part10("1.2.840.10008.1.2.1", raw.uids(sop=b"1.02.3  ") + raw.parents(study=b"1.2.4 ")))
    assert uids(response.json(), "00081199") == ["1.02.3"]
    assert len(door.found("/studies/1.2.4/instances")) == 1


def test_s_metamismatch_the_data_set_wins(door: Stored) -> None:
    response = door.post(file(1).replace(b"2.25.90817.1.1.1", b"2.25.90817.1.1.7", 1))
    assert (response.status_code, uids(response.json(), "00081199")) == (202, ["2.25.90817.1.1.1"])
    assert response.json()["00081199"]["Value"][0]["00081196"]["Value"] == [0xB007]
    assert [row["00080018"]["Value"] for row in door.found()] == [["2.25.90817.1.1.1"]]


def test_s_pdf_video_sr_are_stored_alike(door: Stored) -> None:
    classes = {
        2: "1.2.840.10008.5.1.4.1.1.104.1",  # Encapsulated PDF
        3: "1.2.840.10008.5.1.4.1.1.88.33",  # Comprehensive SR
        4: "1.2.840.10008.5.1.4.1.1.77.1.4.1",  # Video Photographic
        5: "1.2.840.10008.5.1.4.1.1.66",  # Raw Data
        6: "1.2.3.4.5",  # private
    }
    files = [file(number, SOPClassUID=uid, PixelData=None) for number, uid in classes.items()]
    assert door.post(*files).status_code == 200
    assert {row["00080016"]["Value"][0] for row in door.found()} == set(classes.values())


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (file(1)[128:], 200),  # no preamble
        (file(1)[132:], 200),  # nor prefix
        (samples.dataset_bytes(file(1)), 200),  # nor file meta information
        (file(1)[:140] + b"\x07\0\0\0" + file(1)[144:], 200),  # a wrong group length
    ],
)
def test_r_nopreamble_r_metalen_are_made_whole_files(door: Stored, content: bytes, status: int) -> None:
    assert door.post(content).status_code == status
    assert door.metadata()["00100020"]["Value"] == ["P1"]


def test_r_tsmismatch_is_told_and_read_right(door: Stored) -> None:
    explicit, implicit = file(1), samples.part10(samples.ct(), "1.2.840.10008.1.2")
    mixed = explicit[: len(explicit) - len(samples.dataset_bytes(explicit))] + samples.dataset_bytes(implicit)
    assert door.post(mixed).status_code == 202
    assert door.metadata()["00100020"]["Value"] == ["P1"]


def test_r_dicomdir_is_refused(door: Stored) -> None:
    response = door.post(file(1, SOPClassUID="1.2.840.10008.1.3.10"))
    assert response.status_code == 409
    assert [*reasons(response.json(), "00081198"), *reasons(response.json(), "0008119A")] == [0x0122]


def test_r_zeroframe_frames_of_what_has_no_pixels_are_404(door: Stored) -> None:
    assert door.post(file(1, PixelData=None)).status_code == 200
    assert door.client.get(f"{door.url}{INSTANCE}/frames/1").status_code == 404


def test_r_sameuid_a_series_in_two_studies_is_kept_apart(door: Stored) -> None:
    first, second = samples.ct(1), samples.ct(2)
    second.SeriesInstanceUID = first.SeriesInstanceUID
    assert door.post(samples.part10(first), samples.part10(second)).status_code == 200
    for study in (1, 2):
        assert len(door.found(f"/studies/2.25.90817.{study}/series/2.25.90817.1.1/instances")) == 1


def test_r_sameuid_s_sopclass_change_an_instance_in_two_series_does_not_move(door: Stored) -> None:
    other = samples.ct(1, 2)
    other.SOPInstanceUID = samples.ct().SOPInstanceUID
    assert door.post(file(1), samples.part10(other)).status_code == 200
    series = [row["0020000E"]["Value"][0] for row in door.found("/studies/2.25.90817.1/instances")]
    assert sorted(series) == ["2.25.90817.1.1", "2.25.90817.1.2"]


def test_r_nesteduid_within_sequences_names_nothing() -> None:
    nested = raw.explicit(0x00081140, "SQ", raw.item(raw.uids(sop=b"1.2.99\0\0")))
    before_parents = raw.uids() + nested + raw.parents()
    assert parse(raw.part10("1.2.840.10008.1.2.1", before_parents)).identity.sop_uid == "1.2.3"


def test_r_undef_r_undef_mix_of_sequences_and_items() -> None:
    inner = raw.explicit(0x00080100, "SH", b"CODE")
    lists = [raw.item(inner) + raw.open_item(inner), raw.open_item(inner) + raw.item(inner)]
    defined = raw.explicit(0x00082218, "SQ", lists[0])
    undefined = raw.explicit(0x00082229, "SQ", lists[1] + raw.SEQUENCE_END, raw.UNDEFINED)
    dataset = parse(raw.part10("1.2.840.10008.1.2.1", raw.uids() + defined + undefined + raw.parents())).dataset
    item = {"00080100": {"vr": "SH", "Value": ["CODE"]}}
    assert [dataset[key]["Value"] for key in ("00082218", "00082229")] == [[item, item]] * 2


def test_r_badvalue_r_vm_are_stored_and_given_as_they_are(door: Stored) -> None:
    odd = raw.explicit(0x00080020, "DA", b"2024.13.45") + raw.explicit(0x00080030, "TM", b"25:61:99")
    odd += raw.explicit(0x00101010, "AS", b"45") + raw.parents()
    odd += raw.explicit(0x00200013, "IS", b"1,5 ") + raw.explicit(0x00280030, "DS", b"NaN ")
    assert door.post(raw.part10("1.2.840.10008.1.2.1", raw.uids() + odd)).status_code in (200, 202)
    found = door.metadata("/studies/1.2.4/series/1.2.5/instances/1.2.3")
    assert found["00080020"]["Value"] == ["2024.13.45"]
    assert found["00101010"]["Value"] == ["45"]
    assert len(door.found("/studies?StudyInstanceUID=1.2.4")) == 1


def test_r_priv_blocks_of_several_creators_and_of_none() -> None:
    private = (
        raw.explicit(0x00310010, "LO", b"ONE ") + raw.explicit(0x003100FF, "LO", b"TWO ")
        + raw.explicit(0x00311001, "UN", b"\1\2") + raw.explicit(0x00312001, "LO", b"of nobody ")
        + raw.explicit(0x0031FF01, "US", b"\5\0")
    )  # fmt: skip
    dataset = parse(raw.part10("1.2.840.10008.1.2.1", raw.uids() + raw.parents() + private)).dataset
    assert dataset["00312001"]["Value"] == ["of nobody"]
    assert dataset["0031FF01"] == {"vr": "US", "Value": [5]}
    assert dataset["00311001"]["vr"] == "UN"


@pytest.mark.parametrize("lacking", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
def test_r_type1_a_missing_uid_is_refused(door: Stored, lacking: str) -> None:
    content = samples.dataset_bytes(samples.part10(samples.ct()))
    cut = content.replace(_uid_element(samples.ct(), lacking), b"", 1)
    assert len(cut) < len(content)
    response = door.post(cut)
    assert (response.status_code, reasons(response.json(), "0008119A")) == (400, [0xC002])


def _uid_element(ds: Any, keyword: str) -> bytes:
    element = ds[keyword]
    value = str(element.value).encode()
    return raw.explicit(int(element.tag), "UI", value + b"\0" * (len(value) % 2))
