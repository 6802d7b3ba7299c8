"""Texts that are not plain ASCII wait here until all are known: only together do they tell their real character set."""

from typing import Any, NamedTuple

from storage.dicom.charset import Charset, repaired
from storage.dicom.values import VR

CHARSET_VRS = frozenset({"SH", "LO", "ST", "LT", "UC", "UT", "PN"})  # PS3.5 6.1.2.2
_MAX_SAMPLES = 256
_PRIVATE = 0x00010000

Entry = dict[str, Any]


class _Text(NamedTuple):
    entry: Entry
    vr: VR
    raw: bytes
    declared: tuple[str, ...]
    is_sample: bool  # of a public attribute to which the character set applies


class WaitingTexts:
    """The entries of one instance that have a VR already, but no value yet."""

    def __init__(self) -> None:
        self._texts: list[_Text] = []

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, tag: int, vr: VR, raw: bytes, declared: tuple[str, ...]) -> Entry:
        """An entry that `settle` will give the value `raw`, declared to be in the character set `declared`."""
        entry: Entry = {"vr": vr.name}
        self._texts.append(_Text(entry, vr, raw, declared, vr.name in CHARSET_VRS and not tag & _PRIVATE))
        return entry

    def drop(self, number: int) -> None:
        """Forget all but the first `number` texts."""
        del self._texts[number:]

    def settle(self) -> tuple[str | None, list[str]]:
        """Decode every text; how a wrong declaration was read (the first one), and what was odd about them."""
        repair: str | None = None
        warnings: list[str] = []
        for declared, texts in self._by_declaration().items():
            samples = [text.raw for text in texts if text.is_sample] or [text.raw for text in texts]
            charset, note = repaired(declared, samples[:_MAX_SAMPLES])
            repair = repair or note
            warnings.extend(charset.warnings)
            for text in texts:
                _decode(text, charset)
        return repair, warnings

    def _by_declaration(self) -> dict[tuple[str, ...], list[_Text]]:
        found: dict[tuple[str, ...], list[_Text]] = {}
        for text in self._texts:
            found.setdefault(text.declared, []).append(text)
        return found


def means_ascii(declared: tuple[str, ...]) -> bool:
    r"""Whether ASCII bytes mean ASCII characters in this character set; JIS X 0201 has others for \ and ~."""
    return Charset.of(declared).text(b"\\~") == "\\~"


def _decode(text: _Text, charset: Charset) -> None:
    assert text.vr.decoded is not None
    values = text.vr.decoded(text.raw, charset)
    if values:
        text.entry["Value"] = values
