"""The only speller of object keys."""

import re

from storage.dicom.identity import Identity, is_uid
from storage.errors import Fault, Invalid

MAX_KEY_LENGTH = 512
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*", re.ASCII)


def spool(identity: Identity, digest: bytes, attempt: str = "") -> str:
    """`spool/{study_uid}/{series_uid}/{sop_uid}.{digest12}.dcm`: where a loose instance lies.

    A further `attempt` (hexadecimal) to store the same bytes while that name is taken: `...{digest12}-{attempt}.dcm`.
    """
    for uid in (identity.study_uid, identity.series_uid, identity.sop_uid):
        if not is_uid(uid):
            raise Invalid(Fault.BAD_UID, "a UID that is not valid cannot be part of a storage key")
    name = f"{identity.sop_uid}.{digest.hex()[:12]}" + (f"-{attempt}" if attempt else "")
    return f"spool/{identity.study_uid}/{identity.series_uid}/{name}.dcm"


def pack(study_uid: str, series_uid: str, pack_id: str, custodian: str = "local") -> str:
    """`packs/{custodian}/{study_uid}/{series_uid}/{pack_id}.zip`: where a pack lies."""
    if not is_uid(study_uid) or not is_uid(series_uid):
        raise Invalid(Fault.BAD_UID, "a UID that is not valid cannot be part of a storage key")
    return checked(f"packs/{custodian}/{study_uid}/{series_uid}/{pack_id}.zip")


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
