"""What was deleted, said beside the packs: an index that is rebuilt from them must not bring it back.

`tombstones/{study_uid}/{16 hexadecimal digits}.json` in the archive's object store: `{"study_uid":..., "series_uid":...
or null, "sop_uid":... or null, "at": microseconds since 1970-01-01 UTC, "names": base64 of sorted digests}`. The names
are those of each version that was deleted, and of each loose object that held one.
"""

import base64
import binascii
import hashlib
import secrets
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import orjson

from gateway.archive.clock import SECOND
from storage.dicom.identity import Identity, Scope
from storage.errors import Unavailable
from storage.objects import ObjectMeta, ObjectStore, keys

PREFIX = "tombstones/"
UNSURE = 600 * SECOND  # more than clocks differ, and than it takes from putting an object to naming it
_MAX_BYTES = 64 << 20  # some three million names
_NAME_BYTES = 16
_KEY_BYTES = 8


def version_name(sop_uid: str, digest: bytes, received_at: int) -> bytes:
    """The name of one version as it was once received: the same bytes that came again have another."""
    return _hash(f"{sop_uid} {digest.hex()} {received_at}")


def object_name(key: str) -> bytes:
    """The name of a loose object: no key is used twice."""
    return _hash(key)


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=_NAME_BYTES).digest()


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What has one of the `names` was deleted from `scope`, `at` microseconds since 1970-01-01 UTC.

    One without names, as they were once written, stands for all in scope that was received before.
    """

    scope: Scope
    at: int
    names: bytes | None = None

    @classmethod
    def of(cls, scope: Scope, at: int, names: Iterable[bytes]) -> "Tombstone":
        """With these names, in any order."""
        return cls(scope, at, b"".join(sorted(set(names))))

    def covers(self, identity: Identity, digest: bytes, received_at: int) -> bool:
        """Whether this version of an instance is among what was deleted; no clock is asked."""
        if not self._is_within(identity):
            return False
        if self.names is None:
            return received_at < self.at
        return self._has(version_name(identity.sop_uid, digest, received_at))

    def covers_object(self, identity: Identity, key: str, written_at: int) -> bool:
        """The same of a loose object. One that the index did not name then (a crash had left it) is covered when it is
        certainly older: what was stored afterwards is not, however wrong a clock was.
        """
        if not self._is_within(identity):
            return False
        return (self.names is not None and self._has(object_name(key))) or written_at + UNSURE < self.at

    def _is_within(self, identity: Identity) -> bool:
        scope = self.scope
        return (
            identity.study_uid == scope.study_uid
            and scope.series_uid in (None, identity.series_uid)
            and scope.sop_uid in (None, identity.sop_uid)
        )

    def _has(self, name: bytes) -> bool:
        names = self.names or b""
        starts = range(0, len(names), _NAME_BYTES)
        at = bisect_left(starts, name, key=lambda start: names[start : start + _NAME_BYTES])
        return at < len(starts) and names[starts[at] : starts[at] + _NAME_BYTES] == name


def new_key(scope: Scope) -> str:
    """Where a tombstone for this is to lie: no key is used twice."""
    return keys.tombstone(scope.study_uid, secrets.token_hex(_KEY_BYTES))


def put(store: ObjectStore, tombstone: Tombstone, key: str = "") -> str:
    """Make it durable, under a new key unless one is given; its key. Raises Exhausted, Unavailable."""
    scope = tombstone.scope
    document = {
        "study_uid": scope.study_uid,
        "series_uid": scope.series_uid,
        "sop_uid": scope.sop_uid,
        "at": tombstone.at,
        "names": None if tombstone.names is None else base64.b64encode(tombstone.names).decode(),
    }
    key = key or new_key(scope)
    store.put(key, [orjson.dumps(document)])
    return key


def scan(store: ObjectStore, study_uid: str | None = None, *, after: str = "") -> Iterator[tuple[str, Tombstone]]:
    """Every tombstone (of a study; `after` a key), with its key. Raises Unavailable, also for one that cannot be read:
    to pass over it would be to bring back what was deleted.
    """
    for meta in store.scan(PREFIX if study_uid is None else f"{PREFIX}{study_uid}/", after=after):
        yield meta.key, read(store, meta)


def read(store: ObjectStore, meta: ObjectMeta) -> Tombstone:
    """One that was listed. Raises NotFound when it is gone, Unavailable when it cannot be read."""
    if meta.length > _MAX_BYTES:
        raise Unavailable(f"the tombstone {meta.key} is larger than one can be")
    with store.get(meta.key) as body:
        data = body.read()
    try:
        document = orjson.loads(data)
        scope = Scope(document["study_uid"], document["series_uid"], document["sop_uid"])
        return Tombstone(scope, int(document["at"]), _names(document.get("names")))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unavailable(f"the tombstone {meta.key} cannot be read") from error


def _names(encoded: str | None) -> bytes | None:
    if encoded is None:
        return None
    try:
        names = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise ValueError("the names are not base64") from error
    if len(names) % _NAME_BYTES:
        raise ValueError("a name is cut short")
    return names
