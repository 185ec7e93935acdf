"""The table of `vmkit compare` as Markdown and as a picture."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from vmkit.network.layer_probes import Side
from vmkit.workflows.compare import Comparison

_HEADS = {Side.NONE: "no wall", Side.SRT: "srt", Side.CONTAINER: "container", Side.MACHINE: "machine"}
_WIDTHS = (150, 250, 150, 180, 180, 190)
_LINE = 22
_COLOURS = {True: "#b3261e", False: "#1b6e3c"}


def header() -> list[str]:
    """Return the names of the columns."""
    return ["dimension", "can a program …", *_HEADS.values()]


def lines(comparison: Comparison) -> list[list[str]]:
    """Return the rows as texts; a dimension is named once."""
    found, last = [], ""
    for row in comparison.rows:
        found.append(
            [row.dimension if row.dimension != last else "", row.text, *(cell.text for cell in row.cells.values())]
        )
        last = row.dimension
    return found


def markdown(comparison: Comparison) -> str:
    """Return the table in Markdown."""
    rows = [header(), ["---"] * (2 + len(_HEADS)), *lines(comparison)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows) + "\n"


def svg(comparison: Comparison) -> str:
    """Return the table as a picture: what a program can do is red, what it cannot is green."""
    width, height = sum(_WIDTHS) + 20, (len(comparison.rows) + 2) * _LINE
    size = f'width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">',
        f'<rect {size} fill="#ffffff"/>',
        *_svg_line(1, header(), bold=True, colours=["#000000"] * len(_WIDTHS)),
    ]
    for at, (row, texts) in enumerate(zip(comparison.rows, lines(comparison), strict=True)):
        asked = row.dimension not in ("isolation boundary", "friction")
        cells = [
            _COLOURS[cell.value] if isinstance(cell.value, bool) and asked else "#333333" for cell in row.cells.values()
        ]
        parts += _svg_line(at + 2, texts, colours=["#000000", "#000000", *cells])
    return "".join([*parts, "</svg>\n"])


def _svg_line(number: int, texts: Sequence[str], *, colours: Sequence[str], bold: bool = False) -> list[str]:
    found, x = [], 10
    weight = ' font-weight="bold"' if bold else ""
    for text, colour, width in zip(texts, colours, _WIDTHS, strict=True):
        fits = max(4, width // 7)
        shown = text if len(text) <= fits else text[: fits - 1] + "…"
        found.append(f'<text x="{x}" y="{number * _LINE}" fill="{colour}"{weight}>{escape(shown)}</text>')
        x += width
    return found
