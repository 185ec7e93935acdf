"""Draw the pictures of docs/how-to/kiro-login.md from what `vmkit login` shows. Usage: python -m docs.images.generate.

The program is the real one, on a terminal; the guest is an sshd of this computer with the simulated Kiro CLI in it.
"""

import io
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.cliclient import command_line, environment, place_machine
from tests.fullscreen import Emulator, blocks, on_terminal
from tests.kirosim.cli import Cli
from tests.kirosim.server import Server
from tests.kirosim.service import Decision, Service
from tests.sshd import running_sshd
from vmkit.host.paths import Paths
from vmkit.machines.store import MachineStore

FOLDER = Path(__file__).parent
NAME, CODE = "kiro-vm", "ABCD-EFGH"
COLUMNS, ROWS = 88, 24

_FREE = ("login", NAME)
_PRO = ("--license", "pro", "--identity-provider", "https://d-1234567890.awsapps.com/start", "--region", "eu-west-1")
_HIDING = """#!/bin/sh
[ "$1" = login ] || exec "$0.real" "$@"
"$0.real" "$@" | grep --line-buffered -v "Open this URL"
"""
_COUNTDOWN = re.compile(r"\d+:\d\d left")
_FONT_FACE = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)  # they would be fetched from another site


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A login to show: the command line, and how this guest's Kiro behaves."""

    words: tuple[str, ...] = _FREE
    hides_url: bool = False
    opener: bool = False
    logged_in: bool = False


PICTURES = {
    "login-url-and-code": Picture(),
    "login-code-only": Picture(hides_url=True),
    "login-opener": Picture(opener=True),
    "login-organisation": Picture(words=(*_FREE, *_PRO)),
    "login-social": Picture(words=(*_FREE, "--social", "google")),
    "login-already": Picture(logged_in=True),
}


def draw(picture: Picture) -> str:
    """Return the picture as SVG."""
    return _svg(picture.words, _shown(picture))


def _shown(picture: Picture) -> list[str]:
    with _guest(picture) as (home, service):
        if picture.logged_in:
            _run(_FREE, home, service)
        emulator = _run(picture.words, home, service)
    lines = [_COUNTDOWN.sub("14:52 left", line.rstrip()) for line in emulator.screen.display]
    return "\n".join(lines).rstrip().split("\n")


def _run(words: tuple[str, ...], home: Path, service: Service) -> Emulator:
    emulator = Emulator(columns=COLUMNS, rows=ROWS)
    with on_terminal(command_line(*words), env=environment(home), columns=COLUMNS, rows=ROWS) as (terminal, _):
        for output in blocks(terminal):
            emulator.feed(output)
            if " left" in emulator.text:
                for asked in service.pending():
                    service.decide(asked, Decision.APPROVED)
    return emulator


@contextmanager
def _guest(picture: Picture) -> Iterator[tuple[Path, Service]]:
    service = Service(interval_s=0.15, new_code=lambda: CODE)
    with tempfile.TemporaryDirectory() as folder, Server(service=service) as server:
        home = Path(folder)
        cli = Cli(home / "guest", service=server.address)
        kiro = cli.bin / "kiro-cli"
        if picture.hides_url:
            kiro.rename(f"{kiro}.real")
            kiro.write_text(_HIDING)
            kiro.chmod(0o755)
        if picture.opener:
            (cli.bin / "xdg-open").write_text("#!/bin/sh\nexit 0\n")
            (cli.bin / "xdg-open").chmod(0o755)
        with running_sshd(home, extra=f"SetEnv HOME={cli.home}\n") as sshd:
            place_machine(MachineStore(Paths(config=home, data=home, cache=home / "cache")), sshd, name=NAME)
            yield home, service


def _svg(words: tuple[str, ...], lines: list[str]) -> str:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(Text(f"$ vmkit {' '.join(words)}", overflow="fold", style="bold"))
    for line in lines:
        console.print(Text(line, overflow="crop", no_wrap=True))
    drawn = console.export_svg(title="vmkit login", unique_id="vmkit")
    return _FONT_FACE.sub("", drawn)


if __name__ == "__main__":
    for name, picture in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(draw(picture))
