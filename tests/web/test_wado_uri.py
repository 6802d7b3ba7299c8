"""WADO-URI over HTTP (PS3.18 9), over a real archive."""

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pydicom
import pytest
from PIL import Image

from gateway.security.caller import Caller
from gateway.security.policy import Unauthenticated
from tests import samples
from tests.web.lit import CT, DOC, FRAMES, SR, Lit, instance, opened

EXPLICIT, RLE, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50"


@pytest.fixture(scope="module")
def lit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lit]:
    with opened(tmp_path_factory.mktemp("wado")) as door:
        yield door


def named(number: int) -> dict[str, str]:
    uids = (f"{samples.ROOT}.{number}", f"{samples.ROOT}.{number}.1", f"{samples.ROOT}.{number}.1.1")
    return {"requestType": "WADO", **dict(zip(("studyUID", "seriesUID", "objectUID"), uids, strict=True))}


def wado(lit: Lit, number: int, accept: str = "*/*", **more: str) -> httpx.Response:
    return lit.client.get(lit.root + "/wado", params=named(number) | more, headers={"accept": accept})


def picture(response: httpx.Response) -> Image.Image:
    assert response.status_code == 200, response.text
    return Image.open(io.BytesIO(response.content))


@pytest.mark.parametrize("missing", ["requestType", "studyUID", "seriesUID", "objectUID"])
def test_u_mandatory_parameters(lit: Lit, missing: str) -> None:
    for wrong in ({}, {missing: ""}, {missing: "x"}):
        params = {name: value for name, value in named(CT).items() if name != missing} | wrong
        assert lit.client.get(lit.root + "/wado", params=params).status_code == 400


def test_u_hier_uids_that_do_not_belong_together(lit: Lit) -> None:
    assert wado(lit, CT, seriesUID=f"{samples.ROOT}.{FRAMES}.1").status_code == 404
    assert wado(lit, CT, objectUID="1.2.3", contentType="application/dicom").status_code == 404


def test_u_default_is_jpeg(lit: Lit) -> None:
    response = wado(lit, CT)
    assert response.headers["content-type"] == "image/jpeg"
    assert picture(response).format == "JPEG"
    browser = "image/avif,image/webp;q=0.5,image/*;q=0.8,*/*;q=0.1"
    assert wado(lit, CT, browser).headers["content-type"] == "image/jpeg"


def test_u_ct_application_dicom_is_one_instance_alone(lit: Lit) -> None:
    response = wado(lit, CT, contentType="application/dicom")
    assert response.headers["content-type"] == f"application/dicom; transfer-syntax={EXPLICIT}"
    assert pydicom.dcmread(io.BytesIO(response.content)).SOPInstanceUID == named(CT)["objectUID"]
    query = "&".join(f"{name}={value}" for name, value in named(CT).items())
    encoded = lit.client.get(f"{lit.root}/wado?{query}&contentType=application%2Fdicom")
    assert encoded.content == response.content
    assert wado(lit, CT, "application/dicom").content == response.content


def test_u_ct_of_other_types(lit: Lit) -> None:
    assert picture(wado(lit, CT, contentType="image/png")).format == "PNG"
    assert wado(lit, CT, contentType="image/bmp").status_code == 406
    assert wado(lit, CT, contentType="image/png,application/dicom").status_code == 400
    assert wado(lit, DOC).headers["content-type"] == "application/pdf"


def test_u_ct_param_no_parameters_in_the_media_type(lit: Lit) -> None:
    for parameter in (f"transfer-syntax={EXPLICIT}", "charset=utf-8"):
        assert wado(lit, CT, contentType=f"application/dicom; {parameter}").status_code == 400


