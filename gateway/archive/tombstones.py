"""What was deleted, said beside the packs: an index that is rebuilt from them must not bring it back.

`tombstones/{study_uid}/{16 hexadecimal digits}.json` in the archive's object store:
`{"study_uid":..., "series_uid":... or null, "sop_uid":... or null, "at": microseconds since 1970-01-01 UTC}`.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from storage.dicom.identity import Identity, Scope
from storage.errors import Unavailable
from storage.objects import ObjectMeta, ObjectStore, keys

PREFIX = "tombstones/"
_MAX_BYTES = 4096
_NAME_BYTES = 8


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Everything in `scope` that was received before `at` (microseconds since 1970-01-01 UTC) was deleted."""

    scope: Scope
    at: int

    def covers(self, identity: Identity, received_at: int) -> bool:
        """Whether this version of an instance is among what was deleted."""
        scope = self.scope
        return (
            received_at < self.at
            and identity.study_uid == scope.study_uid
            and scope.series_uid in (None, identity.series_uid)
            and scope.sop_uid in (None, identity.sop_uid)
        )


def put(store: ObjectStore, tombstone: Tombstone) -> None:
    """Make it durable. Raises Exhausted, Unavailable."""
    scope = tombstone.scope
    document = {
        "study_uid": scope.study_uid,
        "series_uid": scope.series_uid,
        "sop_uid": scope.sop_uid,
        "at": tombstone.at,
    }
    store.put(keys.tombstone(scope.study_uid, secrets.token_hex(_NAME_BYTES)), [orjson.dumps(document)])


def scan(store: ObjectStore, study_uid: str | None = None, *, after: str = "") -> Iterator[tuple[str, Tombstone]]:
    """Every tombstone (of a study; `after` a key), with its key. Raises Unavailable, also for one that cannot be read:
    to pass over it would be to bring back what was deleted.
    """
    for meta in store.scan(PREFIX if study_uid is None else f"{PREFIX}{study_uid}/", after=after):
        yield meta.key, _read(store, meta)


def _read(store: ObjectStore, meta: ObjectMeta) -> Tombstone:
    if meta.length > _MAX_BYTES:
        raise Unavailable(f"the tombstone {meta.key} is larger than one can be")
    with store.get(meta.key) as body:
        data = body.read()
    try:
        document = orjson.loads(data)
        scope = Scope(document["study_uid"], document["series_uid"], document["sop_uid"])
        return Tombstone(scope, int(document["at"]))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise Unavailable(f"the tombstone {meta.key} cannot be read") from error
