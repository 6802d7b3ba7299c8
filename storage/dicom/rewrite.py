"""A stored instance in another transfer syntax: its elements in explicit VR little endian, around other pixel data.

The pixel bytes are not touched here: whoever sends the instance streams them between head and tail.
"""

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

from storage.dicom import convert, filemeta, syntax
from storage.dicom.aroundpixels import OF_ENCAPSULATION, AroundPixels, Native, Pixels, around
from storage.dicom.dictionary import key_of
from storage.dicom.elements import HEADER_BYTES, Encoding, malformed
from storage.dicom.encode import element
from storage.dicom.explicit import Elements, Streamed
from storage.dicom.identity import Identity
from storage.dicom.jsonmodel import PIXEL_DATA
from storage.dicom.values import BY_NAME

Changes = Mapping[str, dict[str, Any] | None]
_BITS_ALLOCATED = 0x00280100
_ICONS = 0x00880200  # Icon Image Sequence


def rewrite(
    dataset: bytes,
    stored: str,
    target: str,
    identity: Identity,
    *,
    pixels: Pixels | None = None,
    changes: Changes | None = None,
    rest: bytes = b"",
) -> AroundPixels:
    """The Part 10 file of an instance, with `target` as its transfer syntax (PS3.10 7.1; PS3.18 8.7.3).

    `dataset` is what is stored (inflated, when the syntax `stored` is deflated) from its first byte to the first byte
    of the value of the pixel data, or of its first fragment; `rest` is what follows the last byte of them. An instance
    without pixel data, or with an empty value of it, is given whole and without `pixels`; or another large value of the
    data set itself takes the place of pixel data, as `Native(length, tag=...)`.

    Every element is kept, in ascending order, private and unknown ones too, with the VR it has or the dictionary
    knows; but a compressed icon has no place beside pixel data that is not (PS3.5 A.4). `changes` are elements in the
    DICOM JSON Model that take the place of those stored, or None to leave one out. Raises Invalid (MALFORMED,
    TOO_LARGE).
    """
    encoding = encoding_of(dataset, stored)
    found = convert.read(dataset, encoding, stops=() if pixels is None else pixels.tags)
    if pixels is not None:
        if found.streamed is None:
            raise malformed("the element to be streamed is not in the data set, which ends", len(dataset))
        convert.read_on(rest, encoding, found)
        changes = dict.fromkeys(map(key_of, OF_ENCAPSULATION)) | dict(changes or {})
    if _ICONS in found.fragmented and syntax.is_native(target):
        changes = {key_of(_ICONS): None} | dict(changes or {})
    meta = filemeta.build(identity.sop_class, identity.sop_uid, target)
    found.sort()
    _change(found, changes or {})
    if pixels is None or found.streamed is None:
        whole = meta + b"".join(found.pieces)
        return AroundPixels(whole, b"", len(whole))
    split = bisect_left(found.tags, found.streamed.tag)
    before, after = meta + b"".join(found.pieces[:split]), b"".join(found.pieces[split:])
    return around(before, after, _like_stored(pixels, found.streamed, found))


def encoding_of(dataset: bytes, stored: str) -> Encoding:
    """How the elements of a stored data set are really written: some are otherwise than their transfer syntax says."""
    return syntax.detect(memoryview(dataset), 0, len(dataset)) or syntax.encoding_of(stored)


def pixel_unit(stored: str, vr: str, bits_allocated: int) -> int:
    """Bytes of a word whose order must be turned round in stored native pixel data; 1 when none (PS3.5 7.3)."""
    if syntax.encoding_of(stored).big:
        return BY_NAME[vr].unit
    return bits_allocated // 8 if syntax.has_big_pixels(stored) and bits_allocated > 8 else 1


def _like_stored(pixels: Pixels, stored: Streamed, found: Elements) -> Pixels:
    """Native pixel data with the tag and VR of the stored one, unless the caller says otherwise."""
    if not isinstance(pixels, Native):
        return pixels
    vr = _pixel_vr(found) if stored.encapsulated and stored.tag == PIXEL_DATA else stored.vr
    return Native(pixels.length, pixels.vr or vr, stored.tag)


def _pixel_vr(found: Elements) -> str:
    """The VR of native pixel data that was compressed: bytes up to 8 bits, words above (PS3.5 A.2)."""
    at = bisect_left(found.tags, _BITS_ALLOCATED)
    described = found.pieces[at : at + 1] if found.tags[at : at + 1] == [_BITS_ALLOCATED] else []
    return "OB" if described and 0 < int.from_bytes(described[0][HEADER_BYTES:], "little") <= 8 else "OW"


def _change(found: Elements, changes: Changes) -> None:
    """Put elements in the place of others, or where they belong; `found` is in ascending order."""
    for key, changed in changes.items():
        tag = int(key, 16)
        at = bisect_left(found.tags, tag)
        present = slice(at, at + (found.tags[at : at + 1] == [tag]))
        found.tags[present] = [] if changed is None else [tag]
        found.pieces[present] = [] if changed is None else [element(key, changed)]
