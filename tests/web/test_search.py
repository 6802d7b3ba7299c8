"""QIDO-RS over HTTP: what is asked, and the form of what is answered (PS3.18 8.3.4, 10.6)."""

import gzip
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import Web
from gateway.web import search_request
from gateway.web.errors import Refused
from storage.dicom.query import AnyOf, Empty, Fuzzy, Level, Query, Range, Single, UidList, Universal, Wildcard
from storage.errors import Exhausted, Invalid, Unavailable
from tests.web.conftest import Door, opened

STUDY = "2.25.90817.1"
SERIES = f"{STUDY}.1"
# Of query strings, as they might be put together by chance.
PIECES = [
    *b"& = % , . * ? + - \\ %5C %FF %E7%8E%8B %22%22 true 20260101 1.2 00100010 00400275 00100020".split(),
    *b"limit offset includefield all fuzzymatching emptyvaluematching multiplevaluematching PatientName".split(),
    *b"StudyDate StudyTime RequestAttributesSequence TimezoneOffsetFromUTC %2B0800 StudyInstanceUID".split(),
]


def asked(door: Door, query: str, path: str = "/studies") -> Query:
    """The Query that this query string becomes."""
    response = door.get(f"{path}?{query}")
    assert response.status_code in (200, 204), response.text
    return door.archive.queries[-1]


@pytest.mark.parametrize(
    ("path", "level", "study", "series"),
    [
        ("/studies", Level.STUDY, None, None),
        ("/series", Level.SERIES, None, None),
        ("/instances", Level.INSTANCE, None, None),
        (f"/studies/{STUDY}/series", Level.SERIES, STUDY, None),
        (f"/studies/{STUDY}/instances", Level.INSTANCE, STUDY, None),
        (f"/studies/{STUDY}/series/{SERIES}/instances", Level.INSTANCE, STUDY, SERIES),
    ],
)
def test_q_res_all_six(ct: Door, path: str, level: Level, study: str | None, series: str | None) -> None:
    for form in (path, path + "/", path + "?"):
        response = ct.get(form)
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/dicom+json"
        query = ct.archive.queries[-1]
        assert (query.level, query.study_uid, query.series_uid) == (level, study, series)


def test_q_retrieveurl_is_absolute_at_its_level_and_can_be_retrieved(ct: Door) -> None:
    for path, parts in (("/studies", 1), ("/series", 2), ("/instances", 3)):
        for row in ct.get(path).json():
            assert row["00081190"]["vr"] == "UR"
            (url,) = row["00081190"]["Value"]
            assert url.startswith(ct.url)
            assert url.count("/", len(ct.url)) == 2 * parts
            assert ct.client.get(url).status_code == 200
            assert list(row) == sorted(row)


def test_x_204_without_body_when_nothing_matches(ct: Door) -> None:
    response = ct.get("/studies?PatientID=nobody")
    assert (response.status_code, response.content) == (204, b"")
    assert "content-length" not in response.headers
    assert "content-type" not in response.headers


def test_q_parent404_an_unknown_study_has_no_series(ct: Door) -> None:
    assert ct.get("/studies/1.2.3/series").status_code == 204


@pytest.mark.parametrize(
    "query",
    ["PatientID=P%311", "00100020=P11", "patientid=x&PatientID=P11", "PatientID=P11&_=123456", "&&PatientID=P11&"],
)
def test_q_tag_keyword_and_h_pct(ct: Door, query: str) -> None:
    (key,) = asked(ct, query).keys
    assert (key.path, key.matching) == (("00100020",), Single("P11"))


def test_h_pct_is_decoded_once(ct: Door) -> None:
    (key,) = asked(ct, "PatientID=a%2541b").keys
    assert key.matching == Single("a%41b")


def test_x_plus_is_a_plus(ct: Door) -> None:
    (key,) = asked(ct, "PatientID=a+b").keys
    assert key.matching == Single("a+b")


def test_h_utf8_names(ct: Door) -> None:
    assert len(ct.get("/studies?PatientName=%E7%8E%8B%5E%E5%B0%8F%E4%B8%9C").json()) == 2
    for broken in ("%C4%E3", "%FF", "%E7%8E"):
        response = ct.get(f"/studies?PatientName={broken}")
        assert response.status_code == 400
        assert "UTF-8" in response.json()["detail"]


def test_keys_become_matching(ct: Door) -> None:
    query = asked(ct, "StudyDate=20240101-20241231&PatientName=Wang*&StudyID=&AccessionNumber=*&0020000d=1.2%2C1.3")
    assert [key.matching for key in query.keys] == [
        Range("20240101", "20241231"),
        Wildcard("Wang*"),
        Universal(),
        Universal(),
        UidList(("1.2", "1.3")),
    ]


