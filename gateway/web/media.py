"""Which media type carries which transfer syntax on the web (PS3.18 Tables 8.7.3-2 and 8.7.3-5)."""

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
DICOM_XML = "application/dicom+xml"
JSON = "application/json"
OCTETS = "application/octet-stream"
ZIP = "application/zip"

EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
# Frames of these are the same bytes: uncompressed, little endian (deflated ones are inflated on the way out).
UNCOMPRESSED = (
    EXPLICIT_LITTLE_ENDIAN,
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1.98",
    "1.2.840.10008.1.2.1.99",
)

_JPEG_PROCESSES = (70, *range(50, 67))  # with the retired ones
_MPEG4 = ("102", "102.1", "103", "103.1", "104", "104.1", "105", "105.1", "106", "106.1")
# The first transfer syntax of each type is its default.
_SYNTAXES: dict[str, tuple[str, ...]] = {
    OCTETS: UNCOMPRESSED,
    "image/jpeg": tuple(f"1.2.840.10008.1.2.4.{process}" for process in _JPEG_PROCESSES),
    "image/dicom-rle": ("1.2.840.10008.1.2.5",),
    "image/jls": ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"),
    "image/jp2": ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"),
    "image/jpx": ("1.2.840.10008.1.2.4.92", "1.2.840.10008.1.2.4.93"),
    "image/jphc": ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"),
    "image/jxl": ("1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.111", "1.2.840.10008.1.2.4.112"),
    "video/mpeg2": tuple(f"1.2.840.10008.1.2.4.{process}" for process in ("100", "100.1", "101", "101.1")),
    "video/mp4": tuple(f"1.2.840.10008.1.2.4.{process}" for process in _MPEG4),
    "video/h265": ("1.2.840.10008.1.2.4.107", "1.2.840.10008.1.2.4.108"),
}
# Of a range, the first that frames can be had in: those that browsers' viewers decode soonest.
_BY_PREFERENCE = sorted(_SYNTAXES.items(), key=lambda entry: entry[0] not in ("image/jls", "image/jphc"))
_TYPES = {syntax: media_type for media_type, syntaxes in _SYNTAXES.items() for syntax in syntaxes}
_LEGACY = {"image/x-jls": "image/jls", "image/x-dicom-rle": "image/dicom-rle", "video/mpeg": "video/mpeg2"}


def is_rendered(media_type: str) -> bool:
    """Whether this is one of the rendered media types (PS3.18 8.7.4), or another that people look at."""
    if media_type == "application/pdf":
        return True
    main, _, sub = media_type.partition("/")
    return main in ("image", "video", "text") and sub != "*" and media_type not in _LEGACY


def canonical(media_type: str) -> str:
    """The present name of a media type that older clients spell otherwise (PS3.18 8.7.3.3 note)."""
    return _LEGACY.get(media_type, media_type)


def frame_type(transfer_syntax: str) -> str:
    """The media type of a frame stored in `transfer_syntax`; octet-stream when no other is defined."""
    return _TYPES.get(transfer_syntax, OCTETS)


def frame_syntax(transfer_syntax: str) -> str:
    """What to call the transfer syntax of a frame: all uncompressed little endian ones give the same bytes."""
    return EXPLICIT_LITTLE_ENDIAN if transfer_syntax in UNCOMPRESSED else transfer_syntax


def syntaxes_of(media_type: str) -> tuple[str, ...]:
    """The transfer syntaxes whose frames `media_type` carries, its default first; empty for an unknown type.

    A range (`image/*`) carries those of all its types.
    """
    if not media_type.endswith("/*"):
        return _SYNTAXES.get(media_type, ())
    fitting = (syntaxes for name, syntaxes in _BY_PREFERENCE if name.startswith(media_type[:-1]))
    return tuple(syntax for syntaxes in fitting for syntax in syntaxes)
