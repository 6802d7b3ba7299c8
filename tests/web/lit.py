"""A web door that renders, over a real archive with an instance of every kind; its pool works in the same process."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from gateway import metrics
from gateway.archive.frame_work import FrameWork
from gateway.archive.incoming import Incoming
from gateway.archive.pool import Pool
from gateway.archive.renderings import Renderings
from gateway.archive.transcoded import TranscodedArchive
from gateway.config import Web
from gateway.security.policy import RightsPolicy
from gateway.web.app import build
from gateway.web.guard import Authenticate
from gateway.web.server import WebServer
from storage.index.sqlite import SqliteIndex
from tests import samples
from tests.unit.fakes import KeptAudit
from tests.unit.test_local_archive import House
from tests.web.conftest import everybody

SECONDARY, REPORT, PDF = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.88.11", "1.2.840.10008.5.1.4.1.1.104.1"
DOCUMENT = b"%PDF-1.4 seventeen"[:17]
CT, FRAMES, SR, DOC, BROKEN, HUGE, BARE = range(1, 8)  # studies


class HereAndNow:
    """A pool that works at once, in the same process, and counts."""

    processes = 1

    def __init__(self) -> None:
        self.done = 0

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        self.done += 1
        return function(*args)


@dataclass
class Lit:
    """A door that renders, and what is behind it."""

    house: House
    pool: HereAndNow
    audit: KeptAudit
    client: httpx.Client
    root: str

    def get(self, path: str, accept: str = "*/*", **headers: str) -> httpx.Response:
        return self.client.get(path, headers={"accept": accept, **headers})

    def image(self, path: str, accept: str = "*/*") -> Image.Image:
        response = self.get(path, accept)
        assert response.status_code == 200, response.text
        image = Image.open(io.BytesIO(response.content))
        assert Image.MIME[str(image.format)] == response.headers["content-type"]
        return image


def study(number: int) -> str:
    return f"/studies/{samples.ROOT}.{number}"


def series(number: int) -> str:
    return f"{study(number)}/series/{samples.ROOT}.{number}.1"


def instance(number: int, at: int = 1) -> str:
    return f"{series(number)}/instances/{samples.ROOT}.{number}.1.{at}"


def grey(number: int, at: int, pixels: Any, **changes: Any) -> bytes:
    """An 8 bit picture without window, which is shown over the range of its values."""
    rows, columns = pixels.shape[-2:]
    return samples.part10(
        samples.ct(
            number,
            1,
            at,
            SOPClassUID=SECONDARY,
            Rows=rows,
            Columns=columns,
            BitsAllocated=8,
            BitsStored=8,
            HighBit=7,
            PixelRepresentation=0,
            PixelData=pixels.astype(np.uint8).tobytes(),
            WindowCenter=None,
            WindowWidth=None,
            **changes,
        )
    )


def without_pixels(number: int, sop_class: str, at: int = 1, **more: Any) -> bytes:
    gone: dict[str, Any] = dict.fromkeys(("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"))
    return samples.part10(samples.ct(number, 1, at, SOPClassUID=sop_class, **gone, **more))


def report() -> bytes:
    name, content = Dataset(), Dataset()
    name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = "1", "99T", "Finding"
    content.ValueType, content.TextValue = "TEXT", "<script>alert(1)</script> 肺结节"
    content.ConceptNameCodeSequence = Sequence([name])
    return without_pixels(SR, REPORT, ValueType="CONTAINER", ContentSequence=Sequence([content]))


def broken() -> bytes:
    ds = samples.ct(BROKEN, PixelData=encapsulate([b"\xff\xd8\xff\xd9" * 4]))
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return samples.part10(ds, "1.2.840.10008.1.2.4.80")


def stored() -> Iterator[bytes]:
    ramp = np.arange(256).reshape(16, 16)
    for at in (1, 2, 3):
        yield samples.part10(samples.ct(CT, 1, at))
    yield grey(FRAMES, 1, np.stack([ramp * 0 + value for value in (10, 120, 250)]), NumberOfFrames=3)
    yield report()
    document: dict[str, Any] = {
        "MIMETypeOfEncapsulatedDocument": "application/pdf",
        "EncapsulatedDocument": DOCUMENT + b"\0",
    }
    yield without_pixels(DOC, PDF, EncapsulatedDocumentLength=len(DOCUMENT), **document)
    yield broken()
    yield samples.part10(samples.ct(HUGE, Rows=65535, Columns=65535))
    yield without_pixels(BARE, SECONDARY)


@contextmanager
def opened(folder: Path, authenticate: Authenticate = everybody) -> Iterator[Lit]:
    """The door, with everything of `stored` behind it."""
    house = House(folder, SqliteIndex(folder / "index.sqlite"))
    for data in stored():
        house.store(data)
    pool, audit = HereAndNow(), KeptAudit()
    renderings = Renderings(house.archive, house.index.locate, cast(Pool, pool), RightsPolicy(), audit)
    work = FrameWork(cast(Pool, pool))
    archive = TranscodedArchive(
        house.archive, work, lambda: Incoming(house.disk.staging, memory_bytes=1 << 20, max_bytes=1 << 24)
    )
    web = Web(listen="127.0.0.1:0")
    app = build(archive, authenticate, web, ready=str, metrics_text=metrics.render, renderings=renderings)
    server = WebServer(app, web)
    server.start()
    root = "http://{}:{}".format(*server.address)
    try:
        with httpx.Client(base_url=root + "/dicomweb", timeout=60) as client:
            yield Lit(house, pool, audit, client, root)
    finally:
        server.stop(5)
        work.close()
        house.index.close()
