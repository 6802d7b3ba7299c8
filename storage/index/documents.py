"""From one data set to what the index keeps of it: DICOM JSON for each level, and the values to match."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import orjson

from storage.dicom.attributes import PATIENT_NAME, TABLE, TIMEZONE, Attribute, Home, level_of
from storage.dicom.frames import Span
from storage.dicom.instance import BulkValue, JsonDataset
from storage.dicom.level import Level
from storage.dicom.matching import first, items, texts
from storage.dicom.name_tokens import tokens
from storage.dicom.names import groups
from storage.dicom.query import normal

MAX_VALUES = 256  # of one attribute, or items of one sequence, that take part in matching
_COMPUTED = frozenset(attribute.path[0] for attribute in TABLE if attribute.computed)
_OF_INSTANCE = (TIMEZONE, *(row.path[0] for row in TABLE if row.level is Level.INSTANCE))
_FUZZY = [row for row in TABLE if row.tokens]
_IN_VALUES = {
    level: [row for row in TABLE if row.level is level and row.home is Home.VALUES and not row.computed]
    for level in Level
}


class Value(NamedTuple):
    """One value to match, in normal form; see `schema` for item and part."""

    path: str
    item: int
    part: int
    value: str


def study_attributes(dataset: JsonDataset) -> JsonDataset:
    """What belongs to the study and its patient, without bulk values and what the index computes."""
    return _of_level(dataset, Level.STUDY)


def series_attributes(dataset: JsonDataset) -> JsonDataset:
    """What belongs to the series, likewise."""
    return _of_level(dataset, Level.SERIES)


def instance_attributes(dataset: JsonDataset) -> JsonDataset:
    """The few attributes of the instance that every search returns; all others are in its metadata."""
    return {tag: without_bulk(dataset[tag]) for tag in _OF_INSTANCE if tag in dataset}


def _of_level(dataset: JsonDataset, level: Level) -> JsonDataset:
    return {
        tag: without_bulk(element)
        for tag, element in dataset.items()
        if (tag == TIMEZONE or level_of(tag) is level) and tag not in _COMPUTED and "BulkDataURI" not in element
    }


def without_bulk(element: dict[str, Any]) -> dict[str, Any]:
    """The element with no value that would have to be fetched from elsewhere, at any depth of its items."""
    if element["vr"] != "SQ" or "Value" not in element:
        return element if "BulkDataURI" not in element else {"vr": element["vr"]}
    kept = [
        {tag: without_bulk(inner) for tag, inner in item.items() if "BulkDataURI" not in inner}
        for item in element["Value"]
    ]
    return {**element, "Value": kept}


def number(dataset: JsonDataset, tag: str) -> int | None:
    """The first value of an IS attribute, None when it is no integer."""
    text = first(dataset, tag, "IS")
    return int(text) if text else None


def values(dataset: JsonDataset, level: Level) -> Iterable[Value]:
    """Every distinct value of the searchable attributes of `level` that have their home in the table of values."""
    return dict.fromkeys(_values(dataset, level))


def _values(dataset: JsonDataset, level: Level) -> Iterator[Value]:
    for attribute in _IN_VALUES[level]:
        path = ".".join(attribute.path)
        for item, text in _texts(dataset, attribute):
            if attribute.vr == "PN":
                yield from (Value(path, item, part, value) for part, value in _name(text))
            elif value := normal(attribute.vr, text):
                yield Value(path, item, 0, value)


def _texts(dataset: JsonDataset, attribute: Attribute) -> Iterator[tuple[int, str]]:
    """Values with their number; values in a sequence with the number of their item."""
    if len(attribute.path) == 1:
        yield from enumerate(texts(dataset, attribute.path[0])[:MAX_VALUES])
        return
    *sequence, tag = attribute.path
    for number, item in enumerate(islice(items(dataset, tuple(sequence)), MAX_VALUES)):
        yield from ((number, text) for text in texts(item, tag)[:MAX_VALUES])


def _name(text: str) -> Iterator[tuple[int, str]]:
    for part, group in enumerate(groups(text)):
        if value := normal("PN", group):
            yield part, value


def name_tokens(dataset: JsonDataset) -> frozenset[str]:
    """The tokens by which the names of a study are matched fuzzily."""
    return frozenset(
        name_token(attribute, token)
        for attribute in _FUZZY
        for token in tokens(texts(dataset, attribute.path[0])[:MAX_VALUES])
    )


def name_token(attribute: Attribute, token: str) -> str:
    """A token as it is stored: the patient's as it is, another's behind its tag and a mark that no token has."""
    return token if attribute.path == PATIENT_NAME else f"@{attribute.path[0]}{token}"


def bulk_to_bytes(bulk: Mapping[str, BulkValue]) -> bytes:
    """The stored form of an instance's bulk values."""
    return orjson.dumps({path: (value.vr, [tuple(span) for span in value.spans]) for path, value in bulk.items()})


def bulk_from_bytes(data: bytes) -> dict[str, BulkValue]:
    """What `bulk_to_bytes` wrote."""
    return {
        path: BulkValue(vr, tuple(Span(offset, length) for offset, length in spans))
        for path, (vr, spans) in orjson.loads(data).items()
    }
