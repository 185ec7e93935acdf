"""The flags that may stand anywhere on the line: --json, --quiet, --verbose, --debug, --yes, --no-input."""

from collections.abc import Sequence
from dataclasses import dataclass

_NAMES = {
    "--json": "json",
    "-q": "quiet",
    "--quiet": "quiet",
    "-v": "verbose",
    "--verbose": "verbose",
    "-vv": "very_verbose",
    "--debug": "debug",
    "--yes": "yes",
    "--no-input": "no_input",
}
# What follows the machine's name belongs to the guest's command, even without `--`.
_PASSING_ON = ("exec", "shell")


@dataclass(kw_only=True)
class Flags:
    """What the user asked of every command."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    very_verbose: bool = False
    debug: bool = False
    yes: bool = False
    no_input: bool = False


def split_flags(words: Sequence[str]) -> tuple[Flags, list[str]]:
    """Take the flags out of a command line. Those after `--`, or in a guest's command, are left where they are."""
    flags, rest = Flags(), list[str]()
    for position, word in enumerate(words):
        plain = [other for other in rest if not other.startswith("-")]
        if word == "--" or (len(plain) >= 2 and plain[0] in _PASSING_ON):
            if plain in ([verb] for verb in _PASSING_ON):
                rest.append("")  # no name before the command: the default machine
            rest += words[position:]
            break
        if word in _NAMES:
            setattr(flags, _NAMES[word], True)
        else:
            rest.append(word)
    return flags, rest
