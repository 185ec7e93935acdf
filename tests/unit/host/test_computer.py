"""Bounds of a process, tried in children: a limit that was lowered cannot be raised again."""

import json
import subprocess
import sys

import pytest

ASK = """
import json, resource, sys
from vmkit.host.computer import raise_open_files
soft, hard, minimum = json.loads(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(json.dumps([raise_open_files(minimum), *resource.getrlimit(resource.RLIMIT_NOFILE)]))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "minimum", "after"),
    [(64, 512, 300, 300), (64, 256, 300, 256), (400, 512, 300, 400)],
    ids=["raised", "as far as it may", "enough already"],
)
def test_as_many_files_as_asked_for_may_be_open(soft: int, hard: int, minimum: int, after: int) -> None:
    asked = json.dumps([soft, hard, minimum])

    said = subprocess.run([sys.executable, "-c", ASK, asked], check=True, capture_output=True).stdout

    assert json.loads(said) == [after, after, hard]
