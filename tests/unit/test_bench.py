"""The benchmark's data is real DICOM, its sender is understood, and its results can be shown."""

import io
from itertools import islice
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pynetdicom import AE, evt

from bench import data, report
from bench.dicom import Instance
from bench.figures import FULL, QUICK, all_figures
from bench.jobs import multipart
from bench.load import Done, Failed, Job, Running, Sample, measure
from bench.report import Results
from bench.scu import Association, Refused
from bench.server import Server, running

NOWHERE = Server("nowhere", "http://127.0.0.1:9", ("127.0.0.1", 9), "NOBODY")


def read(instance: Instance) -> pydicom.FileDataset:
    return pydicom.dcmread(io.BytesIO(b"".join([instance.preface, *instance.buffers])))


def test_small_studies_are_what_the_searches_expect() -> None:
    for number in range(1, 30):
        about, instance = data.small_study(number), data.small_instance(number)
        ds = read(instance)
        assert (ds.PatientID, ds.StudyDate, ds.Modality) == (about.patient_id, about.date, about.modality)
        assert ds.PatientName == f"{about.latin_name}={about.chinese_name}"
        assert ds.StudyInstanceUID == instance.study_uid == data.uid(number)
        assert (ds.SOPInstanceUID, ds.file_meta.MediaStorageSOPInstanceUID) == (instance.sop_uid, instance.sop_uid)
        assert ds.pixel_array.shape == (64, 64)
        assert 8_000 < instance.length < 10_000


def test_a_ct_slice_is_one() -> None:
    slices = list(islice(data.ct_study(data.CT_STUDY), 3))
    for number, instance in enumerate(slices, 1):
        ds = read(instance)
        assert (ds.InstanceNumber, ds.SeriesNumber, ds.pixel_array.shape) == (number, 1, (512, 512))
        assert ds.PatientName.ideographic == "王^小东"
        assert ds.RequestAttributesSequence[0].RequestedProcedureID == "R1"
        assert -1200 < ds.pixel_array.min() < -900 < 600 < ds.pixel_array.max()
    assert len({instance.sop_uid for instance in slices}) == 3


def test_the_large_object_takes_no_memory_here() -> None:
    instance = data.large_instance(data.fresh_study(), 2048)
    assert instance.length > 2 << 30
    assert len(set(map(id, instance.buffers))) == 2
    assert read(data.large_instance(data.fresh_study(), 2)).pixel_array.shape == (2, 1024, 1024)


def test_each_figure_is_in_the_table_and_each_row_is_measured() -> None:
    for scale in (FULL, QUICK):
        assert {figure.name for figure in all_figures(scale, Path())} == {row.figure for row in report.ROWS}


@pytest.mark.parametrize("max_pdu", [4096, 16382, 0])
def test_the_sender_is_understood_whatever_the_pdu_length(max_pdu: int) -> None:
    received: list[bytes] = []

    def on_store(event: Any) -> int:
        received.append(event.encoded_dataset(include_meta=False))
        return 0xB000 if len(received) == 2 else 0

    entity = AE("PEER")
    entity.maximum_pdu_size = max_pdu
    entity.add_supported_context(data.CT_CLASS)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
    try:
        sent = [data.small_instance(1), data.small_instance(2), next(data.ct_study(3))]
        contexts = {(instance.sop_class, instance.transfer_syntax) for instance in sent}
        association = Association(server.socket.getsockname()[:2], "PEER", contexts)
        assert [association.store(instance) for instance in sent] == [0, 0xB000, 0]
        with pytest.raises(Refused, match="context"):
            association.store(data.large_instance(4, 1))
        association.release()
    finally:
        server.shutdown()
    assert received == [b"".join(instance.buffers) for instance in sent]


def test_a_multipart_body_has_each_instance_whole() -> None:
    instance = data.small_instance(1)
    body = b"".join(multipart([instance]))
    assert body.count(b"--7d1f0c5be4bench") == 2
    assert b"".join([b"\r\n\r\n", instance.preface, *instance.buffers, b"\r\n--"]) in body


def counting(count: int) -> Job:
    def job() -> Running:
        yield None
        for _ in range(count):
            yield Done(2, 1000)

    return job


def test_jobs_are_measured_together() -> None:
    sample = measure(NOWHERE, [counting(3), counting(5)])
    assert (sample.count, sample.length) == (16, 8000)
    assert (sample.cpu_seconds, sample.peak_mib) == (None, None)
    assert 0 <= sample.p50_ms <= sample.p99_ms


def test_a_job_that_fails_fails_the_figure() -> None:
    def broken() -> Running:
        yield None
        raise Refused("status A700H")

    def never_ready() -> Running:
        raise OSError("no connection")
        yield None

    for job in (broken, never_ready):
        with pytest.raises(Failed, match=r"A700H|no connection"):
            measure(NOWHERE, [counting(1), job])


def test_results_are_kept_compared_and_put_into_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = {**report.machine(tmp_path), "workers": 1, "repeat": 2, "studies": 1, "slices": 1, "large_mib": 1}
    results = Results(about)
    for seconds in (1.0, 2.0, 4.0):
        results.add("frame.512k", "gateway", Sample(seconds, 8, 10**9, seconds, 9.0, 0.5, 100.0, 0.0))
    results.add("frame.512k", "peer", Sample(1.0, 1, 1, 20.0, 30.0, None, None, 0.0))
    results.fail("search.patient-id", "peer", "found 0 of 1")
    results.save(tmp_path / "results.json")
    again = report.load(tmp_path / "results.json")
    assert again == results
    table = report.table(again)
    assert "| Figure | Unit | gateway | peer | gateway is better |" in table
    assert "| One frame of 512 KB | ms | 2 (1 to 4) | 20 | 10.0 x |" in table
    assert "| Search studies by PatientID | ms | - | failed: found 0 of 1 | - |" in table

    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    monkeypatch.setattr(report, "README", readme)
    report.write_readme(again)
    text = readme.read_text()
    assert table in text and text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text


def test_the_readme_has_a_place_for_the_results() -> None:
    text = report.README.read_text("utf-8")
    assert 0 < text.index(report.BEGIN) < text.index(report.END)


def test_a_running_peer_is_named_in_one_word() -> None:
    peer = running("orthanc,http://127.0.0.1:8042/dicom-web/,127.0.0.1:4242/ORTHANC,4711")
    assert peer == Server("orthanc", "http://127.0.0.1:8042/dicom-web", ("127.0.0.1", 4242), "ORTHANC", 4711)
    assert running("a,http://127.0.0.1:1,127.0.0.1:2").process is None
