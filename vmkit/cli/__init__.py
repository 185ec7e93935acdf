"""The command line: parse, call one workflow, render."""


def main() -> None:
    """Run the command line."""
