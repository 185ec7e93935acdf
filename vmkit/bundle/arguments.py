"""UTM's rule for AdditionalArguments: a string is split at blanks outside of double quotes; nothing can be escaped."""

import re
from collections.abc import Iterable

from vmkit.errors import UsageError

_TOKEN = re.compile(r'(?:[^"\s]*"[^"]*"[^"\s]*)+|[^"\s]+')


def split_arguments(strings: Iterable[str]) -> list[str]:
    """Return the arguments in AdditionalArguments. A token that is quoted as a whole loses its quotes."""
    tokens = [match[0] for string in strings for match in _TOKEN.finditer(string)]
    return [token[1:-1] if len(token) > 1 and token[0] == token[-1] == '"' else token for token in tokens]


def quote_argument(text: str) -> str:
    """Return the string that `split_arguments` turns back into `text`. Raises UsageError: a quote cannot be written."""
    if '"' in text:
        raise UsageError("a QEMU argument holds a double quote, which UTM's config.plist cannot express", detail=text)
    return f'"{text}"' if not text or re.search(r"\s", text) else text
