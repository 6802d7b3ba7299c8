"""What an error of the operating system means for an object store: one table."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from storage.errors import Exhausted, Fault, Invalid, NotFound, Unavailable

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LIMITS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EMLINK}
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}
# A hard link cannot be made from where the source lies: it is copied instead.
NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP}


@contextmanager
def translated(verb: str) -> Iterator[None]:
    """Turn OSError into Exhausted, Invalid, NotFound (when reading) or Unavailable; `verb` is open, read, write."""
    try:
        yield
    except OSError as error:
        why = f"the object store cannot be used to {verb}: {error.strerror}"
        if error.errno in _NO_ROOM or error.errno in _LIMITS:
            raise Exhausted(why) from error
        if error.errno == errno.ENAMETOOLONG:
            raise Invalid(Fault.BAD_UID, "a part of the object key is too long for the file system") from error
        if verb == "read" and error.errno in _NOT_THERE:
            raise NotFound("there is no such object") from error
        raise Unavailable(why) from error
