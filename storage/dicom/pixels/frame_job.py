"""Work on one frame as a job for another process: the codecs are loaded where it is done, not where it is given."""

from storage.dicom.pixels.description import PixelDescription


def transcoded(data: bytes, source: str, target: str, description: PixelDescription) -> tuple[bytes, PixelDescription]:
    """A frame in another transfer syntax and what describes it then; raises Invalid as `transcode` does."""
    from storage.dicom.pixels.transcode import transcode  # here: see above

    result = transcode(data, source, target, description)
    return result.data, result.description
