"""What a resource path names: UIDs, frame numbers and bulk values, checked before anything is asked for."""

import re

from starlette.requests import Request

from gateway.security.caller import Caller
from gateway.web.errors import Refused
from storage.dicom.identity import Scope, is_uid
from storage.errors import Fault, Invalid

MAX_FRAMES_PER_REQUEST = 10_000
_BULK_PATH = re.compile(r"[0-9A-Fa-f]{8}(/[0-9]{1,9}/[0-9A-Fa-f]{8}){0,64}", re.ASCII)
_FRAMES = re.compile(r"0*[1-9][0-9]{0,8}(,0*[1-9][0-9]{0,8})*", re.ASCII)


def caller(request: Request) -> Caller:
    """Who asks, as the authentication found out."""
    found = request.scope["state"]["caller"]
    assert isinstance(found, Caller)
    return found


def study_uid(request: Request) -> str | None:
    """The Study Instance UID of the path, None when it has none; raises Invalid (BAD_UID)."""
    return _uid(request, "study", "Study Instance UID")


def series_uid(request: Request) -> str | None:
    """The Series Instance UID of the path, None when it has none; raises Invalid (BAD_UID)."""
    return _uid(request, "series", "Series Instance UID")


def scope(request: Request) -> Scope:
    """The study, series or instance of the path. Raises Invalid (BAD_UID) naming the UID that is none."""
    study = study_uid(request)
    assert study is not None, "every resource with a scope is below a study"
    return Scope(study, series_uid(request), _uid(request, "instance", "SOP Instance UID"))


def _uid(request: Request, name: str, what: str) -> str | None:
    """A UID as it stands in the path: padding, which a data set may have, has no place in a URL."""
    text: str | None = request.path_params.get(name)
    if text is not None and not is_uid(text):
        raise Invalid(Fault.BAD_UID, f"the {what} in the path is no UID: up to 64 characters, digits and single dots")
    return text


def frame_numbers(request: Request) -> list[int]:
    """The frames of the path, counted from 1, in the order asked (PS3.18 10.1.1)."""
    text = request.path_params["frames"]
    if _FRAMES.fullmatch(text) is None:
        raise Refused(400, "frames", "frames are numbers from 1, separated by commas")
    numbers = [int(number) for number in text.split(",")]
    if len(numbers) > MAX_FRAMES_PER_REQUEST:
        raise Refused(413, "frames", f"at most {MAX_FRAMES_PER_REQUEST} frames can be asked for at once")
    return numbers


def bulk_path(request: Request) -> str:
    """The path of a bulk value below its instance: TAG, or TAG/item/TAG."""
    path = str(request.path_params["path"])
    if _BULK_PATH.fullmatch(path) is None:
        raise Refused(404, "not-found", "a bulk value is named by its tag, or by tag/item/tag within sequences")
    return path.upper()