def test_q_uidlist_with_a_bare_comma(ct: Door) -> None:
    (key,) = asked(ct, f"StudyInstanceUID={STUDY},1.3").keys
    assert key.matching == UidList((STUDY, "1.3"))


def test_q_dotpath(ct: Door) -> None:
    (key,) = asked(ct, "RequestAttributesSequence.00401001=RP1", "/series").keys
    assert key.path == ("00400275", "00401001")


@pytest.mark.parametrize(
    "form",
    [
        "includefield=00081030%2C00080060%2C00080090",
        "includefield=00081030,00080060,00080090",
        "includefield=StudyDescription&includefield=Modality,ReferringPhysicianName",
        "includefield=0008103a,nonsense,StudyDescription,00080060,00080090",
    ],
)
def test_x_pctcomma_and_q_includefield(ct: Door, form: str) -> None:
    assert {"00081030", "00080060", "00080090"} <= asked(ct, form).include


def test_q_include_all(ct: Door) -> None:
    assert asked(ct, "includefield=all").include_all


def test_q_page_limit_and_offset(ct: Door) -> None:
    query = asked(ct, "limit=7&offset=3")
    assert (query.limit, query.offset) == (7, 3)
    assert asked(ct, "").limit == 100
    assert asked(ct, "limit=99999999").limit == 1000, "the server's maximum"
    assert asked(ct, "Limit=5").limit == 100, "H-CASE-QP: names are case-sensitive"
    assert ct.get("/studies?offset=50").status_code == 204


@pytest.mark.parametrize(
    "query",
    [
        "limit=abc",
        "limit=-1",
        "limit=",
        "limit=1.5",
        "limit=%D9%A3",
        "offset=x",
        "offset=-1",
        "limit=1&limit=2",
        "fuzzymatching=maybe",
        "fuzzymatching=TRUE",
        "fuzzymatching=",
        "emptyvaluematching=1",
        "multiplevaluematching=no",
        "StudyDate=ABCDEFGH",
        "StudyDate=20241301",
        "StudyDate=20241231-20240101",
        "StudyTime=2400",
        "StudyInstanceUID=1.2*",
        "StudyInstanceUID=1.2,,1.3",
        "PatientID=a&PatientID=b",
        "PatientID=a&00100020=a",
        "TimezoneOffsetFromUTC=8",
        "TimezoneOffsetFromUTC=%2B9900",
        "accept=a/b&accept=c/d",
    ],
)
def test_h_badvalue_q_repeat_q_bool(ct: Door, query: str) -> None:
    response = ct.get(f"/studies?{query}")
    assert response.status_code == 400
    assert set(response.json()) == {"error", "detail"}
    assert not ct.archive.queries


def warnings(door: Door, query: str) -> list[str]:
    return door.get(f"/studies?{query}").headers.get_list("warning")


@pytest.mark.parametrize("switched", ["StudyID={}&{}=true", "{1}=true&StudyID={0}"])
def test_q_emptymatch_and_q_multimatch_are_read_before_the_keys(ct: Door, switched: str) -> None:
    for name, value, matching in (
        ("emptyvaluematching", "%22%22", Empty()),
        ("multiplevaluematching", "A%5CB*", AnyOf((Single("A"), Wildcard("B*")))),
    ):
        query = switched.format(value, name)
        assert [key.matching for key in asked(ct, query).keys] == [matching]
        assert warnings(ct, query) == []
        assert isinstance(asked(ct, query.replace("true", "false")).keys[0].matching, Single | Wildcard)


def test_x_unknown_is_a_switch(tmp_path: Path, ct: Door) -> None:
    assert not asked(ct, "StudyID=1").match_unknown
    with opened(tmp_path, match_unknown=True) as door:
        assert asked(door, "StudyID=1").match_unknown


@pytest.mark.parametrize("query", ["PatientName=Wang&fuzzymatching=true", "fuzzymatching=true&PatientName=Wang"])
def test_q_fuzzy_is_performed_on_names(ct: Door, query: str) -> None:
    assert [key.matching for key in asked(ct, query).keys] == [Fuzzy("wang")]
    assert warnings(ct, query) == []
    assert [key.matching for key in asked(ct, query.replace("true", "false")).keys] == [Single("Wang")]
    both = query.replace("PatientName=Wang", "ReferringPhysicianName=Li*&PatientID=P1")
    assert [key.matching for key in asked(ct, both).keys] == [Fuzzy("li"), Single("P1")]
    assert warnings(ct, both) == []


def test_q_unsupkey_is_ignored_with_a_warning(ct: Door) -> None:
    (warning,) = warnings(ct, "PatientComments=x&PatientID=P1")
    assert "00104000" in warning
    (key,) = ct.archive.queries[-1].keys
    assert key.path == ("00100020",)
    assert warnings(ct, "vendorkey=x&_=1") == [], "H-UNKNOWNPARAM"


