"""Arguments that several commands take."""

from typing import Annotated

import typer

Name = Annotated[str | None, typer.Argument(help="Machine; default VMKIT_MACHINE, or the only one.")]
RawTerminal = Annotated[
    bool, typer.Option("--raw-terminal", help="Show what the guest writes as it is, without the terminal filter.")
]
