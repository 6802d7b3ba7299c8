"""The time as the index keeps it."""

import time

SECOND = 1_000_000


def microseconds() -> int:
    """Since 1970-01-01 UTC."""
    return time.time_ns() // 1000