def test_q_tz_is_no_match_key(ct: Door) -> None:
    query = asked(ct, "TimezoneOffsetFromUTC=%2B0800&PatientID=P1")
    assert query.timezone == "+0800"
    assert [key.path for key in query.keys] == [("00100020",)]
    assert warnings(ct, "TimezoneOffsetFromUTC=-0330") == []


def test_q_remaining(ct: Door) -> None:
    (warning,) = warnings(ct, "limit=1")
    assert warning == f'299 {ct.url}: "There are 1 additional results that can be requested"'
    response = ct.get("/studies?limit=0")
    assert response.status_code == 204
    assert "There are 2 additional results" in response.headers["warning"]
    ct.archive.extra_remaining = 10_000
    assert "There are at least 10000 additional" in warnings(ct, "")[0]


def test_a_province_that_did_not_answer_is_named(ct: Door) -> None:
    ct.archive.unanswered = ("hebei", "河北")
    assert [text.partition('"')[2] for text in warnings(ct, "")] == [
        'hebei did not answer. What it holds is missing from these results."',
        '?? did not answer. What it holds is missing from these results."',
    ]


def test_q_json_and_406(ct: Door) -> None:
    assert ct.get("/studies", accept="application/json").headers["content-type"] == "application/json"
    response = ct.get("/studies", accept="text/html")
    assert response.status_code == 406
    assert "application/dicom+json" in response.json()["detail"]
    assert ct.get("/studies?accept=application/dicom%2Bjson", accept="text/html").status_code == 200


def test_h_enc_gzip_when_it_is_taken_and_worth_it(ct: Door) -> None:
    plain = ct.get("/instances", **{"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    with ct.client.stream("GET", ct.url + "/instances", headers={"accept-encoding": "br;q=1, gzip;q=0.5"}) as response:
        assert response.headers["content-encoding"] == "gzip"
        assert "Accept-Encoding" in response.headers["vary"]
        assert gzip.decompress(b"".join(response.iter_raw())) == plain.content
    for refused in ("gzip;q=0", "gzip;q=0.000", "br", "*;q=0"):
        assert "content-encoding" not in ct.get("/instances", **{"accept-encoding": refused}).headers


def test_h_cache_private_and_vary(ct: Door) -> None:
    headers = ct.get("/studies").headers
    assert headers["cache-control"] == "private"
    assert "Accept" in headers["vary"]


def test_h_head_has_the_headers_of_get(ct: Door) -> None:
    got, headed = ct.get("/studies"), ct.client.head(ct.url + "/studies")
    assert (headed.status_code, headed.content) == (200, b"")
    assert headed.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize(
    ("error", "word"), [(Unavailable("no index"), "unavailable"), (Exhausted("full"), "exhausted")]
)
def test_errors_of_the_archive(ct: Door, error: Exception, word: str) -> None:
    ct.archive.fail["search"] = error
    response = ct.get("/studies")
    assert (response.status_code, response.json()) == (503, {"error": word, "detail": str(error)})
    assert int(response.headers["retry-after"]) > 0


def test_too_many_parameters(ct: Door) -> None:
    assert ct.get("/studies?" + "&".join(f"x{number}=1" for number in range(2000))).status_code == 400


def test_h_case_qp_h_unknownparam_h_emptyq(ct: Door) -> None:
    plain = ct.get("/studies")
    for query in ("?", "?Limit=1", "?_=123456789", "?Offset=5&vendor.key=x", "?FuzzyMatching=maybe", "?&&"):
        response = ct.get(f"/studies{query}")
        assert (response.status_code, response.content) == (200, plain.content), query
        assert "warning" not in response.headers


def test_h_warning_one_value_each(ct: Door) -> None:
    found = warnings(ct, "limit=1&PatientComments=x&StudyComments=y")
    assert len(found) == 3
    assert all(text.startswith(f"299 {ct.url}: ") for text in found)


def test_q_res_trailing_a_study_is_retrieved(ct: Door) -> None:
    searched = len(ct.archive.queries)
    response = ct.get("/studies/" + ct.get("/studies").json()[0]["0020000D"]["Value"][0])
    assert response.headers["content-type"].startswith("multipart/related")
    assert len(ct.archive.queries) == searched + 1


def test_q_uidlist_of_a_hundred_in_one_uri(ct: Door) -> None:
    uids = ",".join(f"2.25.{10**37 + number}" for number in range(100))
    (key,) = asked(ct, f"StudyInstanceUID={uids}").keys
    assert isinstance(key.matching, UidList)
    assert len(key.matching.values) == 100


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=8).map(b"".join))
def test_no_query_string_is_an_error_of_ours(raw: bytes) -> None:
    for level in Level:
        with suppress(Refused, Invalid):
            search_request.read(raw, level, Web())
