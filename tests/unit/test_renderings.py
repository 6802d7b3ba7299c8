"""Renderings in the processes of a real pool, and who may have them."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.archive.pool import Pool
from gateway.archive.renderings import Renderings
from gateway.security.caller import Caller, Right
from gateway.security.policy import Forbidden, RightsPolicy
from storage.dicom.identity import Scope
from storage.dicom.rendering.wish import Wish
from storage.errors import NotFound
from storage.index.sqlite import SqliteIndex
from tests import samples
from tests.unit.fakes import KeptAudit
from tests.unit.test_local_archive import ONE, House

ALL = Caller("reader", "10.0.0.7", "web", frozenset(Right))
NOBODY = Caller("nobody", "10.0.0.8", "web")
SERIES = Scope(ONE.study_uid, ONE.series_uid)


class Studio(House):
    """A house that renders."""

    def __init__(self, folder: Path, pool: Pool) -> None:
        super().__init__(folder, SqliteIndex(folder / "index.sqlite"))
        self.audit, self.now = KeptAudit(), 0.0
        self.renderings = Renderings(
            self.archive, self.index.locate, pool, RightsPolicy(), self.audit, clock=lambda: self.now
        )


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    with closing(Pool(1)) as pool:
        found = Studio(tmp_path, pool)
        yield found
        found.index.close()


def test_a_picture_and_a_moving_one_come_out_of_another_process(studio: Studio) -> None:
    studio.store(samples.part10(samples.ct(NumberOfFrames=2, PixelData=bytes(range(256)) * 4)))
    [subject] = studio.renderings.find(ONE, by=ALL)
    assert subject.picture(2, Wish("image/png")).body.startswith(b"\x89PNG")
    assert subject.moving_picture(Wish("image/gif")).body.startswith(b"GIF89a")
    with pytest.raises(NotFound):
        subject.picture(3, Wish())


def test_who_may_not_read_gets_no_pictures_and_that_is_recorded(studio: Studio) -> None:
    studio.store(samples.part10(samples.ct()))
    for ask in (studio.renderings.find, studio.renderings.representative):
        with pytest.raises(Forbidden):
            ask(SERIES, by=NOBODY)
        assert (studio.audit.events[-1].outcome, studio.audit.events[-1].identity) == ("denied", "nobody")


def test_the_image_in_the_middle_stands_for_a_series_until_it_is_deleted(studio: Studio) -> None:
    for number in (1, 2, 3):
        studio.store(samples.part10(samples.ct(1, 1, number)))
    first = studio.renderings.representative(SERIES, by=ALL)
    assert first.identity.sop_uid.endswith(".2")
    for number in (4, 5, 6, 7, 8):
        studio.store(samples.part10(samples.ct(1, 1, number)))
    assert studio.renderings.representative(SERIES, by=ALL).identity == first.identity  # for a while
    studio.now = 61.0
    assert studio.renderings.representative(SERIES, by=ALL).identity.sop_uid.endswith(".5")
    studio.archive.delete(Scope(SERIES.study_uid, SERIES.series_uid, f"{samples.ROOT}.1.1.5"), by=ALL)
    assert studio.renderings.representative(SERIES, by=ALL).identity.sop_uid.endswith(".4")


def test_no_codec_is_loaded_where_requests_are_answered() -> None:
    loaded = "{'imagecodecs', 'storage.dicom.rendering.render', 'storage.dicom.pixels.decode'} & set(sys.modules)"
    check = f"import sys, gateway.web.app; assert not {loaded}, {loaded}"
    subprocess.run([sys.executable, "-c", check], check=True, timeout=120)
