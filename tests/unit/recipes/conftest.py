import shutil
from collections.abc import Iterator

import pytest

from tests.unit.recipes.here import HereGuest, make_guest


@pytest.fixture
def guest() -> Iterator[HereGuest]:
    if missing := [tool for tool in ("timeout", "sha256sum", "setpriv") if not shutil.which(tool)]:
        pytest.skip(f"a guest's own tools are missing here: {', '.join(missing)}")
    made = make_guest()
    yield made
    shutil.rmtree(made.root)
