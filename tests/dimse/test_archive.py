"""The DIMSE door before the real archive: disk, index and all (DESIGN: success means durable and findable)."""

import io
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from gateway.archive.local import LocalArchive
from gateway.config import Dimse, Ingest, Security
from gateway.dimse import command
from gateway.dimse.send import DimseSender
from gateway.dimse.server import DimseServer
from gateway.security.ae_rules import AERules
from gateway.security.caller import Caller
from storage.dicom.identity import Scope
from storage.index.sqlite import SqliteIndex
from storage.objects.disk import DiskStore
from tests.dimse.peers import CT, EXPLICIT, RawPeer, data_pdu, pdv
from tests.samples import ct, dataset_bytes, part10, valid_files
from tests.unit.fakes import places

READER = Caller("test", "127.0.0.1", "dimse")


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalArchive]:
    spool = DiskStore(tmp_path / "objects")
    index = SqliteIndex(tmp_path / "index.sqlite")
    yield LocalArchive(places(spool.staging, spool), index, ingest=Ingest())
    index.close()


@pytest.fixture
def real(local: LocalArchive) -> Iterator[DimseServer]:
    settings = Dimse(listen="127.0.0.1:0")
    server = DimseServer(local, AERules(settings, Security()), settings)
    server.start()
    yield server
    server.stop(5)


def stored_bytes(local: LocalArchive, ds: pydicom.Dataset) -> bytes:
    scope = Scope(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID)
    (part,) = local.retrieve(scope, accept=("*",), by=READER)
    return b"".join(part.chunks())


def test_every_valid_file_is_stored_and_comes_back_as_sent(real: DimseServer, local: LocalArchive) -> None:
    files = [(path, pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)) for path, data in valid_files()]
    pairs = [(str(ds.SOPClassUID), str(ds.file_meta.TransferSyntaxUID)) for _, ds in files]
    newest: dict[str, tuple[Path, pydicom.Dataset]] = {}
    refused = set()
    with DimseSender(*real.address, called="GATEWAY", calling="T", contexts=pairs) as sending:
        for path, ds in files:
            status = sending.send(path)
            if status == 0:
                newest[ds.SOPInstanceUID] = (path, ds)
            else:
                refused.add((path.name, status))
    assert refused == {("MR_truncated.dcm", 0xC001), ("rtplan_truncated.dcm", 0xC001)}
    assert len(newest) > 100
    for path, ds in newest.values():
        assert dataset_bytes(stored_bytes(local, ds)) == dataset_bytes(path.read_bytes()), path


def test_file_meta_says_where_it_came_from(real: DimseServer, local: LocalArchive) -> None:
    ds = ct()
    with RawPeer(real.address) as peer:
        peer.associate(calling="CT_ROOM_1")
        assert peer.store(dataset_bytes(part10(ds)), sop_uid=ds.SOPInstanceUID).number(command.STATUS) == 0
    meta = pydicom.dcmread(io.BytesIO(stored_bytes(local, ds))).file_meta
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.SourceApplicationEntityTitle == "CT_ROOM_1"
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (CT, ds.SOPInstanceUID)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (dataset_bytes(part10(ct(number=2))), 0xA900),  # another SOP Instance UID than announced
        (dataset_bytes(part10(ct(SOPClassUID="1.2.840.10008.5.1.4.1.1.4"))), 0xA900),
        (dataset_bytes(part10(ct(StudyInstanceUID=None))), 0xC002),
        (dataset_bytes(part10(ct(SeriesInstanceUID="1.2.3"))).replace(b"1.2.3\0", b"1..23\0"), 0xC003),
        (dataset_bytes(part10(ct()))[:300], 0xC001),
    ],
    ids=["instance", "class", "no study", "bad series", "cut short"],
)
def test_what_cannot_be_stored_has_its_status(real: DimseServer, data: bytes, status: int) -> None:
    with RawPeer(real.address) as peer:
        peer.associate()
        response = peer.store(data, sop_uid=ct().SOPInstanceUID)
        assert response.number(command.STATUS) == status
        assert 0 < len(response.text(command.ERROR_COMMENT)) <= 64
        assert peer.echo() == 0


def test_garbage_is_not_understood(real: DimseServer) -> None:
    with RawPeer(real.address) as peer:
        peer.associate()
        for data in (b"", os.urandom(5000), b"\0" * 5000):
            assert peer.store(data).number(command.STATUS) >> 12 == 0xC


def test_sent_again_it_is_success_and_other_bytes_are_a_version(real: DimseServer, local: LocalArchive) -> None:
    first, second = ct(), ct(StudyDescription="corrected")
    with RawPeer(real.address) as peer:
        peer.associate()
        for ds in (first, first, second):
            status = peer.store(dataset_bytes(part10(ds)), sop_uid=ds.SOPInstanceUID).number(command.STATUS)
            assert status == 0
    assert dataset_bytes(stored_bytes(local, first)) == dataset_bytes(part10(second))


def test_several_senders_of_one_instance_all_succeed(real: DimseServer, local: LocalArchive) -> None:
    ds = ct(size=200)
    data, statuses = dataset_bytes(part10(ds)), []

    def send() -> None:
        with RawPeer(real.address) as peer:
            peer.associate()
            statuses.append(peer.store(data, sop_uid=ds.SOPInstanceUID).number(command.STATUS))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0] * 8
    assert dataset_bytes(stored_bytes(local, ds)) == data


def test_a_large_instance_costs_no_memory(real: DimseServer, local: LocalArchive) -> None:
    """300 MB through door, disk and index, while the process grows by less than 60 MB."""
    whole = dataset_bytes(part10(ct(PixelData=None, Rows=10_000, Columns=10_000, NumberOfFrames=1)))
    length = 300 << 20
    head = whole + b"\xe0\x7f\x10\0OW\0\0" + length.to_bytes(4, "little")
    piece = data_pdu(pdv(3, 0, bytes(131072 - 6)))
    with RawPeer(real.address, timeout=60) as peer:
        peer.associate()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peer.send(data_pdu(pdv(3, 3, peer.store_command(sop_uid=ct().SOPInstanceUID))), data_pdu(pdv(3, 0, head)))
        for _ in range(length // (131072 - 6)):
            peer.send(piece)
        peer.send(data_pdu(pdv(3, 2, bytes(length % (131072 - 6)))))
        assert peer.response().number(command.STATUS) == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 << 10