def test_u_ts_explicit_unless_another_is_asked_for(lit: Lit) -> None:
    plain = pydicom.dcmread(io.BytesIO(wado(lit, CT, contentType="application/dicom").content))
    packed = wado(lit, CT, contentType="application/dicom", transferSyntax=RLE)
    assert packed.headers["content-type"] == f"application/dicom; transfer-syntax={RLE}"
    read = pydicom.dcmread(io.BytesIO(packed.content))
    assert read.file_meta.TransferSyntaxUID == RLE
    assert np.array_equal(read.pixel_array, plain.pixel_array)
    assert wado(lit, CT, contentType="application/dicom", transferSyntax=JPEG).status_code == 406
    assert wado(lit, CT, contentType="application/dicom", transferSyntax="jpeg").status_code == 400


def test_u_anon_is_refused_clearly(lit: Lit) -> None:
    assert wado(lit, CT, anonymize="yes", contentType="application/dicom").status_code == 406
    assert wado(lit, CT, anonymize="maybe", contentType="application/dicom").status_code == 400


def test_u_frame_of_several(lit: Lit) -> None:
    first = wado(lit, FRAMES, frameNumber="1", windowCenter="120", windowWidth="240")
    assert int(np.asarray(picture(first))[0, 0]) < 20
    for wrong in ("0", "4", "-1", "x"):
        assert wado(lit, FRAMES, frameNumber=wrong).status_code == 400
    assert wado(lit, CT, frameNumber="1").status_code == 400


def test_u_rowscols_are_maxima_and_a_region_is_in_fractions(lit: Lit) -> None:
    assert picture(wado(lit, CT, rows="40", columns="80")).size == (40, 40)
    assert picture(wado(lit, CT, rows="8")).size == (8, 8)
    whole = np.asarray(picture(wado(lit, CT, contentType="image/png")))
    part = np.asarray(picture(wado(lit, CT, contentType="image/png", region="0,0,0.5,0.25")))
    assert np.array_equal(part, whole[:4, :8])
    for wrong in ("0.5,0,0.5,1", "0,0,2,1", "0,0,1", "a,b,c,d"):
        assert wado(lit, CT, region=wrong).status_code == 400
    assert wado(lit, CT, rows="0").status_code == 400


def test_u_window_both_or_none_and_not_for_dicom(lit: Lit) -> None:
    assert wado(lit, CT, windowCenter="40").status_code == 400
    assert wado(lit, CT, windowWidth="400").status_code == 400
    both = {"windowCenter": "40", "windowWidth": "400"}
    assert wado(lit, CT, **both).status_code == 200
    assert wado(lit, CT, contentType="application/dicom", **both).status_code == 400
    assert wado(lit, CT, imageQuality="0").status_code == 400


def test_u_ps_presentation_states_are_refused(lit: Lit) -> None:
    assert wado(lit, CT, presentationUID="1.2.3").status_code == 400
    assert wado(lit, CT, presentationUID="1.2.3", presentationSeriesUID="1.2.4").status_code == 400


def test_u_sr_is_html(lit: Lit) -> None:
    assert wado(lit, SR).headers["content-type"] == "text/html; charset=utf-8"
    assert wado(lit, SR, contentType="text/plain").headers["content-type"] == "text/plain; charset=utf-8"


def test_unknown_parameters_are_ignored_and_known_ones_come_once(lit: Lit) -> None:
    assert wado(lit, CT, _="1").status_code == 200
    query = "&".join(f"{name}={value}" for name, value in named(CT).items())
    assert lit.client.get(f"{lit.root}/wado?{query}&requestType=WADO").status_code == 400


def test_nobody_unknown_gets_pictures(tmp_path: Path) -> None:
    def nobody(_: str | None, __: str) -> Caller:
        raise Unauthenticated("who are you?", presented=False)

    with opened(tmp_path, nobody) as door:
        assert wado(door, CT).status_code == 401
        assert door.client.get(door.root + "/wado/").status_code == 401
        assert door.get(instance(CT) + "/rendered").status_code == 401
        assert door.get(instance(CT) + "/thumbnail").status_code == 401
