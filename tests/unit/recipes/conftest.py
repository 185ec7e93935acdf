import shutil
from collections.abc import Iterator

import pytest

from recipes.here import HereGuest, make_guest


@pytest.fixture
def guest() -> Iterator[HereGuest]:
    made = make_guest()
    yield made
    shutil.rmtree(made.root)
