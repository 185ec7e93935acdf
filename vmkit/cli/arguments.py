"""Arguments that several commands take."""

from typing import Annotated

import typer

Name = Annotated[str | None, typer.Argument(help="Machine; default VMKIT_MACHINE, or the only one.")]
