"""Which abstract and transfer syntaxes are taken, and which one of several (PS3.4 B.5, PS3.5 10, PS3.6 A)."""

from enum import Enum

from pynetdicom.service_class import ServiceClass, StorageServiceClass, VerificationServiceClass
from pynetdicom.sop_class import uid_to_service_class

from storage.dicom import syntax
from storage.dicom.identity import is_uid

VERIFICATION = "1.2.840.10008.1.1"
STORAGE_SERVICE = "1.2.840.10008.4.2"
IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"

_STANDARD_ROOT = "1.2.840.10008."
_DICOMDIR = "1.2.840.10008.1.3.10"
_STORAGE_TREE = "1.2.840.10008.5.1.4.1.1."
# Composite instances that were defined outside the storage tree and are retired.
_RETIRED_STORAGE = frozenset(
    {
        "1.2.840.10008.5.1.1.27",  # Stored Print
        "1.2.840.10008.5.1.1.29",  # Hardcopy Grayscale Image
        "1.2.840.10008.5.1.1.30",  # Hardcopy Color Image
        "1.2.840.10008.5.1.4.34.1",  # RT Beams Delivery Instruction, trial
    }
)


class Service(Enum):
    """What an abstract syntax is used for here."""

    VERIFICATION = "verification"
    STORAGE = "storage"


def service_of(abstract_syntax: str, declared_service: str = "", *, accept_unknown: bool = True) -> Service | None:
    """The service that `abstract_syntax` belongs to, None when it is not offered.

    Storage is what PS3.4 B.5 lists, whatever else is in its UID tree (newer, retired, DICOS, DICONDE), what the peer
    declares to be storage (SOP Class Common Extended Negotiation, PS3.4 B.3.1.3), and, when unknown SOP classes are
    accepted, every private one. Not storage: other services, and instances that belong to no patient (DICOMDIR,
    hanging protocols, inventories), which a study-oriented archive could not find again.
    """
    known = uid_to_service_class(abstract_syntax)
    if known is VerificationServiceClass:
        return Service.VERIFICATION
    if known is StorageServiceClass or abstract_syntax in _RETIRED_STORAGE:
        return Service.STORAGE
    if known is not ServiceClass or abstract_syntax in (_DICOMDIR, ""):
        return None
    is_private = not abstract_syntax.startswith(_STANDARD_ROOT)
    is_storage = (
        abstract_syntax.startswith(_STORAGE_TREE)
        or declared_service == STORAGE_SERVICE
        or (is_private and accept_unknown)
    )
    return Service.STORAGE if is_storage else None


# In order of preference: what keeps the sender's compression without loss, then what is not compressed, then what
# could make a sender compress with loss, which is taken only when nothing else is offered.
_LOSSLESS = (
    "1.2.840.10008.1.2.4.202",  # HTJ2K, lossless, RPCL
    "1.2.840.10008.1.2.4.201",  # HTJ2K, lossless
    "1.2.840.10008.1.2.4.80",  # JPEG-LS, lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000, lossless
    "1.2.840.10008.1.2.4.70",  # JPEG, lossless, first-order prediction
    "1.2.840.10008.1.2.4.57",  # JPEG, lossless, process 14
    "1.2.840.10008.1.2.4.92",  # JPEG 2000 multi-component, lossless
    "1.2.840.10008.1.2.4.110",  # JPEG XL, lossless
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.8.1",  # Deflated Image Frame
)
_UNCOMPRESSED = (
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT_LITTLE_ENDIAN,
    "1.2.840.10008.1.2.1.98",  # Encapsulated Uncompressed
    "1.2.840.10008.1.2.2",  # Explicit Big Endian
    "1.2.840.10008.1.2.1.99",  # Deflated
)
_RANK = {uid: rank for rank, uid in enumerate(_LOSSLESS + _UNCOMPRESSED)}
_LOSSY_RANK, _PRIVATE_RANK = len(_RANK), len(_RANK) + 1
_PIXEL_ENCODINGS = "1.2.840.10008.1.2.4."


def choose_transfer_syntax(proposed: tuple[str, ...]) -> str | None:
    """The one of `proposed` to accept, None when none can be (PS3.8 9.3.3.2). Their order is no preference.

    Every encoding below 1.2.840.10008.1.2.4 is taken, also ones that are newer than this program: they are all
    Explicit VR Little Endian around the pixel data (PS3.5 A.4). A private one is taken when nothing else is offered;
    an instance in it whose data set cannot be read is refused when it comes.
    """
    acceptable = [uid for uid in proposed if is_uid(uid) and _is_acceptable(uid)]
    return min(acceptable, key=_rank, default=None)


def _is_acceptable(uid: str) -> bool:
    if uid.startswith(_PIXEL_ENCODINGS):
        return not syntax.is_referenced(uid)  # pixel data that lies elsewhere cannot be archived
    return uid in _RANK or not uid.startswith(_STANDARD_ROOT)


def _rank(uid: str) -> int:
    return _RANK.get(uid, _LOSSY_RANK if uid.startswith(_PIXEL_ENCODINGS) else _PRIVATE_RANK)
