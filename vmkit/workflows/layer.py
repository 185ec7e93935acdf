"""The second walls that a machine can have, by name: light, for the command line."""

from enum import StrEnum


class Layer(StrEnum):
    """A wall inside a machine; `none`: the machine's own only."""

    NONE = "none"
    SRT = "srt"
    CONTAINER = "container"
