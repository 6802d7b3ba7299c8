"""What a caller wishes a rendering to be: the query parameters of PS3.18 8.3.5.1 and of WADO-URI (9.5), checked."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from storage.errors import Fault, Invalid

MAX_VIEWPORT_PIXELS = 1 << 25
MAX_VIEWPORT_SIDE = 16_383  # what every media type here can be (WebP is the smallest)
DEFAULT_QUALITY = 85
STILL_MEDIA_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
MOVING_MEDIA_TYPES = ("image/gif", "image/webp", "video/mp4")
MAX_FRAMES = 2000  # in one moving picture
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,12}\.?[0-9]{0,12}|\.[0-9]{1,12})(?:[eE][+-]?[0-9]{1,2})?", re.ASCII)
_CARDINAL = re.compile(r"[0-9]{1,9}", re.ASCII)
_KEYWORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}", re.ASCII)


class VoiFunction(StrEnum):
    """How a window maps values (PS3.3 C.11.2.1.2.1, C.11.2.1.3)."""

    LINEAR = "linear"
    LINEAR_EXACT = "linear-exact"
    SIGMOID = "sigmoid"


class Annotation(StrEnum):
    """What may be burned in (PS3.18 8.3.5.1.1)."""

    PATIENT = "patient"
    TECHNIQUE = "technique"


class IccProfile(StrEnum):
    """The colour space of a rendering, and whether it says so itself (PS3.18 8.3.5.1.5)."""

    NO = "no"
    YES = "yes"
    SRGB = "srgb"
    ADOBE_RGB = "adobergb"
    ROMM_RGB = "rommrgb"


@dataclass(frozen=True, slots=True)
class Window:
    """A window on rescaled values."""

    center: float
    width: float
    function: VoiFunction = VoiFunction.LINEAR

    def is_possible(self) -> bool:
        """Whether the width is one that the function takes (PS3.3 C.11.2.1.2)."""
        least = 1.0 if self.function is VoiFunction.LINEAR else math.ulp(0.0)
        return math.isfinite(self.center) and least <= self.width < math.inf


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the source matrix, in pixels from its top left corner or, `relative`, in fractions of its size.

    Without a width or height it reaches to the edge; a negative one mirrors the picture that way.
    """

    left: float = 0.0
    top: float = 0.0
    width: float | None = None
    height: float | None = None
    relative: bool = False


@dataclass(frozen=True, slots=True)
class Viewport:
    """The box that a picture shall fill without distortion, open where a side is None, and what it shows."""

    width: int | None
    height: int | None
    region: Region = Region()


@dataclass(frozen=True, slots=True)
class Wish:
    """All that decides how a picture is made of one frame; as a whole fit for a key of a cache."""

    media_type: str = "image/jpeg"
    window: Window | None = None
    viewport: Viewport | None = None
    quality: int = DEFAULT_QUALITY  # of lossy media types
    annotations: tuple[Annotation, ...] = ()
    icc_profile: IccProfile = IccProfile.NO
    bits: int = 8  # 16 for grey in image/png


def parse_window(text: str) -> Window:
    """`window=center,width,function` (8.3.5.1.4); raises Invalid (QUERY)."""
    parts = text.split(",")
    if len(parts) != 3:
        raise _bad("window takes a center, a width and a function, parted by commas")
    try:
        function = VoiFunction(parts[2].strip().lower().replace("_", "-"))
    except ValueError:
        raise _bad(f"the function of window is one of {', '.join(VoiFunction)}") from None
    return _window(_number(parts[0], "the center of window"), _number(parts[1], "the width of window"), function)


def parse_uri_window(center: str | None, width: str | None) -> Window | None:
    """`windowCenter` and `windowWidth` of WADO-URI (9.5.1.2.6): both or none; raises Invalid (QUERY)."""
    if center is None and width is None:
        return None
    if center is None or width is None:
        raise _bad("windowCenter and windowWidth come together")
    return _window(_number(center, "windowCenter"), _number(width, "windowWidth"), VoiFunction.LINEAR)


