"""The only speller of object keys."""

import re
import secrets

from storage.dicom.identity import Identity, is_uid
from storage.errors import Fault, Invalid

MAX_KEY_LENGTH = 512
STORE_ID = "store-id"  # says which store this is: it is copied with all else when a store is moved
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*", re.ASCII)

_LANDING_BYTES = 8
_PACK = re.compile(r"packs/[^/]+/(?P<study>[0-9.]+)/(?P<series>[0-9.]+)/[0-9a-f]+(-[0-9a-f]+)?\.zip", re.ASCII)
_SPOOL = re.compile(
    r"spool/(?P<study>[0-9.]+)/(?P<series>[0-9.]+)/(?P<sop>[0-9.]+)\.(?P<digest>[0-9a-f]{12})(-[0-9a-f]+)?\.dcm",
    re.ASCII,
)


def spool(identity: Identity, digest: bytes) -> str:
    """`spool/{study_uid}/{series_uid}/{sop_uid}.{digest12}-{16 hex}.dcm`: where a loose instance is to lie.

    Another key each time: whoever deletes an object, however late, never means one that was put after it.
    """
    for uid in (identity.study_uid, identity.series_uid, identity.sop_uid):
        if not is_uid(uid):
            raise Invalid(Fault.BAD_UID, "a UID that is not valid cannot be part of a storage key")
    name = f"{identity.sop_uid}.{digest.hex()[:12]}-{secrets.token_hex(_LANDING_BYTES)}"
    return f"spool/{identity.study_uid}/{identity.series_uid}/{name}.dcm"


def instance_of_spool(key: str) -> tuple[str, str, str, str] | None:
    """Study, Series and SOP Instance UID and the first 12 digits of the digest in a key of `spool`, else None.

    The 16 digits at its end may be missing: such keys were made before.
    """
    found = _SPOOL.fullmatch(key)
    return (found["study"], found["series"], found["sop"], found["digest"]) if found else None


def pack(study_uid: str, series_uid: str, pack_id: str, custodian: str = "local") -> str:
    """`packs/{custodian}/{study_uid}/{series_uid}/{pack_id}.zip`: where a pack lies.

    No pack has the name of another (see `storage.packs.manifest.new_pack_id`), so that this key too means one object
    for ever.
    """
    if not is_uid(study_uid) or not is_uid(series_uid):
        raise Invalid(Fault.BAD_UID, "a UID that is not valid cannot be part of a storage key")
    return checked(f"packs/{custodian}/{study_uid}/{series_uid}/{pack_id}.zip")


def series_of_pack(key: str) -> tuple[str, str] | None:
    """The Study and Series Instance UID in the key of a pack; None for any other key."""
    found = _PACK.fullmatch(key)
    return (found["study"], found["series"]) if found else None


def tombstone(study_uid: str, name: str) -> str:
    """`tombstones/{study_uid}/{name}.json`: says what of a study was deleted. `name` is 16 hexadecimal digits."""
    if not is_uid(study_uid):
        raise Invalid(Fault.BAD_UID, "a UID that is not valid cannot be part of a storage key")
    return checked(f"tombstones/{study_uid}/{name}.json")


def checked(key: str) -> str:
    """`key`, or Invalid: no empty, hidden or parent segments, nothing but letters, digits, dot, dash, underscore."""
    if not is_safe(key):
        raise Invalid(Fault.BAD_UID, "the object key is not safe to use as a name")
    return key


def is_safe(key: str) -> bool:
    """Whether `key` can be a key."""
    return len(key) <= MAX_KEY_LENGTH and _KEY.fullmatch(key) is not None
