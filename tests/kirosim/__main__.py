"""`python -m tests.kirosim mirror DIR …` builds a release mirror; `… serve` runs everything on loopback."""

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.kirosim.mirror import VERSION, Fault, build_mirror
from tests.kirosim.server import Server
from tests.kirosim.service import Authorization, Decision, Service

_WHAT = "kirosim: a stand-in for the Kiro service, for tests and demos; nothing here is real"


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run."""
    arguments = _parser().parse_args(argv)
    print(_WHAT, file=sys.stderr, flush=True)
    return _mirror(arguments) if arguments.command == "mirror" else _serve(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kirosim", description=_WHAT)
    commands = parser.add_subparsers(dest="command", required=True)
    mirror = commands.add_parser("mirror", help="build a release mirror in a folder, for a file:// address")
    mirror.add_argument("folder", type=Path)
    mirror.add_argument("--service", default="http://10.0.2.2:8628", help="the authorization service as guests see it")
    mirror.add_argument("--fault", type=Fault, choices=list(Fault))
    serve = commands.add_parser("serve", help="serve mirror, service and page on loopback until SIGTERM")
    serve.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    serve.add_argument("--mirror", type=Path, help="where to build the mirror (default: a temporary folder)")
    serve.add_argument("--guest-host", default="10.0.2.2", help="this computer's loopback as guests see it")
    serve.add_argument("--lifetime", type=float, default=600.0, help="seconds until a code expires")
    serve.add_argument("--interval", type=float, default=1.0, help="seconds between polls")
    serve.add_argument("--approve-after", type=float, help="approve every login by itself after so many seconds")
    for one in (mirror, serve):
        one.add_argument("--version", default=VERSION, help="the version that the release and the fake claim")
    return parser


def _mirror(arguments: argparse.Namespace) -> int:
    build_mirror(arguments.folder, service=arguments.service, version=arguments.version, fault=arguments.fault)
    address = arguments.folder.absolute().as_uri()
    print(json.dumps({"kirosim": _WHAT, "releases": address, "version": arguments.version}), flush=True)
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    parent, ended = os.getppid(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: ended.set())
    with contextlib.ExitStack() as stack:
        root = arguments.mirror or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kirosim-")))
        service = Service(lifetime_s=arguments.lifetime, interval_s=arguments.interval)
        server = stack.enter_context(Server(mirror=root, service=service, port=arguments.port))
        service.on_request = lambda made: _announce(made, server, arguments.approve_after)
        guest_service = f"http://{arguments.guest_host}:{server.port}"
        build_mirror(root, service=guest_service, version=arguments.version)
        about = {
            "kirosim": _WHAT,
            "version": arguments.version,
            "releases": server.releases,
            "service": server.address,
            "guest_service": guest_service,
            "page": f"{server.address}/device",
            "pid": os.getpid(),
        }
        print(json.dumps(about), flush=True)
        while not ended.wait(0.5):
            if os.getppid() != parent:  # whoever started us is gone
                break
    return 0


def _announce(made: Authorization, server: Server, approve_after_s: float | None) -> None:
    """Say where to approve: the URL that kiro-cli prints is the real service's, and nobody is waiting there."""
    where = f"{server.address}/device?user_code={made.user_code}"
    print(f"kirosim: a guest asks for a login with {made.provider}; approve it at {where}", file=sys.stderr, flush=True)
    if approve_after_s is not None:
        threading.Thread(target=_approve, args=(made, server, approve_after_s), daemon=True).start()


def _approve(made: Authorization, server: Server, after_s: float) -> None:
    time.sleep(after_s)
    if server.service.decide(made.user_code, Decision.APPROVED):
        print(f"kirosim: approved {made.user_code} by itself", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
