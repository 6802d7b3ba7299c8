"""Which VR a tag has when the bytes do not say so (PS3.6; private blocks by their creator, PS3.5 7.8)."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydicom.datadict import dictionary_VR, keyword_for_tag, private_dictionary_VR

UNKNOWN = "UN"


def vr_of(tag: int, dataset: Mapping[str, Any], *, signed: bool) -> str:
    """The VR of an element in implicit VR; `dataset` is what was read before it, for its private creators.

    `signed` says what Pixel Representation does, on which some VRs depend. Binary values of which the dictionary
    leaves the VR open are OW, as PS3.5 A.1 has it. A tag that is not known is UN.
    """
    if tag >> 16 & 1:
        return _private(tag, dataset)
    vr = _standard(tag)
    if len(vr) == 2:
        return vr
    if vr == "US or SS":
        return "SS" if signed else "US"
    return "OW"


@lru_cache(maxsize=16384)
def key_of(tag: int) -> str:
    """The name of a tag in the DICOM JSON Model: 8 hexadecimal digits (PS3.18 F.2.2)."""
    return f"{tag:08X}"


@lru_cache(maxsize=8192)
def keyword_of(tag: int) -> str:
    """The keyword of a standard attribute, such as PatientName; "" when there is none (PS3.6)."""
    return keyword_for_tag(tag)


@lru_cache(maxsize=8192)
def _standard(tag: int) -> str:
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return UNKNOWN
    return UNKNOWN if vr == "NONE" else vr


def _private(tag: int, dataset: Mapping[str, Any]) -> str:
    element = tag & 0xFFFF
    if element < 0x1000:
        return "LO" if 0x10 <= element <= 0xFF else UNKNOWN
    creator = dataset.get(f"{tag >> 16:04X}00{element >> 8:02X}", {}).get("Value", ())
    return _of_creator(tag, creator[0]) if creator and isinstance(creator[0], str) else UNKNOWN


@lru_cache(maxsize=8192)
def _of_creator(tag: int, creator: str) -> str:
    try:
        vr = private_dictionary_VR(tag, creator)
    except KeyError:
        return UNKNOWN
    return vr if len(vr) == 2 else UNKNOWN
