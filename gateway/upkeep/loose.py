"""A loose object read back as the instance that it is: for an index that is made anew, and for one that missed it."""

from collections.abc import Callable
from pathlib import Path

from gateway.archive.incoming import Incoming
from storage.dicom.instance import Instance
from storage.dicom.parse import parse
from storage.errors import Invalid
from storage.objects import ObjectMeta, ObjectStore, keys
from storage.packs import Damaged

MEMORY_BYTES = 2 << 20  # larger ones are read by way of a file


def read(store: ObjectStore, meta: ObjectMeta, staging: Path, check_room: Callable[[], None]) -> Instance:
    """The instance in a loose object, its data set of the digest that its key tells.

    Raises Damaged when it is another, or none; NotFound, Unavailable, Exhausted.
    """
    named = keys.instance_of_spool(meta.key)
    if named is None:
        raise Damaged("its key is not that of a loose instance", key=meta.key)
    with Incoming(staging, memory_bytes=MEMORY_BYTES, max_bytes=meta.length, check_room=check_room) as incoming:
        try:
            with store.get(meta.key) as body:
                for chunk in body.chunks():
                    incoming.write(chunk)
            with incoming.view() as data:
                instance = parse(data)
        except Invalid as error:
            raise Damaged(f"it is no instance: {error}", key=meta.key) from error
    found = instance.identity
    if named != (found.study_uid, found.series_uid, found.sop_uid, instance.digest.hex()[:12]):
        raise Damaged("it is not the instance that its key tells", key=meta.key)
    return instance
