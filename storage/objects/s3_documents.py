"""The documents that S3 servers answer with and are sent: plain XML, of which nothing but elements and text is read."""

from collections.abc import Iterable, Iterator, Mapping
from xml.etree.ElementTree import Element, ParseError, SubElement, TreeBuilder, XMLParser, tostring

from storage.errors import Unavailable
from storage.objects.s3_errors import Passing, refusal

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


class _Plain(TreeBuilder):
    """Refuses what S3 never sends: entities, which could be of any size, can only be declared in a DOCTYPE."""

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise Unavailable("the S3 store answers with a document that is none of S3")


def parsed(body: bytes, root: str, verb: str) -> Element:
    """The document, whose outermost element must be `root`: else it is another's answer, and not an empty list.

    Raises what `s3_errors` makes of an error that comes in an answer of success, to one who wanted to `verb`; Passing
    for what is no document, Unavailable for another's.
    """
    parser = XMLParser(target=_Plain())
    try:
        parser.feed(body)
        document: Element = parser.close()
    except ParseError as error:
        raise Passing(f"the S3 store cannot {verb} now (it answers with what is no document)") from error
    if _name(document) == "Error":
        raise refusal(500, fields(document).get("Code", ""), verb)
    if _name(document) != root:
        raise Unavailable(f"the S3 store does not {verb}: it answers with a document that is none of S3")
    return document


def fields(element: Element) -> dict[str, str]:
    """The text of each child by its name, whatever its namespace; the last of those that are there more than once."""
    return {_name(child): child.text or "" for child in element}


def each(element: Element, *names: str) -> Iterator[dict[str, str]]:
    """The fields of the children of these names, in order."""
    return (fields(child) for child in element if _name(child) in names)


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def document(root: str, children: Iterable[tuple[str, Mapping[str, str] | str]]) -> bytes:
    """A document of `children`, each with its text or with children of its own."""
    outermost = Element(root, xmlns=_NAMESPACE)
    for name, content in children:
        child = SubElement(outermost, name)
        if isinstance(content, str):
            child.text = content
            continue
        for inner, text in content.items():
            SubElement(child, inner).text = text
    return b'<?xml version="1.0" encoding="UTF-8"?>' + tostring(outermost)
