"""All bulk values of a study, series or instance, one after another, as the metadata names them (PS3.18 10.4.3.3.5)."""

import re
from collections.abc import Generator, Sequence

from gateway.archive import AS_STORED, Archive, Part
from gateway.archive.parts import PIXEL_DATA
from gateway.security.caller import Caller
from gateway.web import accept
from gateway.web.accept import MediaRange
from gateway.web.delivery import released
from storage.dicom.identity import Scope
from storage.errors import NotAcceptable, NotFound

# A quotation mark inside a JSON string is escaped, so these bytes can only be a name and its value.
_RELATIVE = re.compile(rb'"BulkDataURI":"bulkdata/([0-9A-Fa-f/]+)"')


def parts(
    archive: Archive, scope: Scope, accepted: Sequence[MediaRange], *, by: Caller, only_pixels: bool = False
) -> Generator[Part, None, None]:
    """Each value in turn; with `only_pixels` the pixel data of the instances themselves, no icons.

    Raises NotFound when there is none, before the first is given; NotAcceptable for one that cannot be had as accepted.
    """
    syntaxes = accept.frame_syntaxes(accepted)
    if not syntaxes:
        raise NotAcceptable("none of the media types in Accept can carry bulk data")
    is_any = False
    datasets = archive.metadata(scope, by=by)
    with released(datasets):
        for identity, dataset in datasets:
            instance = Scope(identity.study_uid, identity.series_uid, identity.sop_uid)
            for path in map(bytes.decode, _RELATIVE.findall(dataset)):
                is_pixels = path in PIXEL_DATA
                if only_pixels and not is_pixels:
                    continue
                values = archive.bulk(instance, path, accept=syntaxes if is_pixels else (AS_STORED,), by=by)
                is_any = True
                with released(values):
                    yield from values
    if not is_any:
        raise NotFound("there is no such bulk data")
