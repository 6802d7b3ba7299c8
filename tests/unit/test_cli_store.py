"""`gateway store` to a DICOMweb server: what is sent, what is remembered, and what the exit status says."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import app, delivery, stow
from tests import samples
from tests.unit.fake_dicomweb import FakeDicomWeb, Told, fake_dicomweb, sop_uid


@pytest.fixture
def server() -> Iterator[FakeDicomWeb]:
    with fake_dicomweb() as fake:
        yield fake


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three instances, a text file and a DICOMDIR."""
    folder = tmp_path / "study"
    (folder / "series2").mkdir(parents=True)
    for path, series, number in (("a.dcm", 1, 1), ("b", 1, 2), ("series2/王.dcm", 2, 1)):
        (folder / path).write_bytes(samples.part10(samples.ct(1, series, number)))
    (folder / "README.txt").write_text("not DICOM")
    (folder / "DICOMDIR").write_bytes(samples.part10(samples.ct(1, 9, 9, SOPClassUID="1.2.840.10008.1.3.10")))
    return folder


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses are taken down instead of waited for."""
    taken: list[float] = []
    monkeypatch.setattr(delivery.Delivery.__init__, "__kwdefaults__", {"sleep": taken.append})
    return taken


Store = Callable[..., Result]


@pytest.fixture
def store(tmp_path: Path, server: FakeDicomWeb, pauses: list[float]) -> Store:
    def run(*arguments: object, to: str | None = None) -> Result:
        journal = ["--journal", str(tmp_path / "journal")]
        return CliRunner().invoke(app, ["store", *map(str, arguments), "--to", to or server.url, *journal])

    return run


def told(result: Result) -> tuple[dict[str, str], dict[str, Any]]:
    """The outcome of each file by its name, and the summary."""
    *lines, last = [json.loads(line) for line in result.stdout.splitlines()]
    return {Path(line["path"]).name: line["outcome"] for line in lines}, last["summary"]


def test_every_instance_is_sent_as_it_is_and_the_rest_is_skipped(
    store: Store, server: FakeDicomWeb, folder: Path
) -> None:
    result = store(folder, "--json")
    outcomes, summary = told(result)
    assert result.exit_code == 0, result.output
    assert outcomes == {
        "a.dcm": "stored",
        "b": "stored",
        "王.dcm": "stored",
        "README.txt": "skipped",
        "DICOMDIR": "skipped",
    }
    sent = [folder / "a.dcm", folder / "b", folder / "series2/王.dcm"]
    assert server.received == [path.read_bytes() for path in sent]
    assert server.paths == ["/dicomweb/studies"]
    assert summary["counts"] == {"stored": 3, "already stored": 0, "skipped": 2, "failed": 0}
    assert summary["bytes_stored"] == sum(path.stat().st_size for path in sent)
    assert summary["exit_status"] == 0


def test_people_are_told_in_words(store: Store, folder: Path) -> None:
    result = store(folder)
    assert "3 stored, 2 skipped" in result.stdout or "2 skipped, 3 stored" in result.stdout
    assert "README.txt: not a DICOM" in " ".join(result.stderr.split())


def test_a_second_run_sends_only_what_is_missing_or_changed(store: Store, server: FakeDicomWeb, folder: Path) -> None:
    server.answer = lambda parts: Told(202, failed={f"{samples.ROOT}.1.1.2": 0xA700})
    outcomes, _ = told(first := store(folder, "--json"))
    assert (first.exit_code, outcomes["b"], outcomes["a.dcm"]) == (1, "failed", "stored")

    server.answer = lambda parts: Told()
    server.requests.clear()
    changed = folder / "a.dcm"
    changed.write_bytes(samples.part10(samples.ct(1, 1, 1, size=18)))
    outcomes, _ = told(second := store(folder, "--json"))
    assert second.exit_code == 0
    assert outcomes["王.dcm"] == "already stored"
    assert server.received == [changed.read_bytes(), (folder / "b").read_bytes()]


def incomplete(store: Store, server: FakeDicomWeb, folder: Path) -> None:
    """A run after which b is missing."""
    server.answer = lambda parts: Told(202, failed={f"{samples.ROOT}.1.1.2": 0xA700})
    assert store(folder).exit_code == 1
    server.answer = lambda parts: Told()
    server.requests.clear()


def test_resend_sends_everything_again(store: Store, server: FakeDicomWeb, folder: Path) -> None:
    incomplete(store, server, folder)
    assert store(folder, "--resend").exit_code == 0
    assert len(server.received) == 3


def test_after_a_complete_run_nothing_is_taken_for_stored(store: Store, server: FakeDicomWeb, folder: Path) -> None:
    """The archive at this address may be another one by then, or empty."""
    incomplete(store, server, folder)
    assert store(folder).exit_code == 0
    assert len(server.received) == 1
    assert store(folder).exit_code == 0
    assert len(server.received) == 4


def test_a_run_that_broke_off_days_ago_is_forgotten(
    store: Store, server: FakeDicomWeb, folder: Path, tmp_path: Path
) -> None:
    incomplete(store, server, folder)
    long_ago = time.time() - 2 * 24 * 3600
    os.utime(tmp_path / "journal", (long_ago, long_ago))
    assert store(folder).exit_code == 0
    assert len(server.received) == 3


def test_what_is_refused_for_good_does_not_keep_the_journal(store: Store, server: FakeDicomWeb, folder: Path) -> None:
    server.answer = lambda parts: Told(202, failed={f"{samples.ROOT}.1.1.2": 0xC000})
    assert store(folder).exit_code == 1
    server.requests.clear()
    assert store(folder).exit_code == 1
    assert len(server.received) == 3


def test_namesakes_are_told_apart(store: Store, server: FakeDicomWeb, folder: Path) -> None:
    """Two files of one SOP Instance UID, of which the server takes one."""
    refused = samples.part10(samples.ct(1, 1, 1, StudyInstanceUID=""))
    (folder / "namesake.dcm").write_bytes(refused)

    def answer(parts: list[bytes]) -> Told:
        return Told(409, failed={f"{samples.ROOT}.1.1.1": 0xC002}) if parts == [refused] else Told()

    server.answer = answer
    outcomes, _ = told(result := store(folder, "--json"))
    assert result.exit_code == 1
    assert (outcomes["a.dcm"], outcomes["namesake.dcm"]) == ("stored", "failed")


def test_another_destination_is_sent_everything(store: Store, folder: Path) -> None:
    store(folder)
    with fake_dicomweb() as other:
        store(folder, to=other.url)
        assert len(other.received) == 3


def test_the_journal_holds_no_names_and_survives_a_torn_line(
    store: Store, server: FakeDicomWeb, folder: Path, tmp_path: Path
) -> None:
    incomplete(store, server, folder)
    journal = tmp_path / "journal"
    text = journal.read_text()
    assert "study" not in text and "王" not in text
    assert journal.stat().st_mode & 0o077 == 0
    journal.write_text(text[:-10])  # as a crash may leave it: the last entry is lost, the other one is not
    assert store(folder).exit_code == 0
    assert len(server.received) == 2


def test_a_batch_is_bounded_by_count_and_bytes(
    store: Store, server: FakeDicomWeb, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stow.StowDestination, "max_files", 2)
    store(folder)
    assert [len(parts) for parts in server.requests] == [2, 1]
    server.requests.clear()
    monkeypatch.setattr(stow.StowDestination, "max_bytes", 100)
    store(folder, "--resend")
    assert [len(parts) for parts in server.requests] == [1, 1, 1]


def test_out_of_resources_is_tried_again_and_then_stored(
    store: Store, server: FakeDicomWeb, folder: Path, pauses: list[float]
) -> None:
    full = f"{samples.ROOT}.1.1.2"
    server.answer = lambda parts: Told(202, failed={full: 0xA700}) if len(server.requests) < 3 else Told()
    assert store(folder).exit_code == 0
    assert [[sop_uid(part) for part in parts][-1] for parts in server.requests[1:]] == [full, full]
    assert pauses == [1.0, 2.0]


def test_503_is_tried_again_after_the_time_that_was_asked_for(
    store: Store, server: FakeDicomWeb, folder: Path, pauses: list[float]
) -> None:
    server.answer = lambda parts: Told(503, headers={"Retry-After": "7"}) if len(server.requests) == 1 else Told()
    assert store(folder).exit_code == 0
    assert pauses == [7.0]


def test_patience_ends(store: Store, server: FakeDicomWeb, folder: Path, pauses: list[float]) -> None:
    server.answer = lambda parts: Told(503)
    result = store(folder, "--retries", 2, "--json")
    outcomes, _ = told(result)
    assert result.exit_code == 1
    assert [outcome for outcome in outcomes.values() if outcome != "skipped"] == ["failed"] * 3
    assert pauses == [1.0, 2.0]


def test_a_lost_connection_is_made_again(
    store: Store, server: FakeDicomWeb, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stow.StowDestination, "max_files", 1)
    server.answer = lambda parts: None if len(server.requests) == 2 else Told()
    assert store(folder).exit_code == 0
    assert len(server.requests) == 4


def test_a_connection_that_stays_lost_ends_the_run_and_what_was_stored_is_remembered(
    store: Store, server: FakeDicomWeb, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stow.StowDestination, "max_files", 1)
    server.answer = lambda parts: Told() if len(server.requests) == 1 else None
    result = store(folder, "--json", "--retries", 1)
    assert result.exit_code == 1
    assert "problem" in told(result)[1]
    server.answer = lambda parts: Told()
    server.requests.clear()
    assert store(folder).exit_code == 0
    assert len(server.received) == 2


def test_nobody_there_is_told_at_once(store: Store, folder: Path, pauses: list[float]) -> None:
    result = store(folder, to="http://127.0.0.1:9/dicomweb")
    assert result.exit_code == 2
    assert "refused" in result.stderr
    assert pauses == []


@pytest.mark.parametrize("status", [401, 403, 404, 405, 415])
def test_a_server_that_takes_nothing_is_asked_once(
    store: Store, server: FakeDicomWeb, folder: Path, status: int
) -> None:
    server.answer = lambda parts: Told(status)
    result = store(folder)
    assert result.exit_code == 2
    assert str(status) in result.stderr
    assert len(server.requests) == 1


def test_a_token_comes_from_a_file(store: Store, server: FakeDicomWeb, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    assert store(folder, "--token-file", tmp_path / "token").exit_code == 0
    assert server.headers[0]["Authorization"] == "Bearer s3cret"
    assert store(folder, "--token-file", tmp_path / "none").exit_code == 2


def test_what_the_answer_leaves_open_is_asked_alone(store: Store, server: FakeDicomWeb, folder: Path) -> None:
    quiet = f"{samples.ROOT}.1.1.1"
    server.answer = lambda parts: Told(202, silent_about={quiet}) if len(parts) > 1 else Told()
    assert store(folder).exit_code == 0
    assert [len(parts) for parts in server.requests] == [3, 1]
    assert sop_uid(server.requests[1][0]) == quiet


def test_200_vouches_for_nothing_that_it_does_not_name(store: Store, server: FakeDicomWeb, folder: Path) -> None:
    quiet = f"{samples.ROOT}.1.1.1"
    server.answer = lambda parts: Told(200, silent_about={quiet})
    outcomes, _ = told(result := store(folder, "--json"))
    assert (result.exit_code, outcomes["a.dcm"], outcomes["b"], outcomes["王.dcm"]) == (1, "failed", "stored", "stored")
    assert "does not name it as stored" in result.stdout
    server.answer = lambda parts: Told()
    assert told(store(folder, "--json"))[0]["a.dcm"] == "stored", "the journal took it for stored"


@pytest.mark.parametrize("status", [200, 202])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"00081199": {"Value": null}}',
        b'{"00081199": {"Value": [{}]}}',
        b'{"00081199": {"Value": [{"00081155": {"Value": [[1]]}}]}}',
        b'{"00081199": {"Value": [{"00081155": {"Value": [""]}}]}}',
    ],
)
def test_a_file_without_a_uid_is_stored_only_when_the_answer_names_one(
    store: Store, server: FakeDicomWeb, tmp_path: Path, body: bytes, status: int
) -> None:
    (tmp_path / "bare.dcm").write_bytes(samples.dataset_bytes(samples.part10(samples.ct())))
    server.answer = lambda parts: Told(status, body=body)
    outcomes, _ = told(result := store(tmp_path / "bare.dcm", "--json"))
    assert (result.exit_code, outcomes) == (1, {"bare.dcm": "failed"})


@pytest.mark.parametrize("body", [b"", b"oops", b"[]", b'{"00081198": 7}', b'{"00081199": {"Value": ["x"]}}'])
def test_an_error_without_a_word_is_a_failure_never_a_success(
    store: Store, server: FakeDicomWeb, folder: Path, body: bytes
) -> None:
    server.answer = lambda parts: Told(409, body=body)
    result = store(folder, "--json")
    assert result.exit_code == 1
    assert told(result)[1]["counts"]["failed"] == 3


def test_one_poisonous_instance_does_not_sink_the_others(store: Store, server: FakeDicomWeb, folder: Path) -> None:
    poison = f"{samples.ROOT}.1.1.2"
    server.answer = lambda parts: Told(500) if poison in map(sop_uid, parts) else Told()
    outcomes, _ = told(store(folder, "--json"))
    assert (outcomes["a.dcm"], outcomes["b"], outcomes["王.dcm"]) == ("stored", "failed", "stored")


def test_a_file_that_grows_while_it_is_sent_is_not_stored_as_half_of_itself(
    store: Store, server: FakeDicomWeb, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognise = stow.DicomFile.path.fget  # the files are looked at again when they are opened for sending
    assert recognise is not None

    def grow(file: stow.DicomFile) -> Path:
        path = recognise(file)
        if path.name == "b":
            with path.open("ab") as stream:
                stream.write(b"more")
        return path

    monkeypatch.setattr(stow.DicomFile, "path", property(grow))
    outcomes, _ = told(result := store(folder, "--json"))
    assert result.exit_code == 1
    assert (outcomes["a.dcm"], outcomes["b"], outcomes["王.dcm"]) == ("stored", "failed", "stored")
    assert {sop_uid(part) for part in server.received} == {f"{samples.ROOT}.1.1.1", f"{samples.ROOT}.1.2.1"}


def test_what_claims_to_be_dicom_is_never_skipped(store: Store, server: FakeDicomWeb, tmp_path: Path) -> None:
    whole = samples.part10(samples.ct())
    (tmp_path / "bare.DCM").write_bytes(samples.dataset_bytes(whole))
    (tmp_path / "cut").write_bytes(whole[:140])
    server.answer = lambda parts: Told(409, body=b"{}")
    outcomes, _ = told(result := store(tmp_path / "bare.DCM", tmp_path / "cut", "--json"))
    assert (result.exit_code, outcomes) == (1, {"bare.DCM": "failed", "cut": "failed"})
    named = b'{"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2.3"]}}]}}'
    server.answer = lambda parts: Told(body=named if len(parts) == 1 else b"{}")
    assert store(tmp_path / "bare.DCM", tmp_path / "cut").exit_code == 0


def test_nothing_to_store_is_not_success(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert store(tmp_path / "empty").exit_code == 1
    assert store(tmp_path / "missing").exit_code == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file")
def test_a_file_that_cannot_be_read_fails_and_the_others_are_stored(store: Store, folder: Path) -> None:
    (folder / "b").chmod(0)
    outcomes, _ = told(result := store(folder, "--json"))
    assert (result.exit_code, outcomes["b"], outcomes["a.dcm"]) == (1, "failed", "stored")


@pytest.mark.parametrize(
    "to", ["nonsense", "ftp://127.0.0.1/x", "127.0.0.1:99999", "http://", "http://127.0.0.1:99999/"]
)
def test_a_destination_that_is_none_is_a_usage_error(store: Store, folder: Path, to: str) -> None:
    result = store(folder, to=to)
    assert result.exit_code == 2
    assert "127.0.0.1:8080/dicomweb" in result.stderr
