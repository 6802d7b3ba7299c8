"""The entry: bytes as received to an `Instance`, in one pass, in place, without decoding pixels."""

import mmap
import zlib

import orjson

from storage.dicom import filemeta, jsonmodel, syntax
from storage.dicom.digest import InstanceDigest
from storage.dicom.elements import Encoding
from storage.dicom.fragments import Forget
from storage.dicom.identity import Identity, is_uid, uid
from storage.dicom.instance import Instance, JsonDataset
from storage.dicom.jsonmodel import Reading
from storage.dicom.pixeldata import frames_of
from storage.errors import Fault, Invalid

MAX_INFLATED_BYTES = 128 << 20  # held in memory while it is read
MAX_METADATA_BYTES = 64 << 20
_STEP = 16 << 20  # so much of a mapped file is resident at a time
_INFLATE_STEP = 16 << 10  # inflates to a thousand times as much at most
_DICOMDIR = "1.2.840.10008.1.3.10"
_UIDS = {
    "sop_class": ("00080016", "SOP Class UID"),
    "sop_uid": ("00080018", "SOP Instance UID"),
    "study_uid": ("0020000D", "Study Instance UID"),
    "series_uid": ("0020000E", "Series Instance UID"),
}


def parse(data: bytes | bytearray | memoryview | mmap.mmap) -> Instance:
    """The instance in `data`: a Part 10 file, one without preamble or prefix, or a bare data set (PS3.10 7).

    A mapped file must be read-only; what was read of it is given back to the system, so that memory stays flat.
    Raises Invalid: NOT_DICOM, MALFORMED (with the byte position), MISSING_UID, BAD_UID, SOP_CLASS, TRANSFER_SYNTAX,
    TOO_LARGE; and nothing else, whatever the bytes are: what nobody foresaw is MALFORMED, and chained to its cause.
    """
    with memoryview(data) as view:
        try:
            return _parse(view, _forgetter(data))
        except (Invalid, MemoryError):
            raise
        except Exception as error:
            raise Invalid(Fault.MALFORMED, "the data set cannot be read: something in it was not foreseen") from error


def _parse(view: memoryview, forget: Forget) -> Instance:
    meta = filemeta.read(view)
    start = meta.dataset_start
    if meta.sop_class == _DICOMDIR:
        raise Invalid(Fault.SOP_CLASS, "a DICOMDIR is a directory of files, not an instance: send the files it names")
    if syntax.is_referenced(meta.transfer_syntax):
        raise Invalid(Fault.TRANSFER_SYNTAX, "the pixel data lies elsewhere, only a reference to it was sent")
    if syntax.is_deflated(meta.transfer_syntax):
        with memoryview(_inflated(view, start)) as inflated:
            reading, transfer_syntax = _read(inflated, 0, meta, _keep)
            frames = frames_of(inflated, 0, reading, transfer_syntax)
    else:
        reading, transfer_syntax = _read(view, start, meta, forget)
        frames = frames_of(view, start, reading, transfer_syntax)
    identity = _identity(reading.dataset)
    _compare(meta, identity, reading)
    preface = meta.preface
    if preface is None:
        preface = filemeta.build(identity.sop_class, identity.sop_uid, transfer_syntax)
    digest = _digest(transfer_syntax, preface, view, start, forget)
    return Instance(
        identity=identity,
        transfer_syntax=transfer_syntax,
        preface=preface,
        header_length=len(preface) + start,
        digest=digest.digest(),
        header_digest=digest.header_digest(),
        dataset=reading.dataset,
        metadata=_encoded(reading.dataset),
        frames=frames,
        bulk=reading.bulk,
        repair=reading.repair,
        warnings=tuple(reading.warnings),
    )


def _read(view: memoryview, start: int, meta: filemeta.FileMeta, forget: Forget) -> tuple[Reading, str]:
    """The data set, and the transfer syntax it is really in: the declared one unless the bytes contradict it."""
    end = len(view)
    found = syntax.detect(view, start, end)
    declared = meta.transfer_syntax if is_uid(meta.transfer_syntax) else ""
    if not declared:
        if found is None:
            raise Invalid(Fault.NOT_DICOM, "no DICOM data set could be recognised in the bytes")
        reading = jsonmodel.read(view, start, end, found, forget)
        if meta.preface is not None:
            reading.warn("the file meta information has no Transfer Syntax UID")
        return reading, syntax.plain_syntax(found)
    encoding = syntax.encoding_of(declared)
    if found is None or found is encoding:
        return _read_as(view, start, encoding, declared, forget), declared
    return _read_other(view, start, found, declared, forget)


