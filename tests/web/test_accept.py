"""Content negotiation (PS3.18 8.7)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.archive import AS_STORED, BY_DEFAULT, RATHER_THAN
from gateway.web import accept, media
from gateway.web.accept import Offer
from storage.errors import NotAcceptable

JSON = [Offer(media.DICOM_JSON), Offer(media.JSON)]
JLS = "1.2.840.10008.1.2.4.80"
LITTLE = "1.2.840.10008.1.2.1"
INSTANCE = [Offer(media.DICOM, True, LITTLE), Offer(media.DICOM, False, LITTLE)]
NATIVE_FRAME = [Offer(media.OCTETS, True, LITTLE), Offer(media.OCTETS, False, LITTLE)]
JLS_FRAME = [Offer("image/jls", True, JLS), Offer("image/jls", False, JLS)]


def chosen(header: str | None, offers: list[Offer], parameter: str | None = None) -> Offer | None:
    try:
        return accept.choose(accept.ranges(header, parameter), offers)
    except NotAcceptable:
        return None


@pytest.mark.parametrize(
    "header",
    [
        "application/dicom+json",
        "APPLICATION/DICOM+JSON",
        " application/dicom+json ; q=0.5",
        "text/html, application/dicom+json;q=0.1",
        "nonsense, /, a/b/c, ;;, application/dicom+json",
        'application/dicom+json; charset="utf-8"; q=1',
        "*/*",
        "application/*",
        "application/*;q=0.1, text/*",
        "",
        "   ",
    ],
)
def test_h_accept_syntax_json_is_recognised(header: str) -> None:
    assert chosen(header, JSON) == JSON[0]


def test_x_noaccept_counts_as_anything() -> None:
    assert chosen(None, JSON) == JSON[0]


@pytest.mark.parametrize(
    "header", ["text/html", "application/dicom+json;q=0", "*/*;q=0", "image/*", "application/dicom+xml", "*/json"]
)
def test_x_406_when_nothing_fits(header: str) -> None:
    assert chosen(header, JSON) is None


def test_x_406_says_what_is_offered() -> None:
    with pytest.raises(NotAcceptable, match=r"application/dicom\+json"):
        accept.choose(accept.parse("text/html"), JSON)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("application/json, application/dicom+json;q=0.9", 1),
        ("application/json;q=0.1, application/dicom+json;q=0.2", 0),
        ("application/json, */*;q=0.5", 1),
        ("application/dicom+json;q=0, */*", 1),
        ("application/dicom+json;q=0, application/*", 1),
        ("application/dicom+json;q=7, application/json;q=0.1", 1),  # an entry with a q that is none is left out
        ("application/dicom+json;q=x, application/json", 1),
    ],
)
def test_h_accept_q_decides(header: str, expected: int) -> None:
    assert chosen(header, JSON) == JSON[expected]


def test_h_accept_param_goes_before_the_header() -> None:
    assert chosen("application/dicom+json", JSON, "application/json") == JSON[1]
    assert chosen("text/html", JSON, "application/json") == JSON[1]
    assert chosen("application/json", JSON, "text/html") == JSON[1], "types that it lists only"
    assert chosen("text/html", JSON, "*/*") is None, "no wildcards in it"


@pytest.mark.parametrize(
    ("header", "multipart"),
    [
        ('multipart/related; type="application/dicom"', True),
        ("multipart/related;type=application/dicom", True),
        ('Multipart/Related; Boundary="**"; Type="Application/DICOM"', True),
        ("multipart/related", True),
        ("multipart/*", True),
        ("*/*", True),
        ("application/dicom", False),
        ("application/*", False),
        ("application/dicom; transfer-syntax=*", False),
        ('multipart/related; type="application/dicom"; q=0.2, application/dicom; q=0.3', False),
    ],
)
def test_w_multipart_and_w_singlepart(header: str, multipart: bool) -> None:
    assert chosen(header, INSTANCE) == Offer(media.DICOM, multipart, LITTLE)


def test_x_single_part_alone_is_not_enough_for_many() -> None:
    assert chosen("application/dicom", INSTANCE[:1]) is None


@pytest.mark.parametrize(
    "header",
    [
        "multipart/related; type=application/octet-stream; transfer-syntax=*",  # OHIF
        'multipart/related; type="*/*"',  # dicomweb-client
        'multipart/related; type="image/jls"; transfer-syntax=1.2.840.10008.1.2.4.80',
        'multipart/related; type="image/x-jls"',
        'multipart/related; type="image/*"',
        'multipart/related; type="image/jpeg", multipart/related; type="image/jls"; q=0.1',
    ],
)
def test_w_frames_comp_and_w_frames_star(header: str) -> None:
    assert chosen(header, JLS_FRAME) == JLS_FRAME[0]


@pytest.mark.parametrize(
    "header",
    [
        'multipart/related; type="application/octet-stream"',  # means uncompressed
        'multipart/related; type="application/octet-stream"; transfer-syntax=1.2.840.10008.1.2.1',
        'multipart/related; type="image/jls"; transfer-syntax=1.2.840.10008.1.2.4.81',
        'multipart/related; type="image/jpeg"',
    ],
)
def test_w_frames_octet_never_labels_compressed_bytes_as_octets(header: str) -> None:
    assert chosen(header, JLS_FRAME) is None


@pytest.mark.parametrize(
    "syntax", ["", "; transfer-syntax=*", f"; transfer-syntax={LITTLE}", "; transfer-syntax=1.2.840.10008.1.2"]
)
def test_uncompressed_frames_by_any_of_their_names(syntax: str) -> None:
    assert chosen(f"application/octet-stream{syntax}", NATIVE_FRAME) == NATIVE_FRAME[1]


def test_transfer_syntaxes_in_order_of_preference() -> None:
    header = "multipart/related; type=image/jls; q=0.5, multipart/related; type=application/octet-stream; q=0.9"
    assert accept.frame_syntaxes(accept.parse(header)) == [LITTLE, RATHER_THAN, JLS, "1.2.840.10008.1.2.4.81"]
    header = f"application/dicom; transfer-syntax={JLS};q=0.5, application/dicom, text/html"
    assert accept.instance_syntaxes(accept.parse(header)) == [BY_DEFAULT, RATHER_THAN, JLS]
    assert accept.instance_syntaxes(accept.parse("image/jpeg, application/dicom;q=0")) == []


def test_quoted_strings_hide_separators() -> None:
    (entry,) = accept.parse(r'application/dicom; note="a,b;c\",d"; transfer-syntax="1.2"')
    assert (entry.media_type, entry.transfer_syntax) == ("application/dicom", "1.2")


@given(st.text(alphabet=st.sampled_from('apli/c*;,="\\ q0.1-multi\t\x00é'), max_size=200) | st.text(max_size=100))
def test_h_accept_syntax_never_raises(text: str) -> None:
    for entry in accept.parse(text):
        assert 0 <= entry.q <= 1
    chosen(text, JSON)
    chosen(text, JLS_FRAME)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("*/*", [BY_DEFAULT]),
        ("multipart/related; type=application/octet-stream; transfer-syntax=*", [AS_STORED]),
        ("application/octet-stream", [LITTLE]),
        ("application/octet-stream; transfer-syntax=1.2.840.10008.1.2", [LITTLE]),
        ("image/jls; transfer-syntax=*", [JLS, "1.2.840.10008.1.2.4.81"]),
        (f"image/jls; transfer-syntax={JLS}, image/jls; transfer-syntax={LITTLE}", [JLS]),
        (f"application/octet-stream; transfer-syntax={JLS}", []),  # no such pair
        ("text/html, image/png", []),
        ("image/x-dicom-rle;q=0.5, application/octet-stream;q=0.5", ["1.2.840.10008.1.2.5", LITTLE]),
    ],
)
def test_w_frames_comp_what_an_entry_means_for_frames(header: str, expected: list[str]) -> None:
    assert accept.frame_syntaxes(accept.parse(header)) == expected


def test_h_accept_star_a_range_means_what_is_within_it() -> None:
    found = accept.frame_syntaxes(accept.parse("image/*"))
    assert found[0] == JLS
    assert LITTLE not in found
    assert all(media.frame_type(syntax).startswith("image/") for syntax in found)
