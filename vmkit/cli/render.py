"""Results to text or JSON on stdout, errors and hints on stderr. Nothing else in vmkit prints."""

import json
import sys
from collections.abc import Mapping, Sequence

from vmkit.cli.flags import Flags
from vmkit.errors import VmkitError
from vmkit.host.text import printable


def show_json(data: Mapping[str, object]) -> None:
    """Print one JSON object with the schema number."""
    sys.stdout.write(json.dumps({"schema": 1, **data}, indent=2) + "\n")


def show_text(*lines: str) -> None:
    """Print lines on stdout."""
    for line in lines:
        sys.stdout.write(line + "\n")


def say(text: str, flags: Flags) -> None:
    """Print a line for people on stderr, unless they asked for quiet."""
    if not flags.quiet:
        sys.stderr.write(printable(text) + "\n")


def warn_of_raw_terminal(*, raw_terminal: bool) -> None:
    """Say on stderr, however quiet, that the terminal filter is off, when it is."""
    if raw_terminal:
        sys.stderr.write("warning: the terminal filter is off: what the guest writes can command this terminal\n")


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns, as wide as their widest cell, the last one ragged."""
    table = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def show_pairs(pairs: Mapping[str, str]) -> None:
    """Print names and values in two columns."""
    width = max(len(name) for name in pairs)
    for name, value in pairs.items():
        sys.stdout.write(f"{name.ljust(width)}  {value}\n")


def show_error(error: VmkitError, flags: Flags) -> int:
    """Print what went wrong, the evidence and the next step on stderr; return the exit code."""
    if flags.debug:
        import traceback  # noqa: PLC0415

        traceback.print_exception(error)
    if flags.json:
        content = {
            "code": error.exit_code,
            "kind": error.kind,
            "message": error.message,
            "detail": error.detail,
            "hint": error.hint,
        }
        sys.stderr.write(json.dumps({"schema": 1, "error": content}) + "\n")
        return error.exit_code
    sys.stderr.write(f"error: {printable(error.message)}\n")
    for line in (error.detail or "").splitlines():
        sys.stderr.write(f"    {printable(line)}\n")
    if error.hint:
        sys.stderr.write(f"hint: {printable(error.hint)}\n")
    return error.exit_code
