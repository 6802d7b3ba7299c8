"""Whether stored objects are what the index says, byte by byte, in one request each and flat memory."""

from collections.abc import Iterator, Sequence

from storage.dicom.digest import InstanceDigest
from storage.errors import NotFound, Unavailable
from storage.index import LooseInstance
from storage.objects import ObjectStore
from storage.packs import Damaged, Pack, PackedInstance
from storage.packs.read import read_manifest
from storage.packs.verify import Finding, verify_instances, verify_pack
from storage.packs.whole import verified_whole

_MAX_NAMED = 100  # instances in one finding


def check_whole(store: ObjectStore, pack: Pack) -> None:
    """Read a pack object from end to end. Raises Damaged, NotFound, Unavailable."""
    with store.get(pack.location.key) as body:
        for _ in verified_whole(body.chunks(), pack.blocks, key=pack.location.key):
            pass


def is_whole(store: ObjectStore, pack: Pack) -> bool:
    """Whether a pack object is there, and every byte of it what was written. Raises Unavailable when the store does not
    answer.
    """
    try:
        check_whole(store, pack)
    except (NotFound, Damaged):
        return False
    except Unavailable:
        store.check()
        return False
    return True


def check_loose(store: ObjectStore, loose: LooseInstance) -> None:
    """Read a loose object from end to end. Raises Damaged, NotFound, Unavailable."""
    packed, location = loose.packed, loose.location
    digest = InstanceDigest(packed.transfer_syntax, packed.header_length)
    with store.get(location.key) as body:
        length = body.length
        for chunk in body.chunks():
            digest.update(chunk)
    if length != location.length or not digest.fits(packed.digest, loose.header_digest):
        raise Damaged("the object is not the instance that was stored", key=location.key)


def check_pack(store: ObjectStore, pack: Pack) -> None:
    """Read a pack object and hold it against its own manifest, and that against the index, which says `pack`.

    Raises Damaged with all that is wrong and the SOP Instance UIDs that it touches, NotFound, Unavailable.
    """
    key = pack.location.key
    try:
        found = read_manifest(store, store.head(key), pack.location.store)
    except Damaged as error:
        raise Damaged("; ".join([str(error), *_told(verify_instances(store, pack))]), key=key) from error
    if found.pack.blocks != pack.blocks:
        raise Damaged("it is a pack, but not the one that the index names", key=key)
    if not {_place(one) for one in pack.instances} <= {_place(one) for one in found.pack.instances}:
        raise Damaged("its manifest does not list what the index finds in it", key=key)
    findings = verify_pack(store, found)
    if findings:
        raise Damaged("; ".join(_told(findings)), key=key)


def _told(findings: Sequence[Finding]) -> Iterator[str]:
    """What was found, the instances in one line."""
    sop_uids = [finding.sop_uid for finding in findings if finding.sop_uid is not None]
    yield from (finding.what for finding in findings if finding.sop_uid is None)
    if sop_uids:
        more = f" and {len(sop_uids) - _MAX_NAMED} more" if len(sop_uids) > _MAX_NAMED else ""
        yield f"not what was stored: SOP Instance UID {', '.join(sop_uids[:_MAX_NAMED])}{more}"


def _place(packed: PackedInstance) -> tuple[str, int, bytes, int, int]:
    return packed.sop_uid, packed.revision, packed.digest, packed.offset, packed.length
