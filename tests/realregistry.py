"""Debian's `docker-registry` on loopback, and what its log says of blobs."""

import contextlib
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vmkit.host.process import Runner

REGISTRY = Runner().find("docker-registry")

CONFIG = """
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}", secret: test}}
"""


@dataclass
class RealRegistry:
    host: str
    log: Path

    def answered(self, pattern: str) -> list[str]:
        """Return what an access log line says in the group of `pattern`."""
        return re.findall(pattern, self.log.read_text())

    def uploads(self) -> list[str]:
        """Return the digests of the blobs that were sent to their end."""
        return self.answered(r'"PUT /v2/\S+/blobs/uploads/\S+digest=sha256%3A([0-9a-f]{64})\S* HTTP/1.1" 201')

    def downloads(self) -> list[str]:
        """Return the digests of the blobs that were asked for."""
        return self.answered(r'"GET /v2/\S+/blobs/sha256:([0-9a-f]{64}) HTTP/1.1" 20')


@contextlib.contextmanager
def real_registry(folder: Path) -> Iterator[RealRegistry]:
    """Run a registry that keeps everything in `folder`, until the end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    config, log = folder / "registry.yml", folder / "registry.log"
    config.write_text(CONFIG.format(root=folder / "registry", port=port))
    with log.open("wb") as file:
        child = subprocess.Popen(
            [str(REGISTRY), "serve", str(config)], stdout=file, stderr=file, stdin=subprocess.DEVNULL
        )
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield RealRegistry(host=f"127.0.0.1:{port}", log=log)
    finally:
        child.kill()
        child.wait()
