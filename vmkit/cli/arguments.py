"""Arguments that several commands take."""

from typing import Annotated

import typer

from vmkit.workflows.layer import Layer

Name = Annotated[str | None, typer.Argument(help="Machine; default VMKIT_MACHINE, or the only one.")]
RawTerminal = Annotated[
    bool, typer.Option("--raw-terminal", help="Show what the guest writes as it is, without the terminal filter.")
]
LayerOption = Annotated[
    Layer | None,
    typer.Option("--layer", help="A second wall in the guest, around this program; its recipe is applied when needed."),
]
