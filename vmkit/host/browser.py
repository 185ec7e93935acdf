"""Open a page in this computer's browser, which a user has asked for."""

from vmkit.errors import HostLacks
from vmkit.host.computer import is_macos
from vmkit.host.process import Runner


def open_in_browser(url: str, *, runner: Runner) -> None:
    """Hand `url`, which we made, to the desktop as an argument. Raises HostLacks where there is no desktop."""
    program = runner.find("open" if is_macos() else "xdg-open")
    if program is None:
        raise HostLacks("this computer has no program that opens a browser", hint="open the URL by hand")
    runner.run([str(program), url], timeout_s=20)