def parse_viewport(text: str, max_pixels: int = MAX_VIEWPORT_PIXELS, *, whole: bool = False) -> Viewport:
    """`viewport=vw,vh[,sx,sy,sw,sh]` (8.3.5.1.3); of thumbnails, `whole`, only vw and vh. Raises Invalid (QUERY)."""
    parts = text.split(",")
    most = 2 if whole else 6
    if not 2 <= len(parts) <= most:
        raise _bad(
            f"viewport takes from 2 to {most} numbers, parted by commas" if not whole else "viewport takes vw,vh"
        )
    width, height = _side(parts[0], "vw"), _side(parts[1], "vh")
    if width * height > max_pixels:
        raise _bad(f"the viewport has more than {max_pixels} pixels")
    numbers = [_optional(part, name) for part, name in zip(parts[2:], ("sx", "sy", "sw", "sh"), strict=False)]
    left, top, region_width, region_height = numbers + [None] * (4 - len(numbers))
    if (left or 0) < 0 or (top or 0) < 0:
        raise _bad("sx and sy of viewport are not negative")
    if region_width == 0 or region_height == 0:
        raise _bad("sw and sh of viewport are not 0")
    return Viewport(width, height, Region(left or 0.0, top or 0.0, region_width, region_height))


def parse_uri_viewport(
    rows: str | None, columns: str | None, region: str | None, max_pixels: int = MAX_VIEWPORT_PIXELS
) -> Viewport | None:
    """`rows`, `columns` and `region` of WADO-URI (9.5.1.2.5, 9.5.2.4), of which each may be absent."""
    if rows is None and columns is None and region is None:
        return None
    height = None if rows is None else _side(rows, "rows")
    width = None if columns is None else _side(columns, "columns")
    if (width or 1) * (height or 1) > max_pixels:
        raise _bad(f"rows and columns make more than {max_pixels} pixels")
    return Viewport(width, height, Region() if region is None else _uri_region(region))


def parse_quality(text: str) -> int:
    """`quality`, 1 to 100 (8.3.5.1.2); raises Invalid (QUERY)."""
    if not _CARDINAL.fullmatch(text) or not 1 <= int(text) <= 100:
        raise _bad("quality is a whole number from 1 to 100")
    return int(text)


def parse_annotation(text: str) -> tuple[tuple[Annotation, ...], tuple[str, ...]]:
    """`annotation` (8.3.5.1.1): what is to be burned in, and the keywords that are not known here.

    Raises Invalid (QUERY) when it is empty or one of its keywords is malformed.
    """
    keywords = text.split(",")
    if not all(map(_KEYWORD.fullmatch, keywords)):
        raise _bad("annotation is a list of keywords, parted by commas")
    known = tuple(keyword for keyword in Annotation if keyword in keywords)
    return known, tuple(dict.fromkeys(keyword for keyword in keywords if keyword not in list(Annotation)))


def parse_icc_profile(text: str, media_types: Sequence[str] = ()) -> IccProfile:
    """`iccprofile` (8.3.5.1.5); raises Invalid (QUERY), also when one of `media_types` cannot hold a profile."""
    try:
        profile = IccProfile(text)
    except ValueError:
        raise _bad(f"iccprofile is one of {', '.join(IccProfile)}") from None
    for media_type in media_types:
        if profile is not IccProfile.NO and not holds_profile(media_type):
            raise _bad(f"{media_type} cannot hold an ICC profile")
    return profile


def holds_profile(media_type: str) -> bool:
    """Whether a colour profile can be embedded in it."""
    return media_type in ("image/jpeg", "image/png", "image/webp")


def _window(center: float, width: float, function: VoiFunction) -> Window:
    window = Window(center, width, function)
    if not window.is_possible():
        raise _bad("the width of a window is at least 1 when linear, and more than 0 otherwise")
    return window


def _uri_region(text: str) -> Region:
    parts = text.split(",")
    if len(parts) != 4:
        raise _bad("region takes 4 numbers, parted by commas")
    left, top, right, bottom = (_number(part, "region") for part in parts)
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise _bad("region has xmin < xmax and ymin < ymax, from 0 to 1")
    return Region(left, top, right - left, bottom - top, relative=True)


def _side(text: str, name: str) -> int:
    if not _CARDINAL.fullmatch(text) or not 1 <= int(text) <= MAX_VIEWPORT_SIDE:
        raise _bad(f"{name} is a whole number from 1 to {MAX_VIEWPORT_SIDE}")
    return int(text)


def _optional(text: str, name: str) -> float | None:
    return _number(text, f"{name} of viewport") if text else None


def _number(text: str, name: str) -> float:
    if not _NUMBER.fullmatch(text.strip(" ")):
        raise _bad(f"{name} is a decimal number")
    return float(text)


def _bad(message: str) -> Invalid:
    return Invalid(Fault.QUERY, message)
