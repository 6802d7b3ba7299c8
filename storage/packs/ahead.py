"""How far to read ahead in an object: whoever reads on finds ever more blocks fetched."""

import threading
from collections import OrderedDict
from typing import NamedTuple

_NEAR = 8  # blocks behind a run at which reading still goes on: several who read at once do not come in order
_MAX_CURSORS = 16  # in one object: so many may read it, each elsewhere
_MAX_REMEMBERED = 1024  # objects


class _Cursor(NamedTuple):
    after: int
    run: int


class ReadAhead:
    """Knows where objects were read last. Safe under threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cursors: OrderedDict[str, list[_Cursor]] = OrderedDict()

    def end(self, key: str, first: int, after: int, count: int, *, most: int) -> int:
        """Up to which of the `count` blocks to fetch, when those from `first` up to `after` are missing.

        Twice as far as the last time, or `most` blocks, when this goes on where that ended, or near there.
        """
        with self._lock:
            cursors = self._cursors.pop(key, [])
            near = (one for one in cursors if one.after <= first <= one.after + _NEAR)
            before = max(near, default=None)
            run = 1 if before is None else min(2 * before.run, most)
            end = min(max(after, first + run), count)
            others = [one for one in cursors if one is not before]
            self._cursors[key] = [_Cursor(end, run), *others][:_MAX_CURSORS]
            if len(self._cursors) > _MAX_REMEMBERED:
                self._cursors.popitem(last=False)
        return end
