"""The levels of the Query/Retrieve information model."""

from enum import IntEnum


class Level(IntEnum):
    """The levels used here (PS3.4 C.6.2, with the patient's attributes at study level); lower is larger."""

    STUDY = 1
    SERIES = 2
    INSTANCE = 3
