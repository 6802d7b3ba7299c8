"""The steps of the workers between which a process may die. Each calls a hook with the name; tests kill there."""

from collections.abc import Callable

STAGED = "staged"  # a pack is written to a local file
DOOMED = "doomed"  # its removal is announced, in case that it is never sealed
PUT = "put"  # its object is in the archive store
VERIFIED = "verified"  # it was read back, and is what was written
SEALED = "sealed"  # the index names it
SWEPT = "swept"  # doomed objects are deleted, and not yet forgotten
COMPACTED = "compacted"  # the index names a pack without what was removed
MERGED = "merged"  # the index names one pack instead of several
STEPS = (STAGED, DOOMED, PUT, VERIFIED, SEALED, SWEPT, COMPACTED, MERGED)

Hook = Callable[[str], None]


class Stopped(Exception):
    """The gateway stops: what was begun is given up, and left so that the next run can begin anew."""


def unwatched(step: str) -> None:
    """The hook that does nothing."""
