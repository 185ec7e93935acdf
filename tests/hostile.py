"""Names and paths that would do something if anybody interpreted them."""

import random

PIECES = [
    "-", "--", "-e", "-l", "'", '"', "\\", "\n", "\r", "\t", "$(touch owned)", "`id`", ";", "|", "&", "\u00e9", "e\u0301",
    "\U0001f4a3", "\u202e", "\u2028", "end tell", 'do shell script "id"', "%s", "{{7*7}}", " ", "*", "~", "/", "..", "=",
    "virtual machine id", "\x1b[2J", "\x07", "\x7f", "\udcff", "<", ">", "«", "»", "{name:", "}", "return", "--hide",
]  # fmt: skip


def hostile_names(count: int = 300) -> list[str]:
    draw = random.Random(3)
    return [*PIECES, *("".join(draw.choices(PIECES, k=draw.randint(2, 8))) for _ in range(count - len(PIECES)))]
