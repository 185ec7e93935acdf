"""`python -m tests.utmsim install DIR`: install the simulator and print the environment to run vmkit with."""

import argparse
import json
from pathlib import Path

from tests.utmsim import install


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.utmsim")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("install", help="make UTM.app and bin/osascript in a folder")
    command.add_argument("folder", type=Path)
    command.add_argument("--version", default="5.0.3")
    command.add_argument("--later-sdef", action="store_true", help="a dictionary whose `make` knows macOS")
    command.add_argument("--architecture", choices=("aarch64", "x86_64"), help="of the Mac (default: this computer's)")
    options = parser.parse_args()
    sim = install(options.folder, version=options.version, later=options.later_sdef, architecture=options.architecture)
    print(json.dumps(sim.environment))


if __name__ == "__main__":
    main()
