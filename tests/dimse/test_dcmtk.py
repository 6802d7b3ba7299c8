"""dcmtk as the peer: echoscu and storescu in the ways that people use them."""

import io
import subprocess
import time
from pathlib import Path

import pydicom
import pydicom.data
import pytest

from gateway.dimse.server import DimseServer
from storage.errors import Fault, Invalid
from tests.dimse.conftest import requires_dcmtk
from tests.dimse.peers import RememberingArchive
from tests.samples import ct, dataset_bytes, part10

pytestmark = requires_dcmtk


def run(tool: str, server: DimseServer, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    host, port = server.address
    command = [tool, *map(str, arguments[:-1]), host, str(port), *map(str, arguments[-1:])]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def storescu(server: DimseServer, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run("storescu", server, "-aec", "GATEWAY", "-aet", "DCMTK", *arguments)


def test_file(name: str) -> Path:
    return Path(pydicom.data.get_testdata_file(name, download=False) or "")


test_file.__test__ = False  # type: ignore[attr-defined]


@pytest.fixture
def slices(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.dcm" for number in range(1, 31)]
    for number, path in enumerate(paths, 1):
        path.write_bytes(part10(ct(number=number, size=128)))
    return paths


def test_echoscu_repeatedly(server: DimseServer) -> None:
    host, port = server.address
    done = subprocess.run(["echoscu", "-aec", "GATEWAY", "--repeat", "5", host, str(port)], timeout=20, check=False)
    assert done.returncode == 0


def test_echoscu_with_a_wrong_title_is_rejected(server: DimseServer) -> None:
    host, port = server.address
    command = ["echoscu", "-aec", "OTHER", host, str(port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode != 0
    assert "Called AE Title Not Recognized" in done.stderr


@pytest.mark.parametrize(
    "options",
    [(), ("-R",), ("+C",), ("-x=",), ("-xi",), ("-R", "+C"), ("--max-pdu", "131072"), ("--max-send-pdu", "4096")],
    ids=" ".join,
)
def test_storescu_sends_a_series(
    server: DimseServer, archive: RememberingArchive, slices: list[Path], options: tuple[str, ...]
) -> None:
    done = storescu(server, *options, "+sd", slices[0].parent)
    assert done.returncode == 0, done.stderr
    assert len(archive.kept) == len(slices)
    if "-xi" not in options:  # which converts
        kept = {dataset_bytes(kept.data) for kept in archive.kept}
        assert kept == {dataset_bytes(path.read_bytes()) for path in slices}


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("-xw", "JPEG2000.dcm"),
        ("-xs", "JPEG-LL.dcm"),
        ("-xy", "SC_rgb_jpeg_dcmtk.dcm"),
        ("-xr", "MR_small_RLE.dcm"),
        ("-xb", "MR_small_bigendian.dcm"),
        ("-xd", "image_dfl.dcm"),
        ("-xt", "emri_small_jpeg_ls_lossless.dcm"),
        ("-xf", "SC_rgb_jpeg_dcmtk.dcm"),
    ],
)
def test_storescu_sends_what_is_compressed_as_it_is(
    server: DimseServer, archive: RememberingArchive, tmp_path: Path, option: str, name: str
) -> None:
    options = [option, "-R"]
    if option == "-xf":
        config = tmp_path / "store.cfg"
        config.write_text(
            "[[TransferSyntaxes]]\n[All]\nTransferSyntax1 = 1.2.840.10008.1.2.4.50\n"
            "[[PresentationContexts]]\n[Storage]\nPresentationContext1 = 1.2.840.10008.5.1.4.1.1.7\\All\n"
            "[[Profiles]]\n[Default]\nPresentationContexts = Storage\n"
        )
        options = ["-xf", str(config), "Default"]
    done = storescu(server, *options, test_file(name))
    assert done.returncode == 0, done.stderr
    (kept,) = archive.kept
    received, sent = pydicom.dcmread(io.BytesIO(kept.data)), pydicom.dcmread(test_file(name))
    assert received.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
    assert received.PixelData == sent.PixelData  # the rest dcmtk writes anew


def test_storescu_is_told_what_was_refused(
    server: DimseServer, archive: RememberingArchive, slices: list[Path]
) -> None:
    def fail(_: object) -> None:
        raise Invalid(Fault.MISMATCH, "another SOP Instance UID")

    archive.fail = fail
    done = storescu(server, "-v", slices[0])
    assert "DataSetDoesNotMatchSOPClass" in done.stdout + done.stderr


def test_storescu_without_nodelay_is_not_held_up_by_delayed_acknowledgements(
    server: DimseServer, archive: RememberingArchive, tmp_path: Path
) -> None:
    """Some 40 ms an instance when TCP_QUICKACK is missing: 100 small ones would take more than 4 s."""
    for number in range(1, 101):
        (tmp_path / f"{number}.dcm").write_bytes(part10(ct(number=number, size=8)))
    began = time.monotonic()
    done = storescu(server, "+sd", tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(archive.kept) == 100
    assert time.monotonic() - began < 2.5
