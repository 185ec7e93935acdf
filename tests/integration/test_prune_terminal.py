"""`vmkit image prune` on a terminal asks, and frees only after a yes."""

import os
import sys

import pytest

from tests.fullscreen import blocks, on_terminal
from tests.imagestore import Installation
from vmkit.host.files import own_directory


@pytest.mark.parametrize(("answer", "code", "stays"), [(b"y\n", 0, False), (b"n\n", 130, True), (b"\n", 130, True)])
def test_it_asks_and_takes_only_a_yes(tmp_path, answer, code, stays):
    world = Installation(own_directory(tmp_path / "home"))
    image = world.image("kiro:1")
    environment = {**os.environ, "VMKIT_HOME": str(world.home)}

    with on_terminal([sys.executable, "-m", "vmkit", "image", "prune"], env=environment) as (terminal, child):
        seen = b""
        for block in blocks(terminal):
            seen += block
            if answer and b"[y/N]" in seen:
                os.write(terminal, answer)
                answer = b""
        assert child.wait(30) == code

    assert b"kiro:1" in seen
    assert world.has_disk(image) is stays
