"""The newest image of each line that was verified here: an older one, however well signed, is a replay."""

import json
from pathlib import Path

from vmkit.errors import Refused
from vmkit.host.files import Lock, own_directory, read_bounded, write_atomically
from vmkit.images.layout import parse_object
from vmkit.images.signing.statement import MAX_SEQUENCE

_MAX_BYTES = 1 << 20


class Marks:
    """The marks in a file. A file that cannot be read is never taken for an empty one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, line: str) -> int:
        """Return the line's mark; 0 when nothing of it was verified yet. Raises Refused for a damaged file."""
        return self._read().get(line, 0)

    def rise(self, line: str, sequence: int) -> int:
        """Raise the line's mark to `sequence`, unless it is higher; return what it was before.

        For the caller who has verified everything else: verify, then persist.
        """
        own_directory(self.path.parent)
        with Lock(self.path.with_suffix(".lock")).acquire("remembering an image", wait=True):
            marks = self._read()
            before = marks.get(line, 0)
            if sequence > before:
                content = {"schema": 1, "lines": dict(sorted({**marks, line: sequence}.items()))}
                write_atomically(self.path, json.dumps(content, indent=1).encode())
        return before

    def _read(self) -> dict[str, int]:
        try:
            value = parse_object(read_bounded(self.path, max_bytes=_MAX_BYTES), what=f'"{self.path}"')
        except FileNotFoundError:
            return {}
        lines = value.get("lines")
        if value.get("schema") != 1 or not isinstance(lines, dict):
            raise self._damaged()
        for mark in lines.values():
            if type(mark) is not int or not 0 <= mark <= MAX_SEQUENCE:
                raise self._damaged()
        return lines

    def _damaged(self) -> Refused:
        return Refused(
            f'"{self.path}" is not what vmkit wrote',
            hint="restore it; without it an old image can pass for the newest",
        )
