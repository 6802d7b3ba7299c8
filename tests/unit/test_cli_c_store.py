"""`gateway store` to an application entity, played by pynetdicom."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pynetdicom import AE, evt
from typer.testing import CliRunner, Result

from gateway.cli import app, delivery
from gateway.cli.c_store import AEDestination
from tests import samples

IMPLICIT, EXPLICIT, JPEG_LS = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.80"


@dataclass
class Peer:
    """Takes CT in two transfer syntaxes, answers as `answer` says, and keeps what it took."""

    answer: Callable[[int], int | None] = lambda count: 0  # by the number of instances seen; None aborts
    seen: int = 0
    kept: list[bytes] = field(default_factory=list)
    associations: int = 0
    address: str = ""

    def on_store(self, event: evt.Event) -> int:
        self.seen += 1
        status = self.answer(self.seen)
        if status is None:
            event.assoc.abort()
            return 0x0110
        if status == 0:
            self.kept.append(event.encoded_dataset(include_meta=False))
        return status

    def on_accepted(self, _: evt.Event) -> None:
        self.associations += 1


@contextmanager
def pynetdicom_peer(peer: Peer) -> Iterator[Peer]:
    entity = AE("PEER")
    entity.require_called_aet = True
    entity.add_supported_context(samples.CT, [EXPLICIT, IMPLICIT])
    handlers = [(evt.EVT_C_STORE, peer.on_store), (evt.EVT_ACCEPTED, peer.on_accepted)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        peer.address = f"127.0.0.1:{server.socket.getsockname()[1]}"
        yield peer
    finally:
        server.shutdown()


@pytest.fixture
def peer() -> Iterator[Peer]:
    with pynetdicom_peer(Peer()) as peer:
        yield peer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "a.dcm").write_bytes(samples.part10(samples.ct(1, 1, 1)))
    (folder / "b.dcm").write_bytes(samples.part10(samples.ct(1, 1, 2), IMPLICIT))
    (folder / "c.dcm").write_bytes(samples.part10(samples.ct(1, 1, 3, size=400)))
    return folder


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setattr(delivery.Delivery.__init__, "__kwdefaults__", {"sleep": lambda seconds: None})
    journal = ["--journal", str(tmp_path / "journal")]
    return lambda *arguments: CliRunner().invoke(app, ["store", "--called", "PEER", *map(str, arguments), *journal])


def contents(*paths: Path) -> list[bytes]:
    return [samples.dataset_bytes(path.read_bytes()) for path in paths]


def test_data_sets_arrive_byte_for_byte_over_one_association(
    store: Callable[..., Result], peer: Peer, folder: Path
) -> None:
    result = store(folder, "--to", peer.address)
    assert result.exit_code == 0, result.output
    assert peer.kept == contents(folder / "a.dcm", folder / "b.dcm", folder / "c.dcm")
    assert peer.associations == 1


def test_what_the_peer_does_not_accept_fails_alone(store: Callable[..., Result], peer: Peer, folder: Path) -> None:
    (folder / "b.dcm").write_bytes(samples.part10(samples.ct(1, 1, 2, SOPClassUID="1.2.840.10008.5.1.4.1.1.4")))
    result = store(folder, "--to", peer.address)
    assert result.exit_code == 1
    assert "b.dcm" in result.stderr and "does not take" in result.stderr
    assert peer.kept == contents(folder / "a.dcm", folder / "c.dcm")


def test_a_status_is_told_in_words(store: Callable[..., Result], peer: Peer, folder: Path) -> None:
    peer.answer = lambda count: 0xC000 if count == 2 else 0
    result = store(folder, "--to", peer.address)
    assert result.exit_code == 1
    assert "cannot be understood (C000H)" in result.stderr
    assert peer.kept == contents(folder / "a.dcm", folder / "c.dcm")


def test_the_next_run_sends_what_could_not_be_taken(store: Callable[..., Result], peer: Peer, folder: Path) -> None:
    taken = contents(folder / "a.dcm")
    peer.answer = lambda count: 0 if count == 1 else 0xA700
    assert store(folder, "--to", peer.address, "--retries", "0").exit_code == 1
    peer.answer = lambda count: 0
    assert store(folder, "--to", peer.address).exit_code == 0
    assert [data for data in peer.kept if data in taken] == taken
    assert peer.kept[-2:] == contents(folder / "b.dcm", folder / "c.dcm")


def test_a_warning_is_success(store: Callable[..., Result], peer: Peer, folder: Path) -> None:
    peer.answer = lambda count: 0xB000
    assert store(folder, "--to", peer.address).exit_code == 0


def test_out_of_resources_is_tried_again(store: Callable[..., Result], peer: Peer, folder: Path) -> None:
    peer.answer = lambda count: 0xA700 if count in (1, 4) else 0
    assert store(folder, "--to", peer.address).exit_code == 0
    assert sorted(peer.kept) == sorted(contents(*folder.iterdir()))
    assert peer.seen == 5


def test_a_lost_association_is_made_again(store: Callable[..., Result], peer: Peer, folder: Path) -> None:
    peer.answer = lambda count: None if count == 2 else 0
    assert store(folder, "--to", peer.address).exit_code == 0
    assert peer.kept == contents(folder / "a.dcm", folder / "b.dcm", folder / "c.dcm")
    assert peer.associations == 2


def test_the_association_lasts_while_its_contexts_suffice(
    store: Callable[..., Result], peer: Peer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AEDestination, "max_files", 1)
    assert store(folder, "--to", peer.address).exit_code == 0
    assert len(peer.kept) == 3
    assert peer.associations == 3  # a, then b in another transfer syntax, then c again


def test_a_file_that_does_not_say_what_it_holds_fails_alone(
    store: Callable[..., Result], peer: Peer, folder: Path
) -> None:
    bare = folder / "b.dcm"
    bare.write_bytes(samples.dataset_bytes(bare.read_bytes()))
    result = store(folder, "--to", peer.address)
    assert result.exit_code == 1
    assert peer.kept == contents(folder / "a.dcm", folder / "c.dcm")
    assert store(bare, "--to", peer.address).exit_code == 1


def test_a_rejected_association_ends_the_run(store: Callable[..., Result], peer: Peer, folder: Path) -> None:
    result = store(folder, "--to", peer.address, "--called", "OTHER")
    assert result.exit_code == 2
    assert "called AE title" in result.stderr


def test_nobody_there_is_told_at_once(store: Callable[..., Result], folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    result = store(folder, "--to", address)
    assert result.exit_code == 2
    assert "refused" in result.stderr


@pytest.mark.parametrize("title", ["", "LONGER-THAN-SIXTEEN", "BACK\\SLASH", "王"])
def test_what_is_no_ae_title_is_a_usage_error(
    store: Callable[..., Result], peer: Peer, folder: Path, title: str
) -> None:
    result = store(folder, "--to", peer.address, "--calling", title)
    assert result.exit_code == 2
    assert "AE title" in result.stderr
