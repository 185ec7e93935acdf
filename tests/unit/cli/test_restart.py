"""`vmkit restart` stops nothing that it could not start again."""

import subprocess
from pathlib import Path

from tests.cliclient import command_line, environment
from tests.unit.workflows.test_life import PORT, made
from vmkit.host.paths import Paths
from vmkit.machines.store import MachineStore
from vmkit.testing.bundle import idle_config, write_config


def test_a_machine_that_others_could_connect_to_is_not_stopped_first(tmp_path: Path) -> None:
    machine = made(MachineStore(Paths(config=tmp_path, data=tmp_path, cache=tmp_path / "cache")))
    config = idle_config(port=PORT)
    config["Network"][0]["PortForward"][0]["HostAddress"] = "0.0.0.0"
    write_config(machine.vm(machine.folder), config)

    done = subprocess.run(
        command_line("restart", "a"), check=False, env=environment(tmp_path), capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 6
    assert "lets other computers connect" in done.stderr
    assert "stopped" not in done.stderr
