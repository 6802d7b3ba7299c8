"""Fonts that have the characters of a text: those of the system that are known to, and Pillow's own for Latin."""

from functools import lru_cache
from pathlib import Path

from PIL import ImageFont
from PIL.ImageFont import FreeTypeFont

# Where Debian puts fonts-dejavu-core, fonts-noto-cjk, fonts-wqy-microhei, fonts-wqy-zenhei, fonts-droid-fallback and
# fonts-arphic-uming.
FONT_FILES: tuple[str, ...] = (
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
    "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",
    "/usr/share/fonts-droid-fallback/truetype/DroidSansFallback.ttf",
    "/usr/share/fonts/truetype/arphic/uming.ttc",
)
_OF_PILLOW = ""
_NO_CHARACTER = "\uffff"  # which no font has: it is drawn as what stands for a missing one


def font_for(text: str, size: int, files: tuple[str, ...] = FONT_FILES) -> FreeTypeFont | None:
    """The first font that has every character of `text`, `size` pixels high; None when none has."""
    fonts = (_font(file, size) for file in (*files, _OF_PILLOW))
    return next((font for font in fonts if font is not None and _has(font, text)), None)


@lru_cache(maxsize=64)
def _font(file: str, size: int) -> FreeTypeFont | None:
    if file == _OF_PILLOW:
        font = ImageFont.load_default(size)
        return font if isinstance(font, FreeTypeFont) else None
    return ImageFont.truetype(file, size) if Path(file).is_file() else None


def _has(font: FreeTypeFont, text: str) -> bool:
    missing = _drawn(font, _NO_CHARACTER)
    return all(_drawn(font, character) != missing for character in set(text) if not character.isspace())


def _drawn(font: FreeTypeFont, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)
