"""Fonts that have the characters of a text: those of the system that are known to, and Pillow's own for Latin."""

from functools import lru_cache
from itertools import groupby
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


def runs_of(text: str, size: int, files: tuple[str, ...] = FONT_FILES) -> list[tuple[str, FreeTypeFont]] | None:
    """`text` in pieces, each with a font that has its characters, `size` pixels high; None when one is in no font."""
    found = [(character, _font_of(character, size, files)) for character in text]
    runs: list[tuple[str, FreeTypeFont]] = []
    for font, pieces in groupby(found, key=lambda pair: pair[1]):
        if font is None:
            return None
        runs.append(("".join(character for character, _ in pieces), font))
    return runs


@lru_cache(maxsize=4096)
def _font_of(character: str, size: int, files: tuple[str, ...]) -> FreeTypeFont | None:
    fonts = (_font(file, size) for file in (*files, _OF_PILLOW))
    return next((font for font in fonts if font is not None and _has(font, character)), None)


@lru_cache(maxsize=64)
def _font(file: str, size: int) -> FreeTypeFont | None:
    if file == _OF_PILLOW:
        font = ImageFont.load_default(size)
        return font if isinstance(font, FreeTypeFont) else None
    return ImageFont.truetype(file, size) if Path(file).is_file() else None


def _has(font: FreeTypeFont, character: str) -> bool:
    return character.isspace() or _drawn(font, character) != _drawn(font, _NO_CHARACTER)


def _drawn(font: FreeTypeFont, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)
