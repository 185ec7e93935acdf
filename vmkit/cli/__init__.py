"""The command line: parse, call one workflow, render."""

import sys


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit with its code.

    `--version` alone is answered before anything is imported: 4 times `python -c pass`, not 10.
    """
    words = sys.argv[1:] if argv is None else argv
    if words == ["--version"]:
        from vmkit import __version__  # noqa: PLC0415

        sys.stdout.write(f"vmkit {__version__}\n")
        sys.exit(0)
    from vmkit.cli.run import run  # noqa: PLC0415

    sys.exit(run(words))
