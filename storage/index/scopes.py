"""Reads by scope: where instances lie, what they contain, their metadata."""

from typing import Any

from sqlalchemy import ColumnElement

from storage.dicom.identity import Identity, Scope
from storage.errors import NotFound
from storage.index import Contents, Stored, served
from storage.index.packed import Listings
from storage.index.schema import instances
from storage.index.session import Session

ORDER_IN_STUDY: tuple[ColumnElement[Any], ...] = (
    *served.SERIES_ORDER,
    instances.c.instance_number.asc().nulls_last(),
    instances.c.sop_uid,
)


def locate(session: Session, listings: Listings, scope: Scope) -> list[Stored]:
    """See `MetadataIndex.locate`."""
    in_scope = served.in_scope(session, listings, scope)
    found = [each.stored(series) for series, instances in in_scope for each in instances]
    if not found:
        raise nothing(scope)
    return found


def contents_of(session: Session, listings: Listings, scope: Scope) -> Contents:
    """See `MetadataIndex.contents`."""
    for _, [instance] in served.in_scope(session, listings, scope):
        return instance.contents(session)
    raise nothing(scope)


def digest_of(session: Session, listings: Listings, identity: Identity) -> bytes | None:
    """The digest of the served version of this instance; None when it is not there."""
    scope = Scope(identity.study_uid, identity.series_uid, identity.sop_uid)
    for _, [instance] in served.in_scope(session, listings, scope):
        return bytes(instance.digest)
    return None


def nothing(scope: Scope) -> NotFound:
    """That a scope names nothing here."""
    level = "study" if scope.series_uid is None else "series" if scope.sop_uid is None else "instance"
    return NotFound(f"there is no such {level} here")
