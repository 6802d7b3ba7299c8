"""Who speaks for a study or series after others have gone: the first that is left, though its metadata be in a pack."""

from typing import NamedTuple

import orjson
from sqlalchemy import bindparam, select

from storage.dicom.identity import Identity, Scope
from storage.dicom.instance import JsonDataset
from storage.index import levels, metadata, served
from storage.index.packed import Listings
from storage.index.schema import series, studies
from storage.index.served import InPack, Series, Served
from storage.index.session import Session, constant

_SERIES_SPEAKER = select(series.c.speaker_sop_uid).where(
    series.c.study_id == bindparam("study"), series.c.id == bindparam("one_series")
)
_STUDY_SPEAKER = select(studies.c.speaker_sop_uid, studies.c.speaker_series_uid).where(
    studies.c.id == bindparam("study")
)
# The first of those who speak for the series of the study.
_FIRST_OF_STUDY = (
    select(series.c.speaker_sop_uid, series.c.series_uid)
    .where(series.c.study_id == bindparam("study"))
    .order_by(series.c.speaker_sop_uid, series.c.series_uid)
    .limit(constant(1))
    .offset(constant(0))
)


class Version(NamedTuple):
    """A version of a packed instance, whose metadata never changes."""

    series_uid: str
    sop_uid: str
    revision: int
    digest: bytes


Speeches = dict[Version, bytes]


class Wanted(Exception):
    """The metadata of a packed instance is needed, which is not to be waited for in a transaction."""

    def __init__(self, series: Series, instance: InPack) -> None:
        super().__init__("the metadata of a packed instance is needed")
        self.series = series
        self.instance = instance

    @property
    def version(self) -> Version:
        """What it is to be handed in as."""
        return _version(self.series, self.instance)


def mend_series(session: Session, speeches: Speeches, one: Series, left: list[Served]) -> None:
    """Let the first of the instances that are left speak, if the speaker has gone. Raises Wanted."""
    first = min(left, key=lambda each: each.sop_uid)
    if session.run(_SERIES_SPEAKER, study=one.study_id, one_series=one.id).fetchone()[0] != first.sop_uid:
        levels.rewrite_series(session, one.study_id, one.id, *_speech(session, speeches, one, first))


def mend_study(session: Session, listings: Listings, speeches: Speeches, study: int, study_uid: str) -> None:
    """Let the first of those who speak for a series speak for the study, if its speaker has gone. Raises Wanted."""
    first = tuple(session.run(_FIRST_OF_STUDY, study=study).fetchone())
    if tuple(session.run(_STUDY_SPEAKER, study=study).fetchone()) == first:
        return
    sop_uid, series_uid = first
    for one, [instance] in served.in_scope(session, listings, Scope(study_uid, series_uid, sop_uid)):
        levels.rewrite_study(session, study, *_speech(session, speeches, one, instance))


def _speech(session: Session, speeches: Speeches, one: Series, instance: Served) -> tuple[Identity, JsonDataset]:
    identity = Identity(one.study_uid, one.series_uid, instance.sop_uid, instance.sop_class)
    if not isinstance(instance, InPack):
        document = metadata.loose_document(session, one, instance)
        assert document is not None, "a row that was read in this session"
        return identity, orjson.loads(document)
    version = _version(one, instance)
    if version not in speeches:
        raise Wanted(one, instance)
    return identity, orjson.loads(speeches[version])


def _version(one: Series, instance: InPack) -> Version:
    return Version(one.series_uid, instance.sop_uid, instance.revision, instance.digest)