def _read_as(view: memoryview, start: int, encoding: Encoding, declared: str, forget: Forget) -> Reading:
    try:
        return jsonmodel.read(view, start, len(view), encoding, forget)
    except Invalid as error:
        if error.fault is Fault.MALFORMED and not syntax.is_known(declared):
            message = f"the data set cannot be read in the transfer syntax {declared}, which is not known here: {error}"
            raise Invalid(Fault.TRANSFER_SYNTAX, message) from None
        raise


def _read_other(view: memoryview, start: int, found: Encoding, declared: str, forget: Forget) -> tuple[Reading, str]:
    """A data set that begins in another encoding than `declared` has, if what it is can be said for certain."""
    problem = f"the transfer syntax says {declared}, but the data set begins as {syntax.plain_syntax(found)}"
    try:
        reading = jsonmodel.read(view, start, len(view), found, forget)
    except Invalid as error:
        if error.fault is not Fault.MALFORMED:
            raise
        raise Invalid(Fault.TRANSFER_SYNTAX, f"{problem}, and cannot be read so: {error}") from None
    if not syntax.is_known(declared):
        return reading, declared
    reading.warn(problem)
    if syntax.is_native(declared):
        return reading, syntax.plain_syntax(found)
    if found.big or reading.pixel_data is None or reading.pixel_data.fragments is None:
        raise Invalid(Fault.TRANSFER_SYNTAX, problem)
    return reading, declared  # only the headers are in implicit VR: the compressed frames are what they should be


def _identity(dataset: JsonDataset) -> Identity:
    """The UIDs of the top level of the data set (PS3.4 B.2.3); raises Invalid (MISSING_UID, BAD_UID, SOP_CLASS)."""
    uids = {name: uid(_text(dataset, key), what) for name, (key, what) in _UIDS.items()}
    if uids["sop_class"] == _DICOMDIR:
        raise Invalid(Fault.SOP_CLASS, "a DICOMDIR is a directory of files, not an instance: send the files it names")
    return Identity(**uids)


def _text(dataset: JsonDataset, key: str) -> str:
    values = dataset.get(key, {}).get("Value", [])
    return "\\".join(value if isinstance(value, str) else "?" for value in values)


def _compare(meta: filemeta.FileMeta, identity: Identity, reading: Reading) -> None:
    if meta.sop_class and meta.sop_class != identity.sop_class:
        reading.warn("the file meta information names another SOP class than the data set")
    if meta.sop_uid and meta.sop_uid != identity.sop_uid:
        reading.warn("the file meta information names another SOP instance than the data set")


def _inflated(view: memoryview, start: int) -> bytearray:
    """The data set that was deflated (PS3.5 A.5); raises Invalid (TRANSFER_SYNTAX, MALFORMED, TOO_LARGE)."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = bytearray()
    for position in range(start, len(view), _INFLATE_STEP):
        try:
            inflated += inflater.decompress(
                view[position : position + _INFLATE_STEP], MAX_INFLATED_BYTES + 1 - len(inflated)
            )
        except zlib.error:
            raise Invalid(Fault.TRANSFER_SYNTAX, "the data set is not deflated as its transfer syntax says") from None
        if len(inflated) > MAX_INFLATED_BYTES:
            raise Invalid(Fault.TOO_LARGE, f"the data set inflates to more than {MAX_INFLATED_BYTES} bytes")
        if inflater.eof:
            return inflated
    raise Invalid(Fault.MALFORMED, f"the deflated data set is cut short at byte {len(view)}")


def _encoded(dataset: JsonDataset) -> bytes:
    metadata = orjson.dumps(dataset)
    if len(metadata) > MAX_METADATA_BYTES:
        raise Invalid(Fault.TOO_LARGE, f"the metadata takes more than {MAX_METADATA_BYTES} bytes")
    return metadata


def _digest(transfer_syntax: str, preface: bytes, view: memoryview, start: int, forget: Forget) -> InstanceDigest:
    """Of the object as it will be stored: the preface and the bytes as received, whose data set begins at `start`."""
    digest = InstanceDigest(transfer_syntax, len(preface) + start)
    digest.update(preface)
    for position in range(0, len(view), _STEP):
        after = min(position + _STEP, len(view))
        digest.update(view[position:after])
        forget(position, after)
    return digest


def _keep(start: int, end: int) -> None:
    """Forget nothing: the bytes are not a mapped file."""


def _forgetter(data: object) -> Forget:
    """What drops the pages of a mapped file that were read, so that they do not count as memory of the process."""
    if not isinstance(data, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED"):
        return _keep

    def forget(start: int, end: int) -> None:
        first = start - start % mmap.PAGESIZE
        data.madvise(mmap.MADV_DONTNEED, first, end - first)

    return forget
